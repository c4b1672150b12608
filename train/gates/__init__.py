"""Channel gates: which output channels of a convolution are worth computing for this input.

One method, one file. A new method is a subclass of :class:`GatedConv2d` and a row in ``METHODS``.
"""

from headgate.train.gates.attach import METHODS, gate, set_density
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.fbs import FBSConv2d
from headgate.train.gates.find import Convolution, find_convolutions
from headgate.train.gates.layer import GatedLayer, gates
from headgate.train.gates.measures import (
    GateStatistics,
    check_finite,
    gate_loss,
    gate_statistics,
)
from headgate.train.gates.operators import gated_conv2d, keep_top_k

__all__ = [
    "METHODS",
    "Convolution",
    "FBSConv2d",
    "GateStatistics",
    "GatedConv2d",
    "GatedLayer",
    "check_finite",
    "find_convolutions",
    "gate",
    "gate_loss",
    "gate_statistics",
    "gated_conv2d",
    "gates",
    "keep_top_k",
    "set_density",
]
