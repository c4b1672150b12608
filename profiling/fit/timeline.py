"""An arena over time: what lies in it during each step, where it is fullest, and a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.device.manifest import Place

_CELLS = 48
_FREE, _VALUE, _SCRATCH = ".#s"


@dataclass(frozen=True)
class Peak:
    """The step during which most bytes of the arena are in use, and what uses them."""

    step: int
    bytes: int
    buffers: list[Place]
    """Largest first."""


def alive(buffers: Sequence[Place], step: int) -> list[Place]:
    """What matters during a step, largest first."""
    found = [one for one in buffers if one.first <= step <= one.last]
    return sorted(found, key=lambda one: (-one.bytes, one.offset))


def find_peak(buffers: Sequence[Place], steps: int) -> Peak:
    """The first such step."""
    during = [alive(buffers, step) for step in range(steps)]
    totals = [sum(one.bytes for one in found) for found in during]
    step = max(range(steps), key=totals.__getitem__)
    return Peak(step, totals[step], during[step])


def draw_arena(
    buffers: Sequence[Place], names: Sequence[str], arena_bytes: int, cells: int = _CELLS
) -> list[str]:
    """A row for each step, a column for each of ``cells`` equal parts of the arena.

    ``#`` holds values, ``s`` a step's own scratch, ``.`` nothing; behind it are the bytes in use.
    """
    size = max(1, -(-arena_bytes // cells))
    width = max(map(len, names))
    rows = [
        f"# values, s scratch, . free; a column is {size:,} bytes of {arena_bytes:,}",
    ]
    for step, name in enumerate(names):
        row = [_FREE] * cells
        found = alive(buffers, step)
        for one in sorted(found, key=lambda one: one.scratch):
            last = (one.offset + max(1, one.bytes) - 1) // size
            for cell in range(one.offset // size, last + 1):
                row[cell] = _SCRATCH if one.scratch else _VALUE
        used = sum(one.bytes for one in found)
        rows.append(f"{step:3} {name:{width}} {''.join(row)} {used:9,}")
    return rows
