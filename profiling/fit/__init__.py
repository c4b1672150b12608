"""Whether a network fits a microcontroller, without the board."""

from headgate.profiling.fit.analysis import Analysis, Executed, analyze
from headgate.profiling.fit.timeline import draw_arena

__all__ = ["Analysis", "Executed", "analyze", "draw_arena"]
