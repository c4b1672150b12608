"""Which kernel computes an operator: one table, by operator, dtype, instructions and gate.

A kernel that an entry names has a class method ``of(isa, ...)`` that chooses vectors and tiles for
what it is asked for; kernels of one operator are asked for it in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.compile.isa import Isa
from headgate.compile.kernels import mve, smlad
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.float.gating import ChannelMean, KeepTopK, ListActive
from headgate.compile.kernels.float.linear import Linear
from headgate.compile.kernels.float.matmul import Matmul
from headgate.compile.kernels.float.pixel_gated import PixelGatedConv
from headgate.compile.kernels.float.planes import ClearInactive, Combine, CopyPlanes
from headgate.compile.kernels.float.top_k import KeepTopKByDigits
from headgate.compile.kernels.float.window import Depthwise, Pool
from headgate.compile.kernels.i8 import gating, inner, linear, pixel_gated, planes, table, window
from headgate.compile.kernels.kernel import Kernel
from headgate.device.tensor_type import FLOAT16, FLOAT32, INT8
from headgate.errors import CompileError


@dataclass(frozen=True)
class Entry:
    """A kernel, and what it is for."""

    operator: str
    dtype: str
    kernel: type[Kernel]
    isa: str | None = None
    """The one instruction set it is written for; None: for any."""
    gated: bool | None = None
    """Whether its input or output channels are listed; None: it does both."""

    def fits(self, operator: str, isa: Isa, gated: bool) -> bool:
        same = (self.operator, self.dtype) == (operator, isa.dtype)
        return same and self.isa in (None, isa.name) and self.gated in (None, gated)


KERNELS = (
    Entry("conv2d", FLOAT32, ConvKernel),
    Entry("depthwise_conv2d", FLOAT32, Depthwise),
    Entry("pixel_gated_conv2d", FLOAT32, PixelGatedConv),
    Entry("pool2d", FLOAT32, Pool),
    Entry("linear", FLOAT32, Linear),
    Entry("matmul", FLOAT32, Matmul),
    Entry("combine", FLOAT32, Combine),
    Entry("copy_planes", FLOAT32, CopyPlanes),
    Entry("clear_inactive", FLOAT32, ClearInactive),
    Entry("channel_mean", FLOAT32, ChannelMean),
    Entry("keep_top_k", FLOAT32, KeepTopKByDigits, isa="scalar"),
    Entry("keep_top_k", FLOAT32, KeepTopK),
    Entry("list_active", FLOAT32, ListActive),
    Entry("conv2d", FLOAT16, ConvKernel),
    Entry("depthwise_conv2d", FLOAT16, Depthwise),
    Entry("pixel_gated_conv2d", FLOAT16, PixelGatedConv),
    Entry("pool2d", FLOAT16, Pool),
    Entry("linear", FLOAT16, Linear),
    Entry("combine", FLOAT16, Combine),
    Entry("copy_planes", FLOAT16, CopyPlanes),
    Entry("clear_inactive", FLOAT16, ClearInactive),
    Entry("channel_mean", FLOAT16, ChannelMean),
    Entry("conv2d", INT8, mve.ConvKernel, isa="mve"),
    Entry("depthwise_conv2d", INT8, mve.Depthwise, isa="mve"),
    Entry("pool2d", INT8, mve.MaxPool, isa="mve"),
    Entry("linear", INT8, mve.Linear, isa="mve"),
    Entry("channel_mean", INT8, mve.ChannelMean, isa="mve"),
    Entry("conv2d", INT8, smlad.ConvKernel, isa="smlad"),
    Entry("depthwise_conv2d", INT8, smlad.Depthwise, isa="smlad"),
    Entry("pool2d", INT8, smlad.MaxPool, isa="smlad"),
    Entry("linear", INT8, smlad.Linear, isa="smlad"),
    Entry("channel_mean", INT8, smlad.ChannelMean, isa="smlad"),
    Entry("conv2d", INT8, inner.InnerConv),
    Entry("depthwise_conv2d", INT8, window.Depthwise),
    Entry("pixel_gated_conv2d", INT8, pixel_gated.PixelGatedConv),
    Entry("pool2d", INT8, window.Pool),
    Entry("linear", INT8, linear.Linear),
    Entry("combine", INT8, planes.Combine),
    Entry("copy_planes", INT8, planes.CopyPlanes),
    Entry("clear_inactive", INT8, planes.ClearInactive),
    Entry("channel_mean", INT8, gating.ChannelMean),
    Entry("quantize", INT8, planes.Quantize),
    Entry("dequantize", INT8, planes.Dequantize),
    Entry("table", INT8, table.Table),
)
"""The first that fits is taken, so what is written for one instruction set stands in front."""


def find_kernel(operator: str, isa: Isa, *, gated: bool = False) -> Any:
    """The class of the kernel for ``operator`` on numbers of the dtype of ``isa``.

    Raises:
        CompileError: there is none.
    """
    for entry in KERNELS:
        if entry.fits(operator, isa, gated):
            return entry.kernel
    raise CompileError(f"There is no kernel for {operator} of {isa.dtype} with {isa.name}.")
