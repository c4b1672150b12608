"""What a microcontroller's clock counts of a network, and what the network takes of its memories.

The host fills it in: a microcontroller runs firmware, and no agent.
"""

from __future__ import annotations

from dataclasses import dataclass

from .absent import NotMeasured

NO_FIRMWARE = NotMeasured("only microcontrollers run firmware")
CYCLES, INSTRUCTIONS = "cycles", "instructions"


@dataclass(frozen=True)
class Firmware:
    """Counts are of one inference; lists have an entry for each input, or each layer."""

    unit: str
    """What is counted: ``cycles`` of a board, ``instructions`` under QEMU."""
    counter: str
    """What counts: ``DWT`` or ``SysTick``."""
    tick: float
    """How many of the unit its smallest step is."""
    clock_hz: int | NotMeasured
    """That the firmware was built for."""
    count: float
    """Median over the inputs; ``counts`` is of each."""
    counts: list[float]
    layer_counts: list[float]
    """Medians, in the order of the latency's layers."""
    flash_bytes: dict[str, int | NotMeasured] | NotMeasured
    """What for -> bytes; ``ram_bytes`` likewise."""
    ram_bytes: dict[str, int | NotMeasured] | NotMeasured
    memory_bytes: dict[str, int] | NotMeasured
    """The board's ``flash`` and ``RAM``."""


def total_bytes(parts: dict[str, int | NotMeasured] | NotMeasured) -> int | NotMeasured:
    """Of all parts; what one of them lacks, the sum lacks."""
    if isinstance(parts, NotMeasured):
        return parts
    total = 0
    for name, part in parts.items():
        if isinstance(part, NotMeasured):
            return NotMeasured(f"{name}: {part.reason}")
        total += part
    return total
