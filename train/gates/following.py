"""Depthwise convolutions, which follow the gate in front of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.gates.layer import Conv, ConvolutionLayer
from headgate.train.gates.norms import BatchNorm, folded, norm_behind
from headgate.train.gates.operators import following_conv2d, only_active


class Handover(dict[torch.device, Tensor]):
    """The gate (N, C) of a forward, by device, for the layers that follow the one that decides it.

    The layers of a copied network share one of their own, which starts empty.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # A gate belongs to a forward and its autograd graph.
        return Handover, ()


class FollowingConv2d(ConvolutionLayer):
    """A depthwise convolution and its batch norm, computed where its leader's gate is not zero.

    ::

        y = norm(conv(x))   where the leader's g != 0, else 0

    In training the statistics are those of all channels, skipped ones too. ``leader`` is the module
    path of the layer it follows, which leaves its gate in ``handover``.
    """

    def __init__(
        self, conv: Conv, norm: BatchNorm | None, name: str, leader: str, handover: Handover
    ) -> None:
        super().__init__(conv, name)
        self.leader, self.handover = leader, handover
        weight = conv.weight.detach()
        self.weight = nn.Parameter(weight.clone())
        self.bias: nn.Parameter | None = None
        self.norm: nn.BatchNorm2d | None = None
        if norm is not None:
            self.norm = norm_behind(conv, norm, affine=True)
        else:
            old = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().clone()
            self.bias = nn.Parameter(old)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H_out, W_out), or (N, C, L) -> (N, C, L_out).

        Raises:
            ModelError: the leader has not run.
        """
        gate = self.handover.get(x.device)
        if gate is None:
            raise ModelError(
                f"layer {self.name!r} follows the gate of {self.leader!r}, which has not run"
            )
        x = self.wide(x)
        geometry = self.stride, self.padding, self.dilation, self.groups
        if self.training:
            y = F.conv2d(x, self.kernel, self.bias, *geometry)
            return self.narrow(only_active(y if self.norm is None else self.norm(y), gate))
        if self.norm is not None:
            scale, bias = folded(self.norm)
        else:
            assert self.bias is not None
            scale, bias = torch.ones_like(self.bias), self.bias
        return self.narrow(following_conv2d(x, self.kernel, scale, bias, gate, *geometry))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, leader={self.leader!r}"
