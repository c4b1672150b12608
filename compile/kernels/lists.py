"""Lists of active channels, whatever the channels hold.

A list holds every channel, the active ones first, both parts ascending; a count says how many are
active. Planes of inactive channels stay where they are and are simply not visited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, local, loop, store, when
from headgate.device.tensor_type import INT32


def list_parameters(side: str) -> list[Parameter]:
    """The arguments for the list of a kernel's ``in`` or ``out`` channels."""
    return [(f"{side}_list", INT32), (f"{side}_count", INT32)]


def visited(channels: int, *lists: Buffer) -> tuple[Expr, Callable[[Expr], Expr]]:
    """How many channels a loop visits, and which is the j-th: those of a list and count, or all."""
    if not lists:
        return channels, lambda j: j
    order, count = lists
    return let(count[0]), lambda j: order[j]


def segment(
    order: Buffer | None, count: Expr, group: Expr, size: int, groups: int
) -> tuple[Expr, Expr]:
    """The part of a list's first ``count`` that lies in a group: (first position, length).

    ``order`` is the list, None: every channel is active; groups have ``size`` channels.
    """
    if groups == 1:
        return 0, count
    if order is None:
        return group * size, size
    found = local(2, INT32)
    for i in range(2):
        store(found, i, int32(0))
    with loop(count) as p:
        channel = let(order[p])
        for i in range(2):
            with when(channel < (group + i) * size):
                store(found, i, found[i] + 1)
    first = let(found[0])
    return first, let(found[1] - first)


def write_list(
    channels: int, active: Callable[[Expr], Expr], out_list: Buffer, out_count: Buffer
) -> None:
    """Appends without branches; one slot past the end takes the last write of the second pass."""
    n = local(1, INT32)
    store(n, 0, int32(0))
    for wanted in (True, False):
        with loop(channels) as c:
            store(out_list, n[0], c)
            hit = active(c) if wanted else tirx.Not(active(c))
            store(n, 0, n[0] + tirx.Select(hit, int32(1), int32(0)))
        if wanted:
            store(out_count, 0, n[0])


@dataclass(frozen=True)
class MergeLists(Kernel):
    """The list of a tensor made of several: their union (a sum) or their sequence (a concat).

    ``offsets``: where each source's channels begin in the result, all zero for a union.
    """

    channels: int
    sources: tuple[int, ...]
    offsets: tuple[int, ...]
    gated: tuple[bool, ...]
    """Sources without a list are active throughout."""

    def parameters(self) -> list[Parameter]:
        names = list_parameters("out")
        for i, gated in enumerate(self.gated):
            names += [(f"list{i}", INT32), (f"count{i}", INT32)] if gated else []
        return names

    def _body(self, out_list: Buffer, out_count: Buffer, **lists: Buffer) -> None:
        mask = local(self.channels, INT32)
        with loop(self.channels) as c:
            store(mask, c, int32(0))
        for i, (size, offset) in enumerate(zip(self.sources, self.offsets, strict=True)):
            own = (lists[f"list{i}"], lists[f"count{i}"]) if self.gated[i] else ()
            count, nth = visited(size, *own)
            with loop(count) as j:
                store(mask, nth(j) + offset, int32(1))
        write_list(self.channels, lambda c: mask[c] != 0, out_list, out_count)
