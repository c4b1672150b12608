"""Permanent masks on the channels of a network in training, and what it costs without these."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.train.copying import copied, replace_module
from headgate.train.macs import count_macs
from headgate.train.pruning.layers import PrunableLayer


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm of which some channels no longer depend on the input.

    Their factor is 0, so each is the norm's shift, or exactly 0 inside a block or a plain network,
    where the readers' weights for it go too. This is what zeroed filters do in the official code.
    """

    kept: Tensor
    """Boolean (C,), a buffer, and so saved, resumed and copied with the weights."""

    def __init__(self, norm: nn.BatchNorm2d, layer: PrunableLayer) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.layer = layer
        # The parameters and statistics themselves, under their names.
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.register_buffer("kept", torch.ones_like(norm.weight, dtype=torch.bool))
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
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
    """A copy with ordinary batch norms that computes the same, and each masked layer's channels."""
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


class RemainingMacs:
    """MACs per image left by the masks of a network; ``total`` with all channels kept."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        count = count_macs(module, example)
        self.total = count.dense
        self._whole = {path: macs.dense for path, macs in count.by_module.items()}
        self._norms = masked_norms(module)
        self._source = {
            reader: path
            for path, norm in self._norms.items()
            for reader in norm.layer.readers or ()
        }

    def __call__(self) -> int:
        kept = {path: int(norm.kept.sum()) for path, norm in self._norms.items()}
        whole = {path: norm.num_features for path, norm in self._norms.items()}
        left = self.total
        for path in {*self._norms, *self._source}:
            outputs, all_outputs = kept.get(path, 1), whole.get(path, 1)
            source = self._source.get(path, "")
            inputs, all_inputs = kept.get(source, 1), whole.get(source, 1)
            cost = self._whole[path]
            left -= cost - cost * outputs * inputs // (all_outputs * all_inputs)
        return left
