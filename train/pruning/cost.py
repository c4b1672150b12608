"""What a masked network will cost once its channels are removed."""

from __future__ import annotations

from torch import Tensor, nn

from headgate.train.macs import count_macs
from headgate.train.pruning.masks import masked_norms


class RemainingMacs:
    """MACs per image left by the masks of a network, without removing anything.

    A layer costs (kept inputs) x (kept outputs) of what it costs whole.

    Attributes:
        total: MACs per image of the network as it is built, all channels kept.
    """

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
        """MACs per image with the masks as they are now."""
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
