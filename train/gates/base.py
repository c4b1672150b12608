"""The base of channel gates: all but how salient channels are, and which of them are active."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import UsageError, suggest
from headgate.train.gates.following import Handover
from headgate.train.gates.layer import Conv, GatedLayer
from headgate.train.gates.norms import BatchNorm, Norm, folded, norm_behind
from headgate.train.gates.operators import following_conv2d, gated_conv2d

Variant = Literal["official", "paper"]
VARIANTS = ("official", "paper")

# A channel whose norm had the factor 0 still carries its constant; a gate of exactly zero would
# drop that and could never become active.
SMALLEST_LEVEL = 1e-3


class GatedConv2d(GatedLayer):
    """Convolution, norm without factor and shift, and a gate, in one module.

    ::

        u = norm(conv(x))                          statistics of all channels, skipped ones too
        g = select(saliency(x))                    (N, C), zero means skipped
        y = g * u + shift   where g != 0, else 0   variant "official"
        y = g * (u + shift) where g != 0, else 0   variant "paper"

    The gate takes the place of the norm's factor gamma. A pretrained |gamma| is the level at which
    a method starts its gate; its sign moves into the convolution, whose bias moves into the running
    mean. The pretrained beta becomes ``shift`` (beta / |gamma| in the paper's variant). With
    g = |gamma| the module equals the pair it replaces. A level is at least 0.001; where |gamma| is
    below, u is damped by their ratio.

    A convolution without a norm has its bias as ``shift`` and the L2 norm of each filter, which
    its weight is divided by, as level. Behind an instance norm u is the norm of each channel of
    each image, in training and in evaluation.

    Raises:
        UsageError: an unknown variant or a density outside (0, 1].
    """

    damping: Tensor
    """(C,): what is left of u, 1 but where the norm's factor was below the least level."""

    places: Tensor | None
    """int64 (C,): under a frozen mask each channel's place in the order they open; else None."""

    opened: Tensor | None
    """(C,): under a frozen mask 1 where ``places`` is among the active ones, else 0."""

    straight_through = False
    """Whether closed channels learn in training. They are then all but zero, instead of zero."""

    def __init__(
        self,
        conv: Conv,
        norm: Norm | None,
        name: str,
        density: float,
        variant: Variant = "official",
    ) -> None:
        if variant not in VARIANTS:
            raise UsageError(f"unknown variant {variant!r}.{suggest(str(variant), VARIANTS)}")
        super().__init__(conv, name)
        self.variant = variant
        self.handover = Handover()

        level = start_level(conv, norm)
        gamma, beta = _factors(conv, norm)
        sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
        factor = sign if norm is not None else 1 / level
        weight = conv.weight.detach()
        self.weight = nn.Parameter(weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        self.shift = nn.Parameter(beta / level if variant == "paper" else beta)
        self.register_buffer("damping", gamma.abs() / level if norm is not None else level / level)
        self.register_buffer("places", None)
        self.register_buffer("opened", None, persistent=False)
        self.norm: Any = None
        if isinstance(norm, BatchNorm):
            self.norm = norm_behind(conv, norm)
            self.norm.running_mean *= sign
        elif norm is not None:
            self.norm = nn.InstanceNorm2d(self.channels, eps=norm.eps).train(norm.training)
        self.set_density(density)

    @abstractmethod
    def saliency(self, x: Tensor) -> Tensor:
        """How much each output channel matters for input x (N, C_in, H, W): (N, C)."""

    @abstractmethod
    def select(self, saliency: Tensor) -> Tensor:
        """The gate (N, C): :meth:`weigh` of the saliency, with zeros for the channels to skip."""

    def weigh(self, saliency: Tensor) -> Tensor:
        """The gate (N, C) that each channel has where it is active."""
        return saliency

    def set_density(self, density: float) -> None:
        super().set_density(density)
        self.active = math.ceil(self.channels * density - 1e-9)  # 100 * 0.07 is 7.000000000000001
        self._open()

    def freeze(self, places: Tensor) -> None:
        """From now on the same channels are active for every image: those of the first places.

        What an active channel is weighed with still depends on the image.

        Args:
            places: int64 (C,), a permutation: 0 for the channel that is closed last.
        """
        self.places = places.to(self.weight.device)
        self._open()

    def _open(self) -> None:
        if self.places is not None:
            self.opened = (self.places < self.active).to(self.weight.dtype)

    def penalty(self) -> Tensor:
        """Sum over the active channels of the batch mean of |g| (FBS, section 3.4)."""
        assert self.last_gate is not None
        return self.last_gate.abs().sum(1).mean()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H_out, W_out), or (N, C_in, L) -> (N, C, L_out).

        Inactive channels are exactly zero. See :meth:`record` for the errors.
        """
        x = self.wide(x)
        saliency = self._precise_saliency(x)
        frozen = self.opened
        gate = self.select(saliency) if frozen is None else self.weigh(saliency) * frozen
        self.handover[gate.device] = gate
        if not torch.compiler.is_exporting():
            self.record(gate, saliency)
        y = self._forward_training(x, gate) if self.training else self._forward_fused(x, gate)
        return self.narrow(y)

    def _precise_saliency(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self.saliency(x)
        # Half precision makes saliencies equal, and equal ones are all dropped by a strict top k.
        with torch.autocast(device, enabled=False):
            return self.saliency(x.to(self.weight.dtype))

    def _forward_fused(self, x: Tensor, gate: Tensor) -> Tensor:
        geometry = self.stride, self.padding, self.dilation, self.groups
        kernel, scale = self.kernel, self.damping
        shift: Tensor = self.shift
        bias = torch.zeros_like(shift)
        if isinstance(self.norm, nn.BatchNorm2d):
            scale, bias = (part * self.damping for part in folded(self.norm))
        elif self.norm is not None:
            # The norm stands between the sum and the gate: the sum of the active channels alone,
            # then a convolution of one weight a channel that does nothing but the gate's part.
            ones = torch.ones_like(shift)
            x = self.norm(following_conv2d(x, kernel, ones, bias, gate, *geometry))
            kernel, geometry = ones[:, None, None, None], ([1, 1], [0, 0], [1, 1], self.channels)
        if self.variant == "paper":
            bias, shift = bias + shift, torch.zeros_like(shift)
        return gated_conv2d(x, kernel, scale, bias, gate, shift, *geometry)

    def _forward_training(self, x: Tensor, gate: Tensor) -> Tensor:
        u = F.conv2d(x, self.kernel, None, self.stride, self.padding, self.dilation, self.groups)
        if self.norm is not None:
            u = self.norm(u)
        return self._weighed(u, gate).to(u.dtype)

    def _weighed(self, u: Tensor, gate: Tensor) -> Tensor:
        """In training: the result (N, C, H, W), in full precision, for the normalised sum u."""
        # Products with an inactive channel's gate are zero: only its shift must be left out.
        if self.variant == "paper":
            shift = gate * self.shift
        else:
            shift = torch.where(gate != 0, self.shift, torch.zeros_like(self.shift))
        return (gate * self.damping)[:, :, None, None] * u + shift[:, :, None, None]

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        # Without small factors there is nothing to say.
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if bool((self.damping == 1).all()):
            del destination[prefix + "damping"]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        state_dict.setdefault(prefix + "damping", torch.ones_like(self.damping))
        if self.places is None and prefix + "places" in state_dict:
            self.places = torch.empty(self.channels, dtype=torch.int64, device=self.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._open()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, density={self.density:g}, variant={self.variant}"


def start_level(conv: Conv, norm: Norm | None) -> Tensor:
    """(C,), at least 0.001: the level at which a gate starts, see :class:`GatedConv2d`."""
    return _factors(conv, norm)[0].abs().clamp_min(SMALLEST_LEVEL)


def _factors(conv: Conv, norm: Norm | None) -> tuple[Tensor, Tensor]:
    """Copies of gamma and beta (C,) of the norm, or without one the filters' L2 norms and bias."""
    weight = conv.weight.detach()
    ones, zeros = weight.new_ones(len(weight)), weight.new_zeros(len(weight))
    if norm is None:
        beta = zeros if conv.bias is None else conv.bias.detach().clone()
        return weight.flatten(1).norm(dim=1), beta
    if not norm.affine:
        return ones, zeros
    return norm.weight.detach().to(weight, copy=True), norm.bias.detach().to(weight, copy=True)
