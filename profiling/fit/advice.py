"""What to change in a network that does not fit a board."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.device.footprint import Footprint
from headgate.device.manifest import Manifest
from headgate.device.microcontrollers import Microcontroller, microcontrollers
from headgate.device.targets import emulated_microcontrollers
from headgate.profiling.fit.timeline import Peak


def advise(
    facts: Manifest, needs: Footprint, board: Microcontroller, peak: Peak, weights: Sequence[int]
) -> list[str]:
    """Sentences, none where it fits. ``weights``: bytes of each layer's."""
    missing = needs.missing(board)
    found = []
    if "RAM" in missing:
        found += _on_ram(facts, needs, board, peak)
    if "flash" in missing:
        found += _on_flash(facts, weights)
    return [*found, _other_boards(needs, board)] if missing else []


def _on_ram(facts: Manifest, needs: Footprint, board: Microcontroller, peak: Peak) -> list[str]:
    layer, largest = facts.layers[peak.step], peak.buffers[0]
    what = f"{layer.name}: its scratch" if largest.scratch else f"{largest.name}: its result"
    found = [
        f"fewer channels in {what} takes {largest.bytes:,} of the {peak.bytes:,} bytes that are in "
        f"use during step {peak.step}, {layer.name}"
    ]
    shape = facts.inputs[0].shape
    if len(shape) == 4:
        side = math.sqrt(_area_left(needs, board))
        height, width = (int(side * size) for size in shape[2:])
        if min(height, width) > 0:
            found.append(
                f"a smaller input: {width}x{height} instead of {shape[3]}x{shape[2]}, if every "
                "buffer shrinks with its area (an estimate: scratch for weights does not)"
            )
    if facts.dtype == "float32":
        found.append("--dtype int8: a quarter of the bytes for most buffers")
    return found


def _area_left(needs: Footprint, board: Microcontroller) -> float:
    """The share of arena and tensors that the board has room for."""
    fixed = needs.variables_bytes + needs.assumed_stack_bytes
    return max(0.0, (board.ram.bytes - fixed) / (needs.ram_bytes - fixed))


def _on_flash(facts: Manifest, weights: Sequence[int]) -> list[str]:
    largest = max(range(len(weights)), key=weights.__getitem__)
    found = [
        f"fewer channels in {facts.layers[largest].name}: its weights take {weights[largest]:,} of "
        f"{sum(weights):,} bytes"
    ]
    if facts.dtype == "float32":
        found.append("--dtype int8: a quarter of the bytes for weights")
    return found


def _other_boards(needs: Footprint, board: Microcontroller) -> str:
    """Those of the table that these sizes fit; QEMU's are no boards that one buys."""
    emulated = emulated_microcontrollers().values()
    fitting: Mapping[str, Any] = {
        name: one
        for name, one in microcontrollers().items()
        if name not in emulated and not needs.missing(one)
    }
    same = [name for name, one in fitting.items() if one.target == board.target]
    other = [f"{name} ({one.target})" for name, one in fitting.items() if name not in same]
    if same:
        return f"a board with more memory: {', '.join(same)}"
    if other:
        return (
            f"a board with another core, by the sizes that {board.target} needs: {', '.join(other)}"
        )
    return "no board of `headgate analyze` has so much memory"
