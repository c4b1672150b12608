"""What MACs, dense, executed, saved and realised mean in every report, as ``CONVENTION`` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .absent import NotMeasured

CONVENTION = (
    "1 MAC = one multiply-add of a convolution, linear layer or gate predictor. Dense counts every "
    "channel and no gate. Executed counts active input channels x active output channels per "
    "image, mean over the images, plus the cost of the gates. Normalisation, activations, pooling "
    "and additions are not counted. MACs saved = 1 - executed / baseline's dense. Time saved = 1 - "
    "time / baseline's time. Realised = time saved / MACs saved."
)
GATE_OPERATORS = frozenset({"gate", "keep_top_k", "merge_lists", "clear_inactive"})
LEAST_SAVED = 0.01
"""Share of the MACs below which nothing was saved that time could follow."""


def is_gate(operator: str) -> bool:
    """Whether a layer exists only because of gating."""
    return operator in GATE_OPERATORS


def dense_macs(layers: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(one["dense_macs"]) for one in layers if not is_gate(one["operator"]))


def executed_macs(layer: Mapping[str, Any], active_inputs: Any, active_outputs: Any) -> Any:
    """MACs that one layer of a manifest executes.

    Active channels are numbers or arrays, of a pixel gate numbers of its tensor; None: all.
    """
    inputs = layer["in_channels"] if active_inputs is None else active_inputs
    outputs = layer["out_channels"] if active_outputs is None else active_outputs
    return layer.get("base_macs", 0) + layer["macs_per_pair"] * inputs * outputs


def macs_saved(executed: float, baseline_dense: float) -> float:
    """Share of the baseline's dense MACs that was not executed; negative where more was."""
    return 1 - executed / baseline_dense


def time_saved(speedup: float) -> float:
    """Share of the baseline's time; negative where it took longer."""
    return 1 - 1 / speedup


def realised(speedup: float, saved: float) -> float | NotMeasured:
    """Time saved / MACs saved."""
    if saved < LEAST_SAVED:
        return NotMeasured("it saves no arithmetic")
    return time_saved(speedup) / saved
