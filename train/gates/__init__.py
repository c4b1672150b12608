"""Gates: which channels of a convolution, or pixels of them, are worth computing for this input."""

from headgate.train.gates.attach import METHODS, gate, set_density
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.cgnet import CGNetConv2d
from headgate.train.gates.dcp import DCPConv2d
from headgate.train.gates.fbs import FBSConv2d
from headgate.train.gates.find import Convolution, find_convolutions
from headgate.train.gates.following import FollowingConv2d
from headgate.train.gates.layer import GatedLayer, gates
from headgate.train.gates.measures import (
    GateStatistics,
    check_finite,
    gate_loss,
    gate_statistics,
)
from headgate.train.gates.operators import following_conv2d, gated_conv2d, keep_top_k
from headgate.train.gates.pixel_operator import pixel_gated_conv2d
from headgate.train.gates.threshold_target import set_target
from headgate.train.gates.thresholds import calibrate

__all__ = [
    "METHODS",
    "CGNetConv2d",
    "Convolution",
    "DCPConv2d",
    "FBSConv2d",
    "FollowingConv2d",
    "GateStatistics",
    "GatedConv2d",
    "GatedLayer",
    "calibrate",
    "check_finite",
    "find_convolutions",
    "following_conv2d",
    "gate",
    "gate_loss",
    "gate_statistics",
    "gated_conv2d",
    "gates",
    "keep_top_k",
    "pixel_gated_conv2d",
    "set_density",
    "set_target",
]
