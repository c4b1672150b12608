"""From sums to codes, four pixels at a time: what stands behind a convolution's tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headgate.compile.isa.mve import UINT32, nearest, nearest_unsigned
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp, Epilogue
from headgate.compile.kernels.i8.words import BOUNDS, apart, store_codes, wide
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat
from headgate.device.tensor_type import FLOAT32, INT32

LANES = 4
"""Pixels of a vector of sums."""


def code(value: Expr, bounds: Clamp, lanes: int, dtype: str) -> Expr:
    """The code nearest to a float32, half to even, within ``bounds``, in a lane of 32 bits."""
    (low, high), (least, greatest) = bounds, BOUNDS[dtype]
    low, high = int(least if low is None else low), int(greatest if high is None else high)
    if low == 0 and lanes > 1:
        return tir.minimum(nearest_unsigned(value, lanes), splat(high, lanes, UINT32))
    found = tir.maximum(nearest(value, lanes), splat(low, lanes, INT32))
    return tir.minimum(found, splat(high, lanes, INT32))


def each_vector(size: Expr, move: Callable[[Expr, int], None]) -> None:
    """``move(at, lanes)`` for all of ``size`` numbers, the last ones one by one."""
    whole = quotient(size, LANES)
    with loop(whole) as i:
        move(let(i * LANES), LANES)
    done = let(whole * LANES)
    with loop(let(size - done)) as i:
        move(let(done + i), 1)


@dataclass(frozen=True)
class Finish:
    """What an epilogue reads and writes; what there is none of is None."""

    epilogue: Epilogue
    residual_dtype: str
    result: Buffer
    residual: Buffer = None
    residual_factor: Buffer = None

    @classmethod
    def of(cls, epilogue: Epilogue, dtypes: Sequence[str], buffers: dict[str, Buffer]) -> Finish:
        """Among a kernel's arguments by name."""
        y = buffers["y"]
        residual = {"in_place": y, "separate": buffers.get("residual")}.get(epilogue.residual or "")
        return cls(epilogue, dtypes[-2], y, residual, buffers.get("residual_factor"))

    def end(
        self, sums: Buffer, start: Expr, into: Expr, size: Expr, scale: Expr, shift: Expr | None
    ) -> None:
        """Stores ``size`` pixels of an output, whose sums begin at ``start``."""

        def move(at: Expr, lanes: int) -> None:
            total = wide(load(sums, start + at, lanes), lanes, FLOAT32)
            value = apart(total * splat(scale, lanes, FLOAT32), lanes)
            if shift is not None:
                value = value + splat(shift, lanes, FLOAT32)
            self._store(value, let(into + at), lanes)

        each_vector(size, move)

    def _store(self, value: Expr | None, at: Expr, lanes: int) -> None:
        """Adds the residual and writes the codes."""
        if self.epilogue.residual:
            # Where the result goes there lie codes of the residual, which may have the other sign.
            own = load(self.residual, at, lanes)
            own = tir.tirx.reinterpret(
                self.residual_dtype if lanes == 1 else f"{self.residual_dtype}x{lanes}", own
            )
            factor = splat(self.residual_factor[0], lanes, FLOAT32)
            added = apart(wide(own, lanes, FLOAT32) * factor, lanes)
            value = added if value is None else value + added
        dtype = self.result.dtype
        store_codes(self.result, at, code(value, self.epilogue.clamp, lanes, dtype), lanes)

    def finish_inactive(
        self, buffers: dict[str, Buffer], outputs: Expr, others: Expr, pixels: int
    ) -> None:
        """Channels that are not computed: residual and constant, behind the activation.

        They are the ``others`` behind the first ``outputs`` of the list.
        """
        with loop(others) as i:
            channel = let(buffers["out_list"][outputs + i])
            start = let(channel * pixels)
            constant = let(buffers["constant"][channel]) if "constant" in buffers else None

            def move(at: Expr, lanes: int, start: Expr = start, constant=constant) -> None:
                own = None if constant is None else splat(constant, lanes, FLOAT32)
                self._store(own, let(start + at), lanes)

            each_vector(pixels, move)
