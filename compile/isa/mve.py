"""Helium, the vectors of Cortex-M55: sixteen products of codes are added to one sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class Mve(Scalar):
    """As :class:`Scalar` for kernels of any instructions, whose four lanes are a vector here."""

    fuses_means = False  # VADDVA takes an eighth of an instruction for a number that it reads again

    def operand(self, dtype: str) -> str:
        return dtype

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return nearest(value, lanes)


def _flag(value: int) -> Expr:
    """What an instruction is told when compiling."""
    return tirx.IntImm(INT32, value)


def _tile_name(outputs: int, runs: int) -> str:
    return f"headgate_tile_{outputs}_{runs}"


def _tile_text(outputs: int, runs: int) -> str:
    """LLVM's text of a tile, whose loops are written in the instructions themselves.

    Left to LLVM, the places that runs are read from are kept in memory and counted on one by one,
    which costs as much as the products of a run.
    """
    sums = 2 * outputs
    pixel, other, weight, *totals = (f"${i}" for i in range(3 + sums))
    count, step = (f"${2 * (3 + sums) + i}" for i in range(2))
    vector = [f"vldrb.u8 q0, [{pixel}], #16", f"vldrb.u8 q2, [{other}], #16"]
    for i in range(outputs):
        own = f"q{1 + 2 * (i % 2)}"
        vector += [
            f"vldrb.u8 {own}, [{weight}], #16",
            f"vmladava.s8 {totals[2 * i]}, q0, {own}",
            f"vmladava.s8 {totals[2 * i + 1]}, q2, {own}",
        ]
    code: list[str] = []
    for run in range(runs):
        if run:
            code += [f"add {pixel}, {step}", f"add {other}, {step}"]
        code += [f"wls lr, {count}, 2f", "1:", *vector, "le lr, 1b", "2:"]
    lines = r"\0A".join(code)
    kinds = ["ptr"] * 3 + ["i32"] * sums
    ties = [str(i) for i in range(len(kinds))]
    clobbers = [f"~{{{name}}}" for name in ("q0", "q1", "q2", "q3", "lr", "memory")]
    bound = ",".join(["=&r"] * 3 + ["=&^Te"] * sums + [*ties, "r", "r", *clobbers])
    result = "{" + ", ".join(kinds) + "}"
    given = ", ".join(["ptr %x0, ptr %x1, ptr %w", *(f"i32 %sum{i}" for i in range(sums))])
    return "\n".join(
        [
            f"define void @{_tile_name(outputs, runs)}"
            "(ptr %x0, ptr %x1, ptr %w, i32 %n, i32 %step, ptr %sums) {",
            *(f"  %at{i} = getelementptr i32, ptr %sums, i32 {i}" for i in range(sums)),
            *(f"  %sum{i} = load i32, ptr %at{i}" for i in range(sums)),
            f'  %all = call {result} asm sideeffect "{lines}", "{bound}"'
            f"({given}, i32 %n, i32 %step)",
            *(f"  %new{i} = extractvalue {result} %all, {3 + i}" for i in range(sums)),
            *(f"  store i32 %new{i}, ptr %at{i}" for i in range(sums)),
            "  ret void",
            "}",
        ]
    )


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
def tiles(outputs: Sequence[int], runs: int) -> Iterator[None]:
    """Where :func:`hidden` may be used, and :func:`add_tile` for so many outputs and runs."""
    text = "\n".join([_HIDDEN, *(_tile_text(size, runs) for size in outputs)])
    with T.attr(tirx.IntImm(INT32, 0), "pragma_import_llvm", text):
        yield


def add_tile(
    sums: Buffer,
    outputs: int,
    pixels: Sequence[tuple[Buffer, Expr]],
    weights: tuple[Buffer, Expr],
    vectors: Expr,
    runs: int,
    step: Expr,
) -> None:
    """Adds the products of two pixels and some outputs to ``sums`` (int32, [output][pixel]).

    Args:
        sums: a small array.
        outputs: how many, a constant.
        pixels: where the first run of each is, int8.
        weights: where those of the outputs are, int8 [run][vector][output][16].
        vectors: of a run.
        runs: a constant.
        step: bytes from the end of one run of a pixel to the next.
    """
    places = [T.address_of(buffer[at]) for buffer, at in (*pixels, weights)]
    name = _tile_name(outputs, runs)
    T.evaluate(T.call_extern("void", name, *places, vectors, step, T.address_of(sums[0])))


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


def take(buffer: Buffer, at: Expr, offsets: Expr, lanes: int) -> Expr:
    """Bytes at ``offsets`` (uint16, lanes) from ``at`` on, widened to 16 bits by their sign."""
    bits, unscaled, signed = _flag(8), _flag(0), _flag(0)
    return T.Bind(
        T.call_llvm_intrin(
            named("int16", lanes),
            "llvm.arm.mve.vldr.gather.offset",
            *(T.address_of(buffer[at]), offsets, bits, unscaled, signed),
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
