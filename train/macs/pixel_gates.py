"""The cost of a pixel-gated convolution: as its gate decides, and in a kernel's tiles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headgate.train.gates.pixel_operator import decide
from headgate.train.macs.handlers import Call, Cost, Handler

OPERATOR = "headgate.pixel_gated_conv2d"


def pixel_gated_convolution(tile: tuple[int, int] | None) -> Handler:
    """Handler of headgate::pixel_gated_conv2d: 1/p for all outputs, the rest where one is on.

    Of a ``tile`` (rows, lanes) with one output on all are computed: runs of channels, see
    :func:`channel_runs`, by runs of ``lanes`` pixels of the flattened image.
    """

    def handler(call: Call) -> Cost:
        weight, partitions = call.args[1], call.args[11]
        _, _, on = decide(*call.args[:4], *call.args[8:])
        if tile is not None:
            chunk = weight.shape[0] // (partitions if call.args[12] else 1)
            on = in_tiles(on, channel_runs(weight.shape[0], chunk, tile[0]), tile[1])
        outputs = on[0].numel()
        per_output = weight[0].numel()
        base = per_output // partitions
        executed = on.flatten(1).sum(1) * (per_output - base) + outputs * base
        return Cost(outputs * per_output, executed, None)

    return handler


def channel_runs(channels: int, chunk: int, rows: int) -> list[int]:
    """Lengths of the runs of channels that a kernel of ``rows`` computes at once.

    Within each chunk runs of ``rows``, then of half as many, the last one with what is left.
    """
    half = max(rows // 2, 1)
    runs = [rows] * (chunk // rows)
    left = chunk % rows
    runs += [half] * (left // half) + [left % half] * (left % half > 0)
    return runs * (channels // chunk)


def in_tiles(on: Tensor, runs: list[int], lanes: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H * W): true in every tile in which anything was."""
    flat = on.flatten(2)
    pixels = flat.shape[2]
    wide = F.pad(flat, (0, -pixels % lanes)).unflatten(2, (-1, lanes)).any(3)
    tiles = [run.any(1, keepdim=True).expand_as(run) for run in wide.split(runs, 1)]
    return torch.cat(tiles, 1).repeat_interleave(lanes, 2)[..., :pixels]
