"""From a fused float32 graph to one of int8: ranges by calibration, codes, and their reference.

A code is an integer that stands for ``scale x code``. Activations have one scale for a tensor and
are uint8 where they cannot be negative, else int8; weights are int8 within -127..127 with a scale
for each output. Zero is the code zero everywhere, so a channel that is skipped and the border of
an image cost nothing.
"""

from __future__ import annotations

from headgate.compile.front.quantize.convert import quantize
from headgate.compile.front.quantize.ranges import find_ranges

__all__ = ["find_ranges", "quantize"]
