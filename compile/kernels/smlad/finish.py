"""From sums to codes: what stands behind the inner loop of a convolution.

All that a result needs of its output channel is one *row* of four words: where its plane begins,
the bias, what the sum is multiplied with, and what is added. Rows are constants, or are put
together for the active outputs before the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from headgate.compile.isa import soft_float
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels.convolution import Epilogue
from headgate.compile.kernels.i8.words import apart
from headgate.compile.kernels.smlad.layout import PIXELS
from headgate.compile.kernels.smlad.words import as_float, code, within
from headgate.compile.kernels.tir import Buffer, Expr, let, loop, store
from headgate.device.tensor_type import FLOAT32, INT32

ROW = 4
"""Words of a row."""
_START, _BIAS, _SCALE, _SHIFT = range(ROW)


def constant_rows(
    channels: Sequence[int], pixels: int, bias: np.ndarray, factor: np.ndarray
) -> np.ndarray:
    """The rows of outputs that nothing gates, int32 (outputs, 4)."""
    rows = np.zeros((len(bias), ROW), np.int32)
    rows[:, _START] = np.array(channels) * pixels
    rows[:, _BIAS] = bias
    rows[:, _SCALE] = np.asarray(factor, np.float32).view(np.int32)
    return rows


def write_row(
    buffers: dict[str, Buffer], outputs: Buffer, at: Expr, channel: Expr, pixels: int
) -> None:
    """Puts the row of an active output at row ``at`` of ``outputs``."""
    scale = buffers["factor"][channel]
    if "gate" in buffers:
        scale = scale * buffers["gate"][channel]
    row = let(at * ROW)
    store(outputs, row + _START, channel * pixels)
    store(outputs, row + _BIAS, buffers["bias"][channel])
    store(outputs, row + _SCALE, read_as(INT32, 1, scale))
    if "shift" in buffers:
        store(outputs, row + _SHIFT, read_as(INT32, 1, buffers["shift"][channel]))


@dataclass(frozen=True)
class Finish:
    """What an epilogue reads and writes; what there is none of is None."""

    epilogue: Epilogue
    residual_dtype: str
    result: Buffer
    outputs: Buffer
    residual: Buffer = None
    residual_factor: Buffer = None

    @classmethod
    def of(cls, epilogue: Epilogue, dtypes: Sequence[str], buffers: dict[str, Buffer]) -> Finish:
        """Among a kernel's arguments by name."""
        y = buffers["y"]
        residual = {"in_place": y, "separate": buffers.get("residual")}.get(epilogue.residual or "")
        factor = buffers.get("residual_factor")
        return cls(epilogue, dtypes[-2], y, buffers.get("outputs"), residual, factor)

    def begin(self, acc: Buffer, row: Expr, size: int) -> None:
        """The sums of a tile of ``size`` outputs begin with their biases."""
        for i in range(size):
            bias = let(self.outputs[row + (i * ROW + _BIAS)])
            for v in range(PIXELS):
                store(acc, i * PIXELS + v, bias)

    def added(self, value: Expr, at: Expr) -> Expr:
        """``value`` and the residual at ``at``."""
        # Where the result goes there lie codes of the residual, which may have the other sign.
        own = read_as(self.residual_dtype, 1, self.residual[at])
        other = apart(as_float(own) * self.residual_factor[0], 1)
        return other if value is None else value + other

    def code(self, value: Expr) -> Expr:
        """The code of a result, int32."""
        return code(value, self.epilogue.clamp, self.result.dtype)

    def result_of(self, total: Expr, scale: Expr, shift: Expr | None, at: Expr | None) -> Expr:
        """The code of a sum; ``at`` is where its residual lies."""
        if soft_float.is_soft():
            return self.without_fpu(total, scale, shift, at)
        value = apart(as_float(total) * scale, 1)
        if shift is not None:
            value = value + shift
        return self.code(value if at is None else self.added(value, at))

    def without_fpu(self, total: Expr, scale: Expr, shift: Expr | None, at: Expr | None) -> Expr:
        """The same code, by functions that need integers for it nearly always."""
        shift = tirx.FloatImm(FLOAT32, 0.0) if shift is None else shift
        if at is None:
            value = soft_float.nearest_scaled(total, scale, shift)
        else:
            own = tirx.Cast(INT32, read_as(self.residual_dtype, 1, self.residual[at]))
            factor = self.residual_factor[0]
            value = soft_float.nearest_added(total, scale, shift, own, factor)
        return within(value, self.epilogue.clamp, self.result.dtype)

    def end(self, acc: Buffer, row: Expr, size: int, pixels: tuple[Expr, Expr]) -> None:
        """Finishes and stores a tile.

        Everything is read before anything is written: an output or a pixel that fills up the tile
        repeats another, and must find the residual as it was.
        """
        for i in range(size):
            own = row + i * ROW
            scale = let(read_as(FLOAT32, 1, self.outputs[own + _SCALE]))
            start = self.outputs[own + _START] if self.epilogue.residual else None
            shift = None
            if self.epilogue.gate:
                shift = let(read_as(FLOAT32, 1, self.outputs[own + _SHIFT]))
            for v, pixel in enumerate(pixels):
                at = None if start is None else let(start + pixel)
                found = self.result_of(acc[i * PIXELS + v], scale, shift, at)
                store(acc, i * PIXELS + v, found)
        for i in range(size):
            start = let(self.outputs[row + (i * ROW + _START)] + pixels[0])
            for v, pixel in enumerate(pixels):
                stored = tirx.Cast(self.result.dtype, acc[i * PIXELS + v])
                store(self.result, start + (pixel - pixels[0]), stored)

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
            with loop(pixels) as p:
                at = let(start + p)
                value = self.added(constant, at) if self.epilogue.residual else constant
                store(self.result, at, tirx.Cast(self.result.dtype, self.code(value)))
