"""Reports of the agent side by side: networks of one board, and several boards, on one page.

Nothing here measures. The figures are those that the boards reported; what is added are ratios
between them, and the reasons where a ratio would be unsound.
"""

from headgate.profiling.boards.report import build_board_report

__all__ = ["build_board_report"]
