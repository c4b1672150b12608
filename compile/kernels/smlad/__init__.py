"""Kernels of int8 for cores with SMLAD (Cortex-M4, M7, M33): two products of 16 bits at a time."""

from headgate.compile.kernels.smlad.conv2d import ConvKernel
from headgate.compile.kernels.smlad.depthwise import Depthwise
from headgate.compile.kernels.smlad.gating import ChannelMean
from headgate.compile.kernels.smlad.linear import Linear
from headgate.compile.kernels.smlad.pool import MaxPool

__all__ = ["ChannelMean", "ConvKernel", "Depthwise", "Linear", "MaxPool"]
