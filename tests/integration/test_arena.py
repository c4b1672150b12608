"""The arena: whatever lives at the same time lies apart."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.kernel import Kernel
from headgate.compile.plan.arena import ALIGNMENT, GUARD, plan_arena
from headgate.compile.plan.steps import Buffer, Constant, Program, Step
from headgate.device.tensor_type import TensorType

NO_KERNEL = cast(Kernel, None)


def block(name: str, size: int, *, pinned: bool = False) -> Buffer:
    return Buffer(name, TensorType((size,), "uint8"), pinned)


def step(*buffers: Any) -> Step:
    return Step("", "", NO_KERNEL, {str(i): buffer for i, buffer in enumerate(buffers)})


def chain(sizes: list[int]) -> tuple[Program, list[Buffer]]:
    """Each step reads one buffer and writes the next."""
    buffers = [block(str(i), size) for i, size in enumerate(sizes)]
    steps = [step(a, b) for a, b in pairwise(buffers)]
    return Program([buffers[0]], [buffers[-1]], steps), buffers


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, list[Buffer]]:
    buffers = [
        block(str(i), draw(st.integers(1, 5000)), pinned=draw(st.integers(0, 9)) == 0)
        for i in range(draw(st.integers(1, 20)))
    ]
    some = st.lists(st.sampled_from(buffers), min_size=1, max_size=4)
    steps = [step(*draw(some)) for _ in range(draw(st.integers(0, 25)))]
    return Program(draw(some), draw(some), steps), buffers


def life(program: Program, buffer: Buffer) -> set[int]:
    """The steps at which a buffer holds something, written from the definition."""
    touched = [i for i, s in enumerate(program.steps) if buffer in s.arguments.values()]
    if buffer in program.inputs:
        touched.append(-1)
    if buffer in program.outputs:
        touched.append(len(program.steps))
    if not touched:
        return set()
    if buffer.pinned:
        return set(range(-1, len(program.steps) + 1))
    return set(range(min(touched), max(touched) + 1))


@given(programs())
def test_lives_that_overlap_lie_apart(case: tuple[Program, list[Buffer]]) -> None:
    program, buffers = case
    offsets, size = plan_arena(program)
    lives = {buffer: life(program, buffer) for buffer in buffers}
    assert set(offsets) == {buffer for buffer in buffers if lives[buffer]}
    for buffer, offset in offsets.items():
        assert offset % ALIGNMENT == 0
        assert offset >= GUARD
        assert offset + buffer.bytes + GUARD <= size
    for a, b in combinations(offsets, 2):
        if lives[a] & lives[b]:
            first, second = sorted((a, b), key=offsets.__getitem__)
            assert offsets[first] + first.bytes + GUARD <= offsets[second]


@given(programs())
def test_same_program_same_plan(case: tuple[Program, list[Buffer]]) -> None:
    program, _ = case
    assert plan_arena(program) == plan_arena(program)


def test_dead_buffers_give_their_place_back() -> None:
    program, buffers = chain([4096] * 10)
    offsets, size = plan_arena(program)
    assert size <= 2 * (4096 + 2 * GUARD) + GUARD
    assert len({offsets[b] for b in buffers}) == 2


def test_small_buffers_share_the_place_of_a_large_dead_one() -> None:
    sizes = {"large": 4096, "small": 64, "other": 64, "end": 4}
    large, small, other, end = (block(name, size) for name, size in sizes.items())
    steps = [step(large, small), step(small, other), step(small, other, end)]
    offsets, _ = plan_arena(Program([large], [end], steps))
    assert offsets[other] < offsets[large] + large.bytes


def test_pinned_buffers_share_with_nobody() -> None:
    program, buffers = chain([512] * 6)
    buffers[2].pinned = True
    offsets, _ = plan_arena(program)
    assert sum(offsets[b] == offsets[buffers[2]] for b in buffers) == 1


def test_constants_take_no_place() -> None:
    x, y = block("x", 64), block("y", 64)
    constant = Constant("w", None)  # type: ignore[arg-type]
    offsets, _ = plan_arena(Program([x], [y], [step(x, constant, y)]))
    assert set(offsets) == {x, y}
