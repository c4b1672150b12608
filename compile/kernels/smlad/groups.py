"""The loops around a convolution for Cortex-M: groups, and what is not computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from headgate.compile.kernels.lists import segment
from headgate.compile.kernels.tir import Buffer, Expr, let, loop


class Groups(ABC):
    """Writes one kernel; ``buffers`` are its arguments by name.

    What is multiplied is the business of a subclass, as is ``finish``, the end of an output.
    """

    def __init__(self, kernel: Any, buffers: dict[str, Buffer], finish: Any) -> None:
        self.kernel, self.layout, self.shape = kernel, kernel.layout, kernel.shape
        self.buffers, self.finish = buffers, finish

    @abstractmethod
    def _group(self, group: Expr, inputs: tuple[Expr, Expr], outputs: tuple[Expr, Expr]) -> None:
        """One group, whose active channels are (first position, length) on both sides."""

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
