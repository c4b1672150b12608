"""The order in which channels go: the smallest scores of all layers first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def least_relevant(
    scores: Mapping[str, Tensor], kept: Mapping[str, Tensor], min_channels: int
) -> Iterator[tuple[str, int]]:
    """(layer, channel) pairs still kept, by rising score over all layers together.

    Of each layer ``min_channels`` stay; equal scores go in the order of layers, then channels.

    Args:
        scores: (C,) by layer.
        kept: boolean (C,) by layer; it may change as pairs are taken.
    """
    layers = list(scores)
    everything = torch.cat([scores[path].double().cpu() for path in layers])
    owners = [(path, channel) for path in layers for channel in range(len(scores[path]))]
    left = {path: int(kept[path].sum()) for path in layers}
    was_kept = {path: kept[path].tolist() for path in layers}
    for index in everything.argsort(stable=True).tolist():
        path, channel = owners[index]
        if was_kept[path][channel] and left[path] > min_channels:
            left[path] -= 1
            yield path, channel
