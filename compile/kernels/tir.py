"""The few words in which every schedule is written, over TVM's IR builder.

Buffers are flat: a kernel takes plain C pointers and computes its own offsets, so that what is
written here is what the object file does. Counts and index lists are int32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tvm import tirx
from tvm.ir import Call, TensorLoad
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from headgate.device.tensor_type import INT32

Expr = Any
"""A TIR expression or a Python number."""
Buffer = Any

UNBOUNDED = 1 << 30
"""Extent of a buffer whose size the caller knows and the code generator does not need."""
LONGEST = 100
"""Terms of a number, written out without names, above which TVM is not to look through its name."""
_terms: ContextVar[dict[Any, int]] = ContextVar("terms")
"""Of the names of one function."""
_PARTS: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Mod), ("a", "b")),
    **dict.fromkeys((tirx.FloorDiv, tirx.FloorMod, tirx.Min, tirx.Max), ("a", "b")),
    **dict.fromkeys((tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE), ("a", "b")),
    **dict.fromkeys((tirx.And, tirx.Or), ("a", "b")),
    tirx.Select: ("condition", "true_value", "false_value"),
    tirx.Cast: ("value",),
    tirx.Not: ("a",),
}


def prim_func(name: str, parameters: list[tuple[str, str]], body: Callable[..., None]) -> PrimFunc:
    """A C function ``void name(parameters)``.

    Each parameter is ``(name, dtype)`` and becomes a pointer, handed to ``body`` as a buffer by
    its name.
    """
    _terms.set({})
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        handles = [T.arg(f"{key}_p", T.handle(dtype)) for key, dtype in parameters]
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        buffers = [
            T.decl_buffer((UNBOUNDED,), dtype, data=handle)
            for handle, (_, dtype) in zip(handles, parameters, strict=True)
        ]
        # Named so that a kernel printed as TVMScript can be read.
        names = [key for key, _ in parameters]
        body(**dict(zip(names, IRBuilder.name_many(names, buffers), strict=True)))
    return builder.get()


def local(size: int, dtype: str) -> Buffer:
    """A small array that LLVM keeps in registers where its indices are constants."""
    return T.alloc_buffer((size,), dtype, scope="local")


@contextmanager
def loop(extent: Expr) -> Iterator[Expr]:
    """``for i in range(extent)``; a constant extent of one leaves no loop behind."""
    if isinstance(extent, int) and extent == 1:
        yield 0
        return
    with T.serial(0, extent) as index:
        yield index


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """``if condition``; a constant true leaves no branch behind."""
    if condition is True:
        yield
        return
    with T.If(condition), T.Then():
        yield


def let(value: Expr) -> Expr:
    """``value`` computed once, here.

    TVM writes names out wherever it simplifies, again and again: a number made of names of names
    would cost minutes. One that is too long is taken from memory, which LLVM turns into a
    register, and TVM does not look through.
    """
    if isinstance(value, int | float):
        return value
    if str(value.ty) != INT32:
        return T.Bind(value)
    terms = _written_out(value)
    if terms > LONGEST:
        place = local(1, INT32)
        store(place, 0, value)
        value, terms = place[0], 1
    name = T.Bind(value)
    _terms.get()[name] = terms
    return name


def _written_out(value: Expr) -> int:
    """The terms of a number whose names are written out."""
    if isinstance(value, tirx.Var):
        return _terms.get().get(value, 1)
    if isinstance(value, Call):
        parts = value.args
    elif isinstance(value, TensorLoad):
        parts = value.indices
    else:
        parts = [getattr(value, name) for name in _PARTS.get(type(value), ())]
    return 1 + sum(map(_written_out, parts))


def load(buffer: Buffer, offset: Expr, lanes: int = 1, stride: int = 1) -> Expr:
    """``lanes`` elements from ``offset`` on, ``stride`` apart, as one vector."""
    if lanes == 1:
        return buffer[offset]
    if stride == 1:
        return buffer[T.ramp(offset, 1, lanes)]
    if stride == 2:
        # Two contiguous loads and a shuffle; LLVM would make one load for each lane of a ramp.
        halves = [buffer[T.ramp(offset + part * lanes, 1, lanes)] for part in (0, 1)]
        return T.Shuffle(halves, [int32(2 * lane) for lane in range(lanes)])
    return buffer[T.ramp(offset, stride, lanes)]


def store(buffer: Buffer, offset: Expr, value: Expr, lanes: int = 1) -> None:
    """Writes a vector of ``lanes`` (or one number) from ``offset`` on."""
    T.buffer_store(buffer, value, [offset if lanes == 1 else T.ramp(offset, 1, lanes)])


def store_part(buffer: Buffer, offset: Expr, value: Expr, lanes: int, count: int) -> None:
    """Writes the first ``count`` of ``lanes`` values and touches nothing behind them."""
    done = 0
    while done < count:
        width = 1 << ((count - done).bit_length() - 1)
        if width == lanes:
            part = value
        else:
            indices = [int32(done + lane) for lane in range(width)]
            part = T.Shuffle([value], indices)
        store(buffer, offset + done, part, width)
        done += width


def prefetch(buffer: Buffer, offset: Expr) -> None:
    """Has what lies at ``offset`` brought to the second-level cache, to be read."""
    read, level, data = 0, 2, 1
    arguments = [T.address_of(buffer[offset]), *map(int32, (read, level, data))]
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", *arguments))


def element(vector: Expr, index: int) -> Expr:
    """One element of a vector."""
    return T.Shuffle([vector], [int32(index)])


def int32(value: int) -> Expr:
    """A constant for counting."""
    return tirx.IntImm(INT32, value)


def splat(value: Expr, lanes: int, dtype: str) -> Expr:
    """``value`` in every lane; a Python number becomes one of ``dtype``."""
    if isinstance(value, int | float):
        value = tirx.const(value, dtype)
    return value if lanes == 1 else T.broadcast(value, lanes)


def maximum(left: Expr, right: Expr) -> Expr:
    return tirx.Max(left, right)


def minimum(left: Expr, right: Expr) -> Expr:
    return tirx.Min(left, right)


def lane_sum(vector: Expr, lanes: int) -> Expr:
    """The sum of a vector's lanes."""
    while lanes > 1:
        lanes //= 2
        low = [int32(i) for i in range(lanes)]
        high = [int32(lanes + i) for i in range(lanes)]
        vector = let(T.Shuffle([vector], low) + T.Shuffle([vector], high))
    return vector


def copy(source: Buffer, start: Expr, target: Buffer, into: Expr, count: int, lanes: int) -> None:
    """Copies ``count`` (a constant) contiguous numbers, vectors first, then one by one."""
    whole = count // lanes
    if whole:
        with loop(whole) as i:
            store(target, into + i * lanes, load(source, start + i * lanes, lanes), lanes)
    for i in range(whole * lanes, count):
        store(target, into + i, load(source, start + i))


def fill(target: Buffer, into: Expr, value: float, count: int, lanes: int, dtype: str) -> None:
    """Sets ``count`` (a constant) numbers to ``value``."""
    whole = count // lanes
    if whole:
        with loop(whole) as i:
            store(target, into + i * lanes, splat(value, lanes, dtype), lanes)
    for i in range(whole * lanes, count):
        store(target, into + i, splat(value, 1, dtype))
