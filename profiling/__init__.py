"""Latency, arithmetic, instructions, peers and reports. Imports without torch and TVM."""

from headgate.profiling.boards import build_board_report
from headgate.profiling.compare import Contestant, compare
from headgate.profiling.comparison import Comparison, Standing
from headgate.profiling.counted import CountedComparison, CountedStanding, compare_counted
from headgate.profiling.instructions import InstructionCount, count_instructions
from headgate.profiling.profile import LayerProfile, Profile, profile
from headgate.profiling.report import build_report, write_report

__all__ = [
    "Comparison",
    "Contestant",
    "CountedComparison",
    "CountedStanding",
    "InstructionCount",
    "LayerProfile",
    "Profile",
    "Standing",
    "build_board_report",
    "build_report",
    "compare",
    "compare_counted",
    "count_instructions",
    "profile",
    "write_report",
]
