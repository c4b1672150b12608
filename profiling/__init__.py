"""Latency, arithmetic, instructions, peers and reports. Imports without torch and TVM."""

from headgate.device.agent.report import InstructionCount, Report
from headgate.profiling.compare import compare
from headgate.profiling.comparison import Comparison, Contestant, Standing
from headgate.profiling.counted import CountedComparison, CountedStanding, compare_counted
from headgate.profiling.instructions import count_instructions
from headgate.profiling.profile import profile
from headgate.profiling.report import build_report, write_report

__all__ = [
    "Comparison",
    "Contestant",
    "CountedComparison",
    "CountedStanding",
    "InstructionCount",
    "Report",
    "Standing",
    "build_report",
    "compare",
    "compare_counted",
    "count_instructions",
    "profile",
    "write_report",
]
