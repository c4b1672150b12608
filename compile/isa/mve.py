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
    """LLVM's text of a tile: its inner loop in the instructions themselves.

    Left to LLVM, the places that the runs are read from are kept in memory and counted on one by
    one, which costs as much as the products of a run.
    """
    places = 2 + outputs
    sums = 2 * outputs
    kinds = ["ptr"] * places + ["i32"] * sums
    lines = ["vldrb.u8 q0, [$0], #16", "vldrb.u8 q2, [$1], #16"]
    for i in range(outputs):
        weight, first = f"q{1 if i % 2 == 0 else 3}", places + 2 * i
        lines += [
            f"vldrb.u8 {weight}, [${2 + i}], #16",
            f"vmladava.s8 ${first}, q0, {weight}",
            f"vmladava.s8 ${first + 1}, q2, {weight}",
        ]
    kinds.append("i32")
    code = r"\0A".join(["wls lr, lr, 2f", "1:", *lines, "le lr, 1b", "2:"])
    ties = [str(i) for i in range(len(kinds))]
    clobbers = [f"~{{{name}}}" for name in ("q0", "q1", "q2", "q3", "memory")]
    bound = ["=r"] * places + ["=^Te"] * sums + ["={lr}", *ties, *clobbers]
    struct = "{" + ", ".join(kinds) + "}"
    own = ["%x0", "%x1", *(f"%w{i}" for i in range(outputs))]
    arguments = ", ".join(f"ptr {name}" for name in own)
    text = [
        f"define void @{_tile_name(outputs, runs)}({arguments}, i32 %n, i32 %step, ptr %sums) {{"
    ]
    values = list(own)
    for i in range(sums):
        text += [
            f"  %at{i} = getelementptr i32, ptr %sums, i32 {i}",
            f"  %sum{i} = load i32, ptr %at{i}",
        ]
        values.append(f"%sum{i}")
    for run in range(runs):
        values[places + sums :] = ["%n"]
        given = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, values, strict=True))
        text.append(
            f'  %all{run} = call {struct} asm sideeffect "{code}", "{",".join(bound)}"({given})'
        )
        values = []
        for i in range(len(kinds)):
            text.append(f"  %v{run}_{i} = extractvalue {struct} %all{run}, {i}")
            values.append(f"%v{run}_{i}")
        for v in range(2):
            text.append(f"  %x{v}_{run} = getelementptr i8, ptr {values[v]}, i32 %step")
            values[v] = f"%x{v}_{run}"
    text += [f"  store i32 {values[places + i]}, ptr %at{i}" for i in range(sums)]
    return "\n".join([*text, "  ret void", "}"])


@contextmanager
def tiles(outputs: Sequence[int], runs: int) -> Iterator[None]:
    """Where :func:`add_tile` may be used for so many outputs and runs."""
    text = "\n".join(_tile_text(size, runs) for size in outputs)
    with T.attr(tirx.IntImm(INT32, 0), "pragma_import_llvm", text):
        yield


def add_tile(
    sums: Buffer,
    pixels: Sequence[tuple[Buffer, Expr]],
    weights: Sequence[tuple[Buffer, Expr]],
    vectors: Expr,
    runs: int,
    step: Expr,
) -> None:
    """Adds the products of two pixels and some outputs to ``sums`` (int32, [output][pixel]).

    Args:
        sums: a small array.
        pixels: where the first run of each is, int8.
        weights: where those of each output are, all runs side by side, int8.
        vectors: of a run.
        runs: a constant.
        step: bytes from the end of one run of a pixel to the next.
    """
    places = [T.address_of(buffer[at]) for buffer, at in (*pixels, *weights)]
    name = _tile_name(len(weights), runs)
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
