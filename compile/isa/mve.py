"""Helium, the vectors of Cortex-M55: sixteen products of codes are added to one sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from headgate.compile.isa import scalar
from headgate.compile.isa.base import Expr
from headgate.compile.isa.scalar import Scalar
from headgate.compile.isa.smlad import nearest as nearest_of_one
from headgate.compile.isa.vector import intrinsic, named
from headgate.device.targets import Target
from headgate.device.tensor_type import INT32, UINT8

Buffer = Any

BYTES = 16
"""Of a vector."""
UINT32 = "uint32"


class Mve(Scalar):
    """As :class:`Scalar` for kernels of any instructions, whose four lanes are a vector here."""

    fuses_means = False  # VADDVA takes an eighth of an instruction for a number that it reads again

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return nearest(value, lanes)


def _flag(value: int) -> Expr:
    """What an instruction is told when compiling."""
    return tirx.IntImm(INT32, value)


@dataclass(frozen=True)
class Row:
    """How the tiles of a row are written.

    There are ``groups`` of ``runs`` runs; the sums of an output begin ``pitch`` words behind those
    of the last.
    """

    outputs: int
    groups: int
    runs: int
    pitch: int

    @property
    def name(self) -> str:
        """Of LLVM's function, of which a module has one for each kind of row."""
        return f"headgate_row_{self.outputs}_{self.groups}_{self.runs}_{self.pitch}"


FRAME = 11
"""Words of what a row of tiles reads from memory: see :func:`write_frame`."""
_STEPS, _BACK, _END, _WEIGHTS = (6, 7), 8, 9, 10
_SUMS = ("r0", "r2", "r4", "r6", "r8", "r10")
"""VMLADAVA adds to registers of even numbers only."""


def _store(low: str, high: str, base: str, offset: int) -> list[str]:
    """Instructions that store two registers."""
    if offset <= 1020:
        return [f"strd {low}, {high}, [{base}, #{offset}]"]
    if offset + 4 < 1 << 12:
        return [f"str {low}, [{base}, #{offset}]", f"str {high}, [{base}, #{offset + 4}]"]
    upper = [f"movt lr, #{offset >> 16}"] if offset >> 16 else []
    lower = f"movw lr, #{offset & 0xFFFF}"
    return [lower, *upper, f"add lr, {base}", f"strd {low}, {high}, [lr]"]


def _row_text(row: Row) -> str:
    """LLVM's text of a row of tiles, whose loops are written in the instructions themselves.

    Left to LLVM, the places that runs are read from are kept in memory and counted on one by one,
    which costs as much as the products of a run.
    """
    outputs, runs = row.outputs, row.runs
    first, second, weight, sums, frame, count = (f"${i}" for i in range(6))
    vector = [f"vldrb.u8 q0, [{first}], #{BYTES}", f"vldrb.u8 q2, [{second}], #{BYTES}"]
    for i in range(outputs):
        own = f"q{1 + 2 * (i % 2)}"
        vector += [
            f"vldrb.u8 {own}, [{weight}], #{BYTES}",
            f"vmladava.s8 {_SUMS[2 * i]}, q0, {own}",
            f"vmladava.s8 {_SUMS[2 * i + 1]}, q2, {own}",
        ]
    code = ["3:", f"ldr {weight}, [{frame}, #{4 * _WEIGHTS}]"]
    for i in range(outputs):
        code.append(f"ldrd {_SUMS[2 * i]}, {_SUMS[2 * i + 1]}, [{frame}, #{8 * i}]")

    def move(slot: int) -> list[str]:
        return [
            f"ldr lr, [{frame}, #{4 * slot}]",
            *(f"add {pixel}, lr" for pixel in (first, second)),
        ]

    for run in range(row.groups * runs):
        if run:
            code += move(_STEPS[run % runs == 0])
        code += [f"wls lr, {count}, 2f", "1:", *vector, "le lr, 1b", "2:"]
    code += move(_BACK)
    # The first store moves on, which brings the second within the reach of another such.
    code.append(f"strd {_SUMS[0]}, {_SUMS[1]}, [{sums}], #8")
    for i in range(1, outputs):
        code += _store(_SUMS[2 * i], _SUMS[2 * i + 1], sums, 4 * i * row.pitch - 8)
    code += [f"ldr lr, [{frame}, #{4 * _END}]", f"cmp {sums}, lr", "bne 3b"]
    clobbers = [*_SUMS[: 2 * outputs], "q0", "q1", "q2", "q3", "lr", "cc", "memory"]
    bound = ["=&r"] * 4 + ["r"] * 2 + ["0", "1", "3"] + [f"~{{{name}}}" for name in clobbers]
    lines = r"\0A".join(code)
    pointers = "ptr %x0, ptr %x1, ptr %w, ptr %sums, ptr %frame"
    return f"""
define void @{row.name}({pointers}, i32 %n, i32 %t) {{
  %bytes = shl i32 %t, 3
  %end = getelementptr i8, ptr %sums, i32 %bytes
  %last = getelementptr i32, ptr %frame, i32 {_END}
  store ptr %end, ptr %last
  %weights = getelementptr i32, ptr %frame, i32 {_WEIGHTS}
  store ptr %w, ptr %weights
  %all = call {{ptr, ptr, ptr, ptr}} asm sideeffect "{lines}", "{",".join(bound)}"\
(ptr %frame, i32 %n, ptr %x0, ptr %x1, ptr %sums)
  ret void
}}
"""


_HIDDEN = """
define i32 @headgate_hidden(i32 %number) {
  %same = call i32 asm "", "=r,0"(i32 %number)
  ret i32 %same
}
"""


def hidden(number: Expr) -> Expr:
    """A number that LLVM takes for one that is known when running only.

    Where it knows how often a loop turns it writes many of them out; flash is small.
    """
    return T.Bind(T.call_extern(INT32, "headgate_hidden", number))


@contextmanager
def rows_of_tiles(kinds: Sequence[Row]) -> Iterator[None]:
    """Where :func:`hidden` may be used, and :func:`add_row` for rows of these kinds."""
    text = "".join([_HIDDEN, *(_row_text(row) for row in kinds)])
    with T.attr(tirx.IntImm(INT32, 0), "pragma_import_llvm", text):
        yield


def write_frame(frame: Buffer, steps: tuple[Expr, Expr], back: Expr) -> None:
    """What all rows have in common; where biases go, twice each, is at the front.

    Args:
        frame: int32 (FRAME,).
        steps: bytes from the end of a run of a pixel to the next run, and to that of a next group.
        back: bytes from the end of the last run of a tile to the first of the next tile.
    """
    for slot, value in zip((*_STEPS, _BACK), (*steps, back), strict=True):
        T.buffer_store(frame, value, [tirx.IntImm(INT32, slot)])


def add_row(
    row: Row,
    pixels: Sequence[tuple[Buffer, Expr]],
    weights: Buffer,
    sums: tuple[Buffer, Expr],
    frame: Buffer,
    vectors: Expr,
    tiles: Expr,
) -> None:
    """Writes the sums of ``tiles`` tiles, each of two pixels and some outputs.

    Args:
        row: one of the kinds that :func:`rows_of_tiles` knows.
        pixels: where the first run of the first two is, int8.
        weights: int8 [run][vector][output][16].
        sums: where they go, int32 [output][pixel].
        frame: biases, and what :func:`write_frame` writes.
        vectors: of a run.
        tiles: one at least.
    """
    places = [T.address_of(b[at]) for b, at in (*pixels, (weights, 0), sums, (frame, 0))]
    T.evaluate(T.call_extern("void", row.name, *places, vectors, tiles))


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    """``total`` and the products of two vectors of int8."""
    signed, added, in_order = _flag(0), _flag(0), _flag(0)
    return intrinsic(INT32, "arm.mve.vmldava", signed, added, in_order, total, left, right)


def sum_of(vector: Expr, dtype: str) -> Expr:
    """The sum of a vector's numbers, which are of ``dtype``."""
    return intrinsic(INT32, "arm.mve.addv", vector, _flag(dtype == UINT8))


def nearest(value: Expr, lanes: int) -> Expr:
    """float32 to the nearest int32, ties to even; beyond int32 the nearest that it holds."""
    if lanes == 1:
        return nearest_of_one(value)
    return intrinsic(named(INT32, lanes), "arm.mve.vcvtn", _flag(0), value)


def nearest_unsigned(value: Expr, lanes: int) -> Expr:
    """A vector of float32 to the nearest uint32; what is negative becomes zero."""
    return intrinsic(named(UINT32, lanes), "arm.mve.vcvtn", _flag(1), value)


def take(buffer: Buffer, at: Expr, offsets: Expr, lanes: int, dtype: str = "int16") -> Expr:
    """Codes at ``offsets`` (lanes of unsigned ``dtype``'s size) from ``at`` on, widened to it.

    The sign of int8 is kept.
    """
    bits, unscaled, unsigned = _flag(8), _flag(0), _flag(buffer.dtype == UINT8)
    return T.Bind(
        T.call_llvm_intrin(
            named(dtype, lanes),
            "llvm.arm.mve.vldr.gather.offset",
            *(T.address_of(buffer[at]), offsets, bits, unscaled, unsigned),
        )
    )


def put(buffer: Buffer, at: Expr, offsets: Expr, value: Expr) -> None:
    """Stores the low bytes of numbers of 16 bits at ``offsets`` (uint16) from ``at`` on."""
    bits, unscaled = _flag(8), _flag(0)
    T.evaluate(
        T.call_llvm_intrin(
            "void",
            "llvm.arm.mve.vstr.scatter.offset",
            *(T.address_of(buffer[at]), offsets, value, bits, unscaled),
        )
    )


def find(target: Target) -> Mve | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not target.has("mve"):
        return None
    own = scalar.find(target)
    return None if own is None else Mve(**{**vars(own), "name": "mve"})
