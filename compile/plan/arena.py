"""One static arena: every buffer gets its place when compiling.

Buffers are placed largest first, each at the lowest address where nothing that lives at the same
time is in the way ("greedy by size"). TVM's StaticPlanBlockMemory reuses whole buffers only; this
also lets a small buffer lie in part of a large dead one.
"""

from __future__ import annotations

from headgate.compile.plan.steps import Buffer, Program

ALIGNMENT = 64
GUARD = 64
"""Free bytes around every buffer: a vector may begin before or end behind the last number."""


def plan_arena(program: Program) -> tuple[dict[Buffer, int], int]:
    """The byte offset of every buffer, and the bytes of the whole arena."""
    lives = lives_of(program)
    placed: list[tuple[int, int, Buffer]] = []
    offsets: dict[Buffer, int] = {}
    for buffer in sorted(lives, key=lambda b: (-b.bytes, lives[b], b.name)):
        size = _round_up(buffer.bytes + GUARD)
        at = GUARD
        for start, end, other in sorted(placed, key=lambda p: p[:2]):
            if not _overlap(lives[buffer], lives[other]) or end <= at:
                continue
            if start >= at + size:
                break
            at = end
        placed.append((at, at + size, buffer))
        offsets[buffer] = at
    return offsets, max((end for _, end, _ in placed), default=GUARD)


def lives_of(program: Program) -> dict[Buffer, tuple[int, int]]:
    """First and last step in which each buffer matters: -1 before the first step, as many as there
    are steps behind the last.
    """
    lives: dict[Buffer, tuple[int, int]] = {}
    last = len(program.steps)

    def touch(buffer: Buffer, step: int) -> None:
        first, until = lives.get(buffer, (step, step))
        lives[buffer] = (min(first, step), max(until, step))

    for buffer in program.inputs:
        touch(buffer, -1)
    for index, step in enumerate(program.steps):
        for argument in step.arguments.values():
            if isinstance(argument, Buffer):
                touch(argument, index)
    for buffer in program.outputs:
        touch(buffer, last)
    return {b: (-1, last) if b.pinned else span for b, span in lives.items()}


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
