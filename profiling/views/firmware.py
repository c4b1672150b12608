"""What a page shows of networks in firmware: cycles or instructions, flash and RAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.firmware import Firmware, total_bytes
from headgate.profiling import units
from headgate.profiling.machines import Board, Entry
from headgate.profiling.views.latency import Tile

CONVENTION = (
    "A microcontroller's own clock counts the cycles of an inference: DWT, or SysTick where there "
    "is none. Under QEMU it counts instructions, which are not a time, in ticks of several. Counts "
    "of layers are medians over the inputs. Flash and RAM are the sections of the compiled library "
    "and firmware, and the arena that the compiler planned; the stack is measured."
)


def firmware_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """A row for each network in firmware; none on other machines."""
    return [
        {
            "one": one,
            "firmware": one.firmware,
            "counts": _spread(one.firmware),
            "memories": [
                _memory(one.firmware, "flash", one.firmware.flash_bytes),
                _memory(one.firmware, "RAM", one.firmware.ram_bytes),
            ],
        }
        for one in entries
        if isinstance(one.firmware, Firmware)
    ]


def firmware_tiles(boards: Sequence[Board]) -> list[Tile]:
    """The variant that saves most cycles or instructions on its board."""
    ranked = [
        (fewer, entry.firmware, entry)
        for board in boards
        for entry in board.entries
        if isinstance(fewer := entry.fewer, float) and isinstance(entry.firmware, Firmware)
    ]
    if not ranked:
        return []
    fewer, firmware, entry = max(ranked, key=lambda one: one[0])
    assert entry.baseline is not None
    tiles = [
        (units.times(fewer), f"fewer {firmware.unit}", f"{entry.label}, {entry.baseline.label}")
    ]
    if isinstance(saved := entry.macs_saved, float):
        note = f"{units.percent(saved)} of the MACs were saved"
        if isinstance(realised := entry.count_realised, float):
            tiles.append((units.percent(realised), "of the saving realised", note))
    return tiles


def _spread(firmware: Firmware) -> str:
    least, most = min(firmware.counts), max(firmware.counts)
    return "" if least == most else f"{least:,.0f} to {most:,.0f}"


def _memory(
    firmware: Firmware, name: str, parts: dict[str, int | NotMeasured] | NotMeasured
) -> dict[str, Any]:
    """What the network takes of a memory, of what the board has, and what for."""
    has, total = firmware.memory_bytes, total_bytes(parts)
    return {
        "bytes": total if isinstance(total, NotMeasured) else f"{total:,}",
        "of": "" if isinstance(has, NotMeasured) else f"of {has[name]:,}",
        "parts": []
        if isinstance(parts, NotMeasured)
        else [
            f"{part} {size if isinstance(size, NotMeasured) else f'{size:,}'}"
            for part, size in parts.items()
        ],
    }
