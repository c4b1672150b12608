"""Kernels of int8 for cores with Helium (Cortex-M55): sixteen products of codes at a time."""

from headgate.compile.kernels.mve.conv2d import ConvKernel
from headgate.compile.kernels.mve.depthwise import Depthwise
from headgate.compile.kernels.mve.gating import ChannelMean
from headgate.compile.kernels.mve.linear import Linear
from headgate.compile.kernels.mve.pool import MaxPool

__all__ = ["ChannelMean", "ConvKernel", "Depthwise", "Linear", "MaxPool"]
