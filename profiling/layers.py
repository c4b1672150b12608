"""Reading a bundle's layer table: which layers are gates, what counts as a MAC.

The convention is headgate's everywhere: the dense count leaves gates out, the done count takes
the masks of both sides of every layer, per image, and includes what the gates cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONVENTION = (
    "1 MAC = one multiply-add of a convolution, linear layer or gate predictor. Dense counts every "
    "channel and no gate. Done counts active input channels x active output channels per image, "
    "mean over the images, plus the cost of the gates. Normalisation, activations, pooling and "
    "additions are not counted."
)
GATE_OPERATORS = frozenset({"gate", "keep_top_k", "merge_lists", "clear_inactive"})


def is_gate(layer: Mapping[str, Any]) -> bool:
    """Whether a layer of the manifest exists only because of gating."""
    return layer["operator"] in GATE_OPERATORS


def dense_macs(manifest: Mapping[str, Any]) -> int:
    """MACs of the network without gates."""
    return sum(int(layer["dense_macs"]) for layer in manifest["layers"] if not is_gate(layer))
