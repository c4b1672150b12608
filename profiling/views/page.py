"""From what was measured to what the page shows: texts, drawings, nothing left to compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.device.agent.absent import is_measured
from headgate.device.agent.context import context_warnings
from headgate.device.agent.definitions import CONVENTION
from headgate.device.agent.energy import Energy
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.latency import Latency
from headgate.device.agent.report import InstructionCount
from headgate.profiling.comparison import Comparison
from headgate.profiling.data import Page
from headgate.profiling.machines import Board, boards_of
from headgate.profiling.views import latency
from headgate.profiling.views.command import command
from headgate.profiling.views.context import context_facts, facts_of
from headgate.profiling.views.effort import density, effort_view
from headgate.profiling.views.energy import energy_rows, traces
from headgate.profiling.views.firmware import CONVENTION as OF_FIRMWARE
from headgate.profiling.views.firmware import firmware_rows, firmware_tiles
from headgate.profiling.views.layers import layer_tables
from headgate.profiling.views.plots import trade_offs

_OF_REPORTS = (
    "Latency of a machine is one inference, timed in C, in rounds over the inputs; intervals are "
    "of 95 %, from how rounds differ. Speed-ups are ratios of medians of separate runs on one "
    "machine and as many threads; their interval takes the far ends of both intervals."
)
_OF_ENERGY = (
    "Energy follows MLPerf Tiny: windows of at least 10 s and 10 inferences, one input each, the "
    "median over the windows. Net is above the idle board. Energy-delay is gross energy times "
    "latency; beside a ratio is what single inputs give, least to most. Energy is never measured "
    "in the runs that time."
)


def build_view(page: Page) -> dict[str, Any]:
    """Everything the template needs; equal data give an equal view."""
    comparison = page.comparison
    standings = comparison.standings if comparison else []
    boards = boards_of(page.reports)
    # What was timed in turn is not shown again as separate runs.
    apart = [board for board in boards if not (comparison and _is_host(board))]
    entries = [entry for board in apart for entry in board.entries]
    tiles = latency.comparison_tiles(comparison) if comparison else []
    return {
        "page": page,
        "where": _where(comparison, apart),
        "tiles": tiles or latency.entry_tiles(apart) or firmware_tiles(apart),
        "invalid": _invalid(boards),
        "warnings": _warnings(comparison, boards, apart),
        "comparison": comparison,
        "standings": latency.with_bars(standings),
        "distributions": latency.distributions(
            [(one.name, one.kind, one.latencies_us) for one in standings]
        ),
        "trade_offs": trade_offs(page),
        "efforts": [effort_view(one) for one in page.efforts],
        "density": density(page.efforts),
        "apart": apart,
        "boards": [_board(board, board in apart) for board in boards],
        "instructions": _counts(page),
        "facts": facts_of(comparison) if comparison else [],
        "conventions": _conventions(comparison, apart),
        "commands": [*dict.fromkeys(command(one.report) for one in entries), *page.reproduce],
    }


def _is_host(board: Board) -> bool:
    return all(entry.report.machine == "host" for entry in board.entries)


def _where(comparison: Comparison | None, boards: Sequence[Board]) -> str:
    times = [entry.report.context.before.taken_utc for board in boards for entry in board.entries]
    names = [board.title for board in boards]
    if comparison:
        context = comparison.context
        known = [name for name in (context.board, context.cpu) if isinstance(name, str)]
        names.insert(0, (known or [context.architecture])[0])
        times.append(context.taken_utc)
    if not times:
        return ""
    first, last = (time.partition("T")[0] for time in (min(times), max(times)))
    return f"{', '.join(names)}, {first if first == last else f'{first} to {last}'}"


def _invalid(boards: Sequence[Board]) -> list[tuple[str, list[str]]]:
    """Runs that do not count, and why."""
    return [
        (
            f"{entry.label} on {board.title}"
            + ("" if entry.invalid_because("latency") else " (its energy; its latency counts)"),
            entry.invalid_because(),
        )
        for board in boards
        for entry in board.entries
        if entry.invalid_because()
    ]


def _warnings(
    comparison: Comparison | None, boards: Sequence[Board], apart: Sequence[Board]
) -> list[tuple[str, list[str]]]:
    """Each warning once, with the runs that it is about; none for those run in turn."""
    about: dict[str, list[str]] = {line: [] for line in comparison.warnings} if comparison else {}
    for board in boards:
        for entry in board.entries:
            context = entry.report.context
            said = context_warnings(context.before, context.after) if comparison else []
            for line in entry.report.warnings:
                if line in said and board not in apart:
                    continue  # the comparison says it of the same machine
                names = about.setdefault(line, [])
                name = f"{entry.label} on {board.title}" if len(boards) > 1 else entry.label
                if name not in names:
                    names.append(name)
    return list(about.items())


def _board(board: Board, is_apart: bool) -> dict[str, Any]:
    timed = [
        (one.label, one.kind, one.latency.latencies_us)
        for one in board.entries
        if isinstance(one.latency, Latency) and one.latency.latencies_us
    ]
    return {
        "title": board.title,
        "is_apart": is_apart,
        "rows": latency.with_bars(board.entries),
        "distributions": latency.distributions(timed),
        "energy": energy_rows(board.entries),
        "traces": traces(board.entries),
        "firmware": firmware_rows(board.entries),
        "layers": layer_tables(board),
        "context": context_facts(board.entries),
    }


def _counts(page: Page) -> dict[str, InstructionCount]:
    found = dict(page.instructions)
    for report in page.reports:
        # Of a microcontroller they stand beside its memory.
        of_firmware = isinstance(report.firmware, Firmware)
        if isinstance(report.instructions, InstructionCount) and not of_firmware:
            found[report.bundle.name] = report.instructions
    return found


def _conventions(comparison: Comparison | None, boards: Sequence[Board]) -> list[str]:
    entries = [entry for board in boards for entry in board.entries]
    found = [comparison.convention] if comparison else []
    found += [_OF_REPORTS] if any(is_measured(one.latency_us) for one in entries) else []
    found += [OF_FIRMWARE] if any(is_measured(one.firmware) for one in entries) else []
    found += [_OF_ENERGY] if any(isinstance(one.energy, Energy) for one in entries) else []
    return [*found, CONVENTION]
