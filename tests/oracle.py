"""What a network compiled computes, against PyTorch: its outputs, and the MACs that it executes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from headgate.device import Bundle, load
from headgate.device.validation import compare_outputs
from headgate.train.gates import CGNetConv2d
from headgate.train.macs import count_macs

TOLERANCE = 1e-4
"""Largest error, as a share of the output's scale."""


def machine_of(target: str) -> str:
    """The machine on which a bundle for ``target`` runs here."""
    return "host" if target == "host" else f"qemu:{target}"


def check_outputs(
    bundle: Bundle, module: nn.Module, images: Tensor, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Holds what ``bundle`` computes against the network that it was made of, in evaluation mode.

    The module decides its gates in float32, as the code does. Returns the executed MACs of each
    image.
    """
    with torch.no_grad():
        # Image by image, as it is compiled: a batch rounds otherwise, and a gate may follow.
        expected = torch.cat([module(image[None]) for image in images]).numpy()
    with load(bundle, machine_of(bundle.target["name"])) as program:
        outputs = program.run(images.numpy())
        executed = program.executed_macs()
    result = compare_outputs([outputs], [expected], tolerance)
    assert result.passed, result
    # With every channel active: the dense network and its gates.
    assert (executed <= sum(layer["dense_macs"] for layer in bundle.manifest["layers"])).all()
    return executed


def check_bundle(
    bundle: Bundle, module: nn.Module, images: Tensor, tolerance: float = TOLERANCE
) -> np.ndarray:
    """``check_outputs``; and the executed MACs are exactly those that PyTorch counts."""
    executed = check_outputs(bundle, module, images, tolerance)
    np.testing.assert_array_equal(executed, expected_macs(module, images, bundle))
    return executed


def expected_macs(module: nn.Module, images: Tensor, bundle: Bundle) -> np.ndarray:
    """Executed MACs of each image, each pixel gate counted in the tiles of its own kernel."""
    rows = bundle.manifest["layers"]
    tiles = {row["name"]: tuple(row["pixel_tile"]) for row in rows if "pixel_tile" in row}
    gated = {name for name, layer in module.named_modules() if isinstance(layer, CGNetConv2d)}
    assert tiles.keys() == gated
    counts = {
        tile: count_macs(module, images[:1], images, pixel_tile=tile)
        for tile in {None, *tiles.values()}
    }
    return sum(
        row.executed.numpy()
        for tile, count in counts.items()
        for row in count.rows
        if tiles.get(row.module) == tile
    )
