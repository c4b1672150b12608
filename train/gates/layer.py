"""The base of gated layers, whatever they skip: whole channels or single pixels of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError, UsageError
from headgate.train.procedure import Procedure

Conv = nn.Conv1d | nn.Conv2d


class ConvolutionLayer(nn.Module):
    """The geometry of a convolution that was replaced, as of a two-dimensional one.

    A one-dimensional convolution is computed as one over images of height one; its weight keeps
    its own shape, (C, C_in / groups, taps). ``name`` is the module path, for messages.

    Raises:
        ModelError: a padding that is not symmetric.
    """

    weight: nn.Parameter

    def __init__(self, conv: Conv, name: str) -> None:
        super().__init__()
        self.training = conv.training
        self.name = name
        self.flat = isinstance(conv, nn.Conv1d)
        row = self.flat * 1
        self.stride = [1] * row + list(conv.stride)
        self.padding = [0] * row + symmetric_padding(conv)
        self.dilation = [1] * row + list(conv.dilation)
        self.groups = conv.groups
        self.in_channels, self.channels = conv.in_channels, conv.out_channels

    @property
    def kernel(self) -> Tensor:
        """The weight as (C, C_in / groups, height, width)."""
        return self.weight.unsqueeze(2) if self.flat else self.weight

    def wide(self, x: Tensor) -> Tensor:
        """The layer's input as (N, C_in, H, W)."""
        return x.unsqueeze(2) if self.flat else x

    def narrow(self, y: Tensor) -> Tensor:
        """A result computed from :meth:`wide`, with as many dimensions as the layer's input."""
        return y.squeeze(2) if self.flat else y

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.channels}, kernel_size={tuple(self.weight.shape[2:])}, "
            f"stride={tuple(self.stride)}, padding={tuple(self.padding)}, groups={self.groups}"
        )


class GatedLayer(ConvolutionLayer, ABC):
    """A convolution with what normalises it and a gate, in one module."""

    procedure: ClassVar[type[Procedure] | None] = None
    """How the method trains beside the gradient steps; None: densities lowered in stages."""

    takes_density: ClassVar[bool] = True
    """Whether a density says how much is computed; without one the method has a way of its own."""

    remedy: ClassVar[str] = "lower the learning rate, or clip the gradient"
    """What to try when a gate is no longer finite."""

    last_gate: Tensor | None
    """The last forward's gate, (N, C) or (N, C, H, W): zero where nothing was computed."""

    last_finite: Tensor | None

    def __init__(self, conv: Conv, name: str) -> None:
        super().__init__(conv, name)
        self.density = 1.0
        self.last_gate = None
        self.last_finite = None

    @classmethod
    def obstacle(cls, conv: Conv, norm: nn.Module | None, options: dict[str, Any]) -> str | None:
        """Why the method cannot gate ``conv`` with ``norm`` behind it; None if it can."""
        return None

    @abstractmethod
    def penalty(self) -> Tensor:
        """The method's regulariser after a forward: a scalar to be weighted and added."""

    def set_density(self, density: float) -> None:
        """Make this share of the channels active from now on.

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
        """Raises a TrainingError if the last forward's gate was not finite."""
        if self.last_finite is not None and not bool(self.last_finite):
            raise TrainingError(
                f"the gate of layer {self.name!r} is no longer finite; {self.remedy}"
            )

    def __getstate__(self) -> dict[str, Any]:
        # The record of the last forward belongs to its autograd graph, which cannot be copied.
        return {**self.__dict__, "last_gate": None, "last_finite": None}


def symmetric_padding(conv: Conv) -> list[int]:
    """Zero padding of ``conv`` in pixels for each dimension; a ModelError if its sides differ."""
    if conv.padding == "valid":
        return [0] * len(conv.kernel_size)
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(t % 2 for t in total):
            raise ModelError(f'padding "same" of a kernel of {conv.kernel_size} is not symmetric')
        return [t // 2 for t in total]
    return [int(p) for p in conv.padding]


def gates(module: nn.Module) -> dict[str, GatedLayer]:
    """The gated layers of ``module`` by module path, in order of registration."""
    return {path: part for path, part in module.named_modules() if isinstance(part, GatedLayer)}
