"""What every channel gate shares: a convolution and its batch norm behind a per-channel weight.

A method (one file each) says how salient the channels are for this input and which of them stay;
everything else, including the form that is exported, is here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import UsageError, suggest
from headgate.train.gates.layer import GatedLayer, Norm, folded, norm_behind, norm_factors
from headgate.train.gates.operators import apply_gate, gated_conv2d

Variant = Literal["official", "paper"]
VARIANTS = ("official", "paper")

# A channel whose batch norm had the factor 0 still carries its constant; a gate of exactly zero
# would drop that and could never learn to open.
SMALLEST_LEVEL = 1e-3


class GatedConv2d(GatedLayer):
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

    norm: nn.BatchNorm2d

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: Norm,
        name: str,
        density: float,
        variant: Variant = "official",
    ) -> None:
        if variant not in VARIANTS:
            raise UsageError(f"unknown variant {variant!r}.{suggest(str(variant), VARIANTS)}")
        super().__init__(conv, norm, name)
        self.variant = variant

        weight = conv.weight.detach()
        gamma, beta = norm_factors(norm, weight)
        sign = torch.where(gamma < 0, -1.0, 1.0).to(weight.dtype)
        self.weight = nn.Parameter(weight * sign[:, None, None, None])
        self.shift = nn.Parameter(beta / norm_level(norm, weight) if variant == "paper" else beta)
        self.norm = norm_behind(conv, norm)
        assert self.norm.running_mean is not None
        self.norm.running_mean *= sign
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
        super().set_density(density)
        self.active = math.ceil(self.channels * density - 1e-9)  # 100 * 0.07 is 7.000000000000001

    def penalty(self) -> Tensor:
        """Sum over the channels that stayed of the batch mean of |g| (FBS, section 3.4)."""
        assert self.last_gate is not None
        return self.last_gate.abs().sum(1).mean()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H_out, W_out), skipped channels exactly zero.

        Raises:
            TrainingError: in training on the CPU, a saliency that is no longer finite. Elsewhere
                asking after every layer would stall the device; call :func:`check_finite`.
        """
        saliency = self._precise_saliency(x)
        gate = self.select(saliency)
        if not torch.compiler.is_exporting():
            self.record(gate, saliency)
        if self.training:
            return self._forward_training(x, gate)
        scale, bias = folded(self.norm)
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

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, density={self.density:g}, variant={self.variant}"


def norm_level(norm: Norm, like: Tensor) -> Tensor:
    """|gamma| (C,) of a batch norm, at least 0.001: the level at which a gate starts."""
    return norm_factors(norm, like)[0].abs().clamp_min(SMALLEST_LEVEL)
