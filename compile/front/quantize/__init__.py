"""From a fused float32 graph to one of int8: ranges by calibration, codes, and their reference.

What codes are is said in :mod:`headgate.train.quantization`, which training imitates them with.
"""

from __future__ import annotations

from headgate.compile.front.quantize.convert import quantize
from headgate.compile.front.quantize.ranges import check_varied, find_ranges

__all__ = ["check_varied", "find_ranges", "quantize"]
