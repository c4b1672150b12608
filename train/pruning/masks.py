"""Permanent masks on the channels of a network in training.

The mask of a layer is a boolean buffer of its batch norm, so it is saved, resumed and copied to
averaged weights with everything else. The norm's factor is 0 for a pruned channel: whatever its
convolution computes, the channel is the norm's shift, and inside a block or a plain network, where
the readers' weights for it go too, it is exactly 0. The convolution's weights for it get no
gradient any more. This is what zeroed filters do in the official code, at the cost of one
product per channel.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.train.copying import copied, replace_module
from headgate.train.pruning.layers import PrunableLayer


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm of which some channels no longer depend on the input.

    Attributes:
        kept: boolean (C,).
        layer: the convolution in front, its readers.
    """

    kept: Tensor

    def __init__(self, norm: nn.BatchNorm2d, layer: PrunableLayer) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.layer = layer
        # The parameters and statistics themselves, under their names.
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.register_buffer("kept", torch.ones_like(norm.weight, dtype=torch.bool))
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        assert self.momentum is not None
        weight, bias = self.masked_factors()
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            weight,
            bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def masked_factors(self) -> tuple[Tensor, Tensor]:
        """Factor and shift (C,) with the mask on them."""
        return self.weight * self.kept, self.bias * self.kept if self.layer.inner else self.bias


def add_masks(module: nn.Module, layers: Iterable[PrunableLayer]) -> nn.Module:
    """``module`` with a mask on each of ``layers``, all channels kept, in place."""
    for layer in layers:
        norm = module.get_submodule(layer.norm)
        assert isinstance(norm, nn.BatchNorm2d)
        replace_module(module, norm, MaskedBatchNorm2d(norm, layer))
    return module


def masked_norms(module: nn.Module) -> dict[str, MaskedBatchNorm2d]:
    """The masked norms of ``module`` by the path of the convolution in front of each."""
    return {m.layer.path: m for m in module.modules() if isinstance(m, MaskedBatchNorm2d)}


def without_masks(module: nn.Module) -> tuple[nn.Module, dict[str, list[int]]]:
    """A copy with ordinary batch norms, and the channels kept by each masked layer.

    A pruned channel of the copy still emits what it did, for every input.
    """
    plain = copied(module)
    kept = {}
    for path, masked in masked_norms(plain).items():
        kept[path] = masked.kept.nonzero().flatten().tolist()
        norm = nn.BatchNorm2d(masked.num_features, masked.eps, masked.momentum, device="meta")
        norm._parameters.update(masked._parameters)
        norm._buffers.update({k: b for k, b in masked._buffers.items() if k != "kept"})
        norm.weight, norm.bias = (nn.Parameter(t.detach()) for t in masked.masked_factors())
        replace_module(plain, masked, norm.train(masked.training))
    return plain, kept
