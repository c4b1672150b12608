"""What every channel gate shares: a convolution and its batch norm behind a per-channel weight.

A method (one file each) says how salient the channels are for this input and which of them stay;
everything else, including the form that is exported, is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError, UsageError, suggest
from headgate.train.gates.operators import apply_gate, gated_conv2d
from headgate.train.procedure import Procedure

Variant = Literal["official", "paper"]
VARIANTS = ("official", "paper")
Norm = nn.BatchNorm2d | nn.SyncBatchNorm

# A channel whose batch norm had the factor 0 still carries its constant; a gate of exactly zero
# would drop that and could never learn to open.
SMALLEST_LEVEL = 1e-3


def active_channels(channels: int, density: float) -> int:
    """ceil(channels * density), the number of channels that stay.

    Raises:
        UsageError: a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise UsageError(f"density {density!r} is outside (0, 1]; 1 computes every channel")
    return math.ceil(channels * density - 1e-9)  # 100 * 0.07 is 7.000000000000001


class GatedConv2d(nn.Module, ABC):
    """Convolution, batch norm without factor and shift, and a gate, in one module.

    ::

        u = norm(conv(x))                          statistics of all channels, skipped ones too
        g = select(saliency(x))                    (N, C), zero means skipped
        y = g * u + shift   where g != 0, else 0   variant "official"
        y = g * (u + shift) where g != 0, else 0   variant "paper"

    The gate takes the place of batch norm's factor gamma. A pretrained gamma is kept as the level
    |gamma| at which a method starts its gate; its sign moves into the convolution, whose bias
    (batch norm removes it) moves into the running mean. The pretrained beta becomes ``shift``
    (beta / |gamma| in the paper's variant). With g = |gamma| the module equals the pair it
    replaces.

    Args:
        conv: the convolution to replace; its weight is copied.
        norm: the batch norm behind it, with running statistics.
        name: module path, for messages.
        density: the fraction of channels that stay, in (0, 1].
        variant: where the shift is added, see above.

    Raises:
        UsageError: an unknown variant or a density outside (0, 1].
    """

    procedure: ClassVar[type[Procedure] | None] = None
    """How the method trains beside the gradient steps; None: densities lowered in stages."""

    last_gate: Tensor | None
    last_finite: Tensor | None
    norm: nn.BatchNorm2d

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: Norm,
        name: str,
        density: float,
        variant: Variant = "official",
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UsageError(f"unknown variant {variant!r}.{suggest(str(variant), VARIANTS)}")
        if norm.running_mean is None or norm.running_var is None:
            raise ModelError(f"the batch norm behind {name!r} has no running statistics to fold")
        self.name = name
        self.variant = variant
        self.stride = list(conv.stride)
        self.padding = symmetric_padding(conv)
        self.dilation = list(conv.dilation)
        self.groups = conv.groups
        self.in_channels, self.channels = conv.in_channels, conv.out_channels

        weight = conv.weight.detach()
        gamma, beta = norm_factors(norm, weight)
        sign = torch.where(gamma < 0, -1.0, 1.0).to(weight.dtype)
        self.weight = nn.Parameter(weight * sign[:, None, None, None])
        self.shift = nn.Parameter(beta / norm_level(norm, weight) if variant == "paper" else beta)
        self.norm = nn.BatchNorm2d(
            self.channels,
            eps=norm.eps,
            momentum=norm.momentum,
            affine=False,
            device=weight.device,
            dtype=norm.running_mean.dtype,
        )
        bias = torch.zeros_like(gamma) if conv.bias is None else conv.bias.detach()
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None
        mean.copy_(sign * (norm.running_mean - bias))
        var.copy_(norm.running_var)
        if self.norm.num_batches_tracked is not None and norm.num_batches_tracked is not None:
            self.norm.num_batches_tracked.copy_(norm.num_batches_tracked)
        self.last_gate = None
        self.last_finite = None
        self.set_density(density)
        self.train(conv.training)

    @abstractmethod
    def saliency(self, x: Tensor) -> Tensor:
        """How much each output channel matters for input x (N, C_in, H, W): (N, C)."""

    @abstractmethod
    def select(self, saliency: Tensor) -> Tensor:
        """Saliency (N, C) with zeros for the channels to skip."""

    def set_density(self, density: float) -> None:
        """Let ``ceil(C * density)`` channels stay from now on.

        Raises:
            UsageError: a density outside (0, 1].
        """
        self.active = active_channels(self.channels, density)
        self.density = density

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H_out, W_out), skipped channels exactly zero.

        Raises:
            TrainingError: in training on the CPU, a saliency that is no longer finite. Elsewhere
                asking after every layer would stall the device; call :func:`check_finite`.
        """
        saliency = self._precise_saliency(x)
        gate = self.select(saliency)
        if not torch.compiler.is_exporting():
            self.last_gate = gate
            # Asked of the saliency: a comparison with NaN is false, so the gate would hide it.
            self.last_finite = torch.isfinite(saliency.detach()).all()
            if self.training and x.device.type == "cpu":
                self.check_finite()
        if self.training:
            return self._forward_training(x, gate)
        scale, bias = self.folded_norm()
        shift: Tensor = self.shift
        if self.variant == "paper":
            bias, shift = bias + shift, torch.zeros_like(shift)
        return gated_conv2d(
            x,
            self.weight,
            scale,
            bias,
            gate,
            shift,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def _precise_saliency(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self.saliency(x)
        # Half precision makes saliencies equal, and equal ones are all dropped by a strict top k.
        with torch.autocast(device, enabled=False):
            return self.saliency(x.to(self.weight.dtype))

    def _forward_training(self, x: Tensor, gate: Tensor) -> Tensor:
        u = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        u = self.norm(u)
        if self.variant == "paper":
            y = apply_gate(u + self.shift[:, None, None], gate, torch.zeros_like(self.shift))
        else:
            y = apply_gate(u, gate, self.shift)
        return y.to(u.dtype)

    def folded_norm(self) -> tuple[Tensor, Tensor]:
        """Scale and bias (C,) of the batch norm in evaluation: norm(v) = v * scale + bias."""
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None
        scale = torch.rsqrt(var + self.norm.eps)
        return scale, -mean * scale

    def check_finite(self) -> None:
        """Raise if the last saliency was not finite.

        Raises:
            TrainingError: names the layer and what to try.
        """
        if self.last_finite is not None and not bool(self.last_finite):
            raise TrainingError(
                f"the gate of layer {self.name!r} is no longer finite; lower the learning rate, "
                "clip the gradient, or gate with normalise=True"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.channels}, kernel_size={tuple(self.weight.shape[2:])}, "
            f"stride={tuple(self.stride)}, padding={tuple(self.padding)}, groups={self.groups}, "
            f"density={self.density:g}, variant={self.variant}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # The record of the last forward belongs to its autograd graph, which cannot be copied.
        return {**self.__dict__, "last_gate": None, "last_finite": None}


def norm_factors(norm: Norm, like: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of gamma and beta (C,) of a batch norm, 1 and 0 where it has none."""
    if not norm.affine:
        return like.new_ones(norm.num_features), like.new_zeros(norm.num_features)
    return norm.weight.detach().to(like, copy=True), norm.bias.detach().to(like, copy=True)


def norm_level(norm: Norm, like: Tensor) -> Tensor:
    """|gamma| (C,) of a batch norm, at least 0.001: the level at which a gate starts."""
    return norm_factors(norm, like)[0].abs().clamp_min(SMALLEST_LEVEL)


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


def gates(module: nn.Module) -> dict[str, GatedConv2d]:
    """The gated layers of ``module`` by module path, in order of registration."""
    return {path: m for path, m in iterate_gates(module)}


def iterate_gates(module: nn.Module) -> Iterator[tuple[str, GatedConv2d]]:
    """(module path, layer) of every gated layer."""
    for path, part in module.named_modules():
        if isinstance(part, GatedConv2d):
            yield path, part
