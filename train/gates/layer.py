"""What every gated layer shares, whatever it skips: whole channels or single pixels of them.

A gated layer stands in the place of a convolution and the batch norm behind it. It records what
its gate decided in the last forward, and is found in a network by :func:`gates`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError, UsageError
from headgate.train.procedure import Procedure

Norm = nn.BatchNorm2d | nn.SyncBatchNorm


class GatedLayer(nn.Module, ABC):
    """A convolution with its batch norm and a gate, in one module.

    Args:
        conv: the convolution to replace.
        norm: the batch norm behind it, with running statistics.
        name: module path, for messages.

    Raises:
        ModelError: no running statistics, a padding that is not symmetric.
    """

    procedure: ClassVar[type[Procedure] | None] = None
    """How the method trains beside the gradient steps; None: densities lowered in stages."""

    takes_density: ClassVar[bool] = True
    """Whether a density says how much is computed; without one the method has a way of its own."""

    remedy: ClassVar[str] = "lower the learning rate, or clip the gradient"
    """What to try when a gate is no longer finite."""

    last_gate: Tensor | None
    """The last forward's gate, (N, C) or (N, C, H, W): zero where nothing was computed."""

    last_finite: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: Norm, name: str) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ModelError(f"the batch norm behind {name!r} has no running statistics to fold")
        self.name = name
        self.stride = list(conv.stride)
        self.padding = symmetric_padding(conv)
        self.dilation = list(conv.dilation)
        self.groups = conv.groups
        self.in_channels, self.channels = conv.in_channels, conv.out_channels
        self.density = 1.0
        self.last_gate = None
        self.last_finite = None

    @classmethod
    def obstacle(cls, conv: nn.Conv2d, options: dict[str, Any]) -> str | None:
        """Why the method with these options cannot gate ``conv``; None if it can."""
        return None

    @abstractmethod
    def penalty(self) -> Tensor:
        """The method's regulariser after a forward: a scalar to be weighted and added."""

    def set_density(self, density: float) -> None:
        """Let this share of the channels stay from now on.

        Raises:
            UsageError: a density outside (0, 1], or below 1 where the method takes none.
        """
        if not 0 < density <= 1:
            raise UsageError(f"density {density!r} is outside (0, 1]; 1 computes every channel")
        if density < 1 and not self.takes_density:
            raise UsageError(
                f"density {density:g}: layer {self.name!r} is gated by {type(self).__name__}, "
                "which takes none; leave it out"
            )
        self.density = density

    def record(self, gate: Tensor, decided_on: Tensor) -> None:
        """Keeps what a forward decided, and whether the numbers it decided on were finite.

        Raises:
            TrainingError: in training on the CPU, if they were not. Elsewhere asking after every
                layer would stall the device; call :func:`check_finite`.
        """
        self.last_gate = gate
        # Asked of the numbers behind the gate: a comparison with NaN is false and would hide it.
        self.last_finite = torch.isfinite(decided_on.detach()).all()
        if self.training and gate.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Raise if the last forward's gate was not finite.

        Raises:
            TrainingError: names the layer and what to try.
        """
        if self.last_finite is not None and not bool(self.last_finite):
            raise TrainingError(
                f"the gate of layer {self.name!r} is no longer finite; {self.remedy}"
            )

    def extra_repr(self) -> str:
        kernel: Any = self.weight
        return (
            f"{self.in_channels}, {self.channels}, kernel_size={tuple(kernel.shape[2:])}, "
            f"stride={tuple(self.stride)}, padding={tuple(self.padding)}, groups={self.groups}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # The record of the last forward belongs to its autograd graph, which cannot be copied.
        return {**self.__dict__, "last_gate": None, "last_finite": None}


def norm_factors(norm: Norm, like: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of gamma and beta (C,) of a batch norm, 1 and 0 where it has none."""
    if not norm.affine:
        return like.new_ones(norm.num_features), like.new_zeros(norm.num_features)
    return norm.weight.detach().to(like, copy=True), norm.bias.detach().to(like, copy=True)


def norm_behind(conv: nn.Conv2d, norm: Norm, affine: bool = False) -> nn.BatchNorm2d:
    """A batch norm that goes on with the statistics of ``norm``, and with its factors if affine.

    The bias of ``conv``, which batch norm removes, moves into the running mean.
    """
    assert norm.running_mean is not None
    made = nn.BatchNorm2d(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=affine,
        device=conv.weight.device,
        dtype=norm.running_mean.dtype,
    )
    known = made.state_dict()
    # Not strict: a norm without factors has none to give.
    made.load_state_dict({k: v for k, v in norm.state_dict().items() if k in known}, strict=False)
    assert made.running_mean is not None
    if conv.bias is not None:
        made.running_mean -= conv.bias.detach()
    return made


def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and bias (C,) of a batch norm in evaluation: norm(v) = v * scale + bias."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    scale = torch.rsqrt(var + norm.eps)
    if not norm.affine:
        return scale, -mean * scale
    scale = scale * norm.weight
    return scale, norm.bias - mean * scale


def symmetric_padding(conv: nn.Conv2d) -> list[int]:
    """Zero padding of ``conv`` in pixels as [vertical, horizontal], the same on both sides.

    Raises:
        ModelError: "same" padding that is not the same on both sides.
    """
    if conv.padding == "valid":
        return [0, 0]
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(t % 2 for t in total):
            raise ModelError(f'padding "same" of a kernel of {conv.kernel_size} is not symmetric')
        return [t // 2 for t in total]
    return [int(p) for p in conv.padding]


def gates(module: nn.Module) -> dict[str, GatedLayer]:
    """The gated layers of ``module`` by module path, in order of registration."""
    return {path: m for path, m in iterate_gates(module)}


def iterate_gates(module: nn.Module) -> Iterator[tuple[str, GatedLayer]]:
    """(module path, layer) of every gated layer."""
    for path, part in module.named_modules():
        if isinstance(part, GatedLayer):
            yield path, part
