"""An int8 convolution by VMLADAVA, dense or with only the active channels of either side.

The activations of active channels are copied pixel by pixel. Two outputs at a time meet all
pixels of the copy; where inputs are gated, their weights are put together just before. Their sums
are kept, and are finished four pixels at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.mve import BYTES, multiply_add
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue, by_channel
from headgate.compile.kernels.i8.words import FLIP
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, segment
from headgate.compile.kernels.mve.copying import Copy
from headgate.compile.kernels.mve.finish import Finish
from headgate.compile.kernels.mve.gathering import Gathering
from headgate.compile.kernels.mve.layout import OUTPUTS, PIXELS, Layout
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store
from headgate.device.tensor_type import FLOAT32, INT8, INT32, UINT8, TensorType

MAX_UNROLLED_RUNS = 3
"""With more, the runs of an output become a loop."""


@dataclass(frozen=True)
class ConvKernel(Kernel):
    """Everything that makes one convolution's code; equal kernels share it."""

    layout: Layout
    epilogue: Epilogue
    gated_in: bool
    clamp_inactive: bool
    placed: int
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> ConvKernel:
        sides = (request.gated_in, request.clamp_inactive, request.placed)
        return cls(Layout(request.shape), request.epilogue, *sides, dtypes)

    @property
    def shape(self) -> ConvShape:
        return self.layout.shape

    def parameters(self) -> list[Parameter]:
        x, *residual, y = self.dtypes
        found = [("x", x), ("weight", INT8), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        if self.epilogue.gate:
            found += [("gate", FLOAT32), ("shift", FLOAT32)]
        if self.epilogue.residual == "separate":
            found.append(("residual", residual[0]))
        if self.epilogue.residual:
            found.append(("residual_factor", FLOAT32))
        found += [(name, tensor.dtype) for name, tensor in self.scratch().items()]
        if self.epilogue.gate:
            found += list_parameters("out")
        elif self.placed:
            found.append(list_parameters("out")[0])
        if self.placed:
            found.append(("constant", FLOAT32))
        if self.gated_in:
            found += list_parameters("in")
        return found

    def scratch(self) -> dict[str, TensorType]:
        layout = self.layout
        found = {
            "packed": TensorType((layout.packed,), INT8),
            "sums": TensorType((OUTPUTS * layout.sums,), INT32),
        }
        if self.gated_in:
            found["chosen"] = TensorType((OUTPUTS * layout.depth(),), INT8)
            found["places"] = TensorType((layout.vectors() * BYTES,), "uint16")
        return found

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        if not self.gated_in and self.dtypes[0] == UINT8:
            totals = weight.reshape(len(weight), -1).sum(1, dtype=np.int64)
            bias = (bias + FLIP * totals).astype(np.int32)
        rows = self.layout.sources_of if self.gated_in else self.layout.rows_of
        found = {
            "weight": rows(weight),
            "bias": by_channel(attributes, bias),
            "factor": by_channel(attributes, attributes["factor"]),
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        _Emitter(self, buffers).run()


class _Emitter:
    """Writes one kernel; ``buffers`` are its arguments by name."""

    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        self.kernel, self.layout, self.shape = kernel, kernel.layout, kernel.shape
        self.buffers = buffers
        self.finish = Finish.of(kernel.epilogue, kernel.dtypes, buffers)

    def run(self) -> None:
        """The whole kernel."""
        kernel, shape = self.kernel, self.shape
        inputs = let(self.buffers["in_count"][0]) if kernel.gated_in else shape.in_channels
        outputs = let(self.buffers["out_count"][0]) if kernel.epilogue.gate else shape.out_channels
        with loop(shape.groups) as group:
            taken = self._segment("in", inputs, group, shape.group_in)
            mine = self._segment("out", outputs, group, shape.group_out)
            self._group(group, taken, mine)
        if kernel.clamp_inactive:
            others = (kernel.placed or shape.out_channels) - outputs
            self.finish.finish_inactive(self.buffers, outputs, others, shape.pixels)

    def _segment(self, side: str, count: Expr, group: Expr, size: int) -> tuple[Expr, Expr]:
        gated = f"{side}_count" in self.buffers
        order = self.buffers[f"{side}_list"] if gated else None
        return segment(order, count, group, size, self.shape.groups)

    def _group(self, group: Expr, inputs: tuple[Expr, Expr], outputs: tuple[Expr, Expr]) -> None:
        """One group, whose active channels are (first position, length) on both sides."""
        kernel, layout, shape = self.kernel, self.layout, self.shape
        first_in, count = inputs

        def channel(j: Expr) -> Expr:
            return self.buffers["in_list"][first_in + j] if kernel.gated_in else first_in + j

        copy = Copy(layout, self.buffers["x"], self.buffers["packed"], count, channel)
        gathering = None
        if kernel.gated_in:
            names = (self.buffers[name] for name in ("weight", "chosen", "places"))
            size = shape.group_in
            gathering = Gathering(layout, *names, count, lambda j: channel(j) - group * size)
            gathering.prepare()
        end = shape.out_height if layout.whole_rows else shape.pixels
        with loop(layout.chunks) as index:
            first = let(index * layout.chunk)
            equal = end % layout.chunk == 0
            size = layout.chunk if equal else let(tir.minimum(end - first, layout.chunk))
            copy.fill(first, size)
            with loop(quotient(outputs[1] + (OUTPUTS - 1), OUTPUTS)) as tile:
                some = let(outputs[0] + tile * OUTPUTS), let(outputs[0] + outputs[1] - 1)
                self._outputs(*some, gathering, count, first, size)

    def _output(self, position: Expr) -> Expr:
        """The output channel at a position of the list."""
        return self.buffers["out_list"][position] if "out_list" in self.buffers else position

    def _outputs(
        self,
        position: Expr,
        last: Expr,
        gathering: Gathering | None,
        count: Expr,
        first: Expr,
        size: Expr,
    ) -> None:
        """The outputs of a tile from ``position`` on, ``last`` is the last of all."""
        layout, shape, buffers = self.layout, self.shape, self.buffers
        depth = let(layout.depth(count))
        weights, starts, biases = buffers["weight" if gathering is None else "chosen"], [], []
        for i in range(OUTPUTS):
            # Where there is no output left, the last one is computed again, and is not stored.
            own = let(tir.minimum(position + i, last))
            row = own if self.kernel.placed else let(self._output(own))
            bias = let(buffers["bias"][self._output(own)])
            if gathering is None:
                starts.append(let(row * depth))
            else:
                total = gathering.gather(row, let(i * depth))
                starts.append(let(i * depth))
                bias = let(bias + total * FLIP) if buffers["x"].dtype == UINT8 else bias
            biases.append(bias)
        rows, width = (size, shape.out_width) if layout.whole_rows else (1, size)
        if layout.points and layout.whole_rows:
            rows, width = 1, let(size * shape.out_width)
        down = shape.stride[0] * layout.pitch
        across = 1 if layout.points else shape.stride[1]
        with loop(rows) as y:
            row_start, row_sums = let(y * (down * count)), let(y * width)
            with loop(quotient(width + (PIXELS - 1), PIXELS)) as u:
                start = let(row_start + u * (PIXELS * across * count))
                pixels = [let(start + v * across * count) for v in range(PIXELS)]
                self._tile(weights, starts, biases, pixels, count, let(row_sums + u * PIXELS))
        plane = 1 if not layout.whole_rows else shape.out_width
        pixels_done = size * plane if isinstance(size, int) else let(size * plane)
        with loop(let(tir.minimum(last - position + 1, OUTPUTS))) as i:
            own = let(self._output(position + i))
            scale = buffers["factor"][own]
            shift = None
            if self.kernel.epilogue.gate:
                scale = scale * buffers["gate"][own]
                shift = let(buffers["shift"][own])
            into = let(own * shape.pixels + first * plane)
            begin = let(i * layout.sums)
            self.finish.end(buffers["sums"], begin, into, pixels_done, let(scale), shift)

    def _tile(
        self,
        weights: Buffer,
        starts: list[Expr],
        biases: list[Expr],
        pixels: list[Expr],
        count: Expr,
        into: Expr,
    ) -> None:
        """The sums of two outputs and two pixels.

        A pixel that there is none of, at the end of a row, is overwritten by the next row's first.
        """
        layout, packed = self.layout, self.buffers["packed"]
        acc = tir.local(OUTPUTS * PIXELS, INT32)
        for i, bias in enumerate(biases):
            for v in range(PIXELS):
                store(acc, i * PIXELS + v, bias)
        vectors = layout.vectors(count)
        unrolled = layout.runs <= MAX_UNROLLED_RUNS
        with loop(1 if unrolled else layout.runs) as rolled:
            for run in range(layout.runs) if unrolled else (rolled,):
                there = let(layout.run_start(run) * count)
                here = [let(p + there) for p in pixels]
                mine = [let(w + run * (vectors * BYTES)) for w in starts]
                with loop(vectors) as k:
                    own = [let(load(packed, h + k * BYTES, BYTES)) for h in here]
                    for i, m in enumerate(mine):
                        weight = let(load(weights, m + k * BYTES, BYTES))
                        for v, pixel in enumerate(own):
                            at = i * PIXELS + v
                            store(acc, at, multiply_add(pixel, weight, acc[at]))
        sums = self.buffers["sums"]
        for i in range(OUTPUTS):
            for v in range(PIXELS):
                store(sums, into + (i * layout.sums + v), acc[i * PIXELS + v])
