"""VNNI's kernels on a machine without it: the same schedules, its instructions spelled out."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from headgate.compile import isa
from headgate.compile.isa.base import Expr, Pair
from headgate.compile.isa.madd import Madd
from headgate.compile.isa.vector import joined, picked
from headgate.compile.isa.vnni import Vnni
from headgate.compile.kernels import tir
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, INT32, UINT8


class EmulatedVnni(Vnni):
    """LLVM makes of its 16 lanes what the machine has."""

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        width = min(lanes, 8)
        parts = [range(at, at + width) for at in range(0, lanes, width)]
        found = [
            Madd.dot(
                None,  # type: ignore[arg-type]  # it reads nothing of itself
                picked(total, part),
                [(picked(a, part), picked(b, part)) for a, b in pairs],
                width,
                UINT8,
            )
            for part in parts
        ]
        return joined(found, width)

    def compress(self, table: Expr, mask: Expr) -> Expr:
        size = self.choices
        bytes_, wanted, found = (tir.local(size, UINT8) for _ in range(3))
        count = tir.local(1, INT32)
        tir.store(bytes_, 0, table, size)
        tir.store(wanted, 0, mask, size)
        tir.store(found, 0, tir.splat(0, size, UINT8), size)
        tir.store(count, 0, tir.int32(0))
        with tir.loop(size) as i, tir.when(wanted[i] > tirx.IntImm(UINT8, 0)):
            at = tir.let(count[0])
            tir.store(found, at, bytes_[i])
            tir.store(count, 0, at + 1)
        return tir.load(found, 0, size)


def find(target: Target) -> EmulatedVnni | None:
    """As if every x86 had them."""
    if target.arch != "x86_64":
        return None
    cycles = {16: 1.0, 8: 0.58}
    return EmulatedVnni("vnni", INT8, cycles, load_cycles=cycles, cache_bytes=1 << 20)


class Finder:
    """What ``isa`` asks for an instruction set, as its files answer."""

    find = staticmethod(find)


EVERYWHERE = (Finder, *isa._ALL)
"""The instruction sets of the compiler behind the emulated one."""
