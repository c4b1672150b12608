"""From reports of boards to what the page shows: texts, drawings, nothing left to compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.device.agent.definitions import CONVENTION
from headgate.profiling import charts, units
from headgate.profiling.absent import NotMeasured, is_measured
from headgate.profiling.boards.cells import cell, ratio_cell
from headgate.profiling.boards.command import command
from headgate.profiling.boards.context_view import context_facts
from headgate.profiling.boards.energy_view import energy_rows, traces
from headgate.profiling.boards.entries import Board, Entry, Ratio, boards_of
from headgate.profiling.boards.layer_view import layer_tables
from headgate.profiling.distribution_view import TAIL, distribution_rows

Data = Mapping[str, Any]

_CONVENTIONS = (
    "Latency is one inference, timed in C on the board, in rounds over the inputs; intervals are "
    "of 95 %, from how rounds differ. Speed-ups are ratios of medians of separate runs on one "
    "board and as many threads; their interval takes the far ends of both intervals.",
    "Energy follows MLPerf Tiny: windows of at least 10 s and 10 inferences, one input each, the "
    "median over the windows. Net is above the idle board. Energy-delay is gross energy times "
    "latency; beside a ratio is what single inputs give, least to most. Energy is never measured "
    "in the runs that time.",
    "Realised is the share of the time saved over the share of the MACs saved.",
    CONVENTION,
)


def build_board_view(data: Data) -> dict[str, Any]:
    """Everything the template needs; the same data give the same view."""
    boards = boards_of(data["boards"])
    entries = [entry for board in boards for entry in board.entries]
    return {
        "title": data["title"],
        "where": _where(boards),
        "tiles": _tiles(boards),
        "invalid": _invalid(boards),
        "warnings": _warnings(boards),
        "overview": [_overview(board, one) for board in boards for one in board.entries],
        "has_overview": len(boards) > 1,
        "boards": [_board(board) for board in boards],
        "commands": [
            *dict.fromkeys(command(entry.report) for entry in entries),
            *data["reproduce"],
        ],
        "conventions": _CONVENTIONS,
    }


def _where(boards: Sequence[Board]) -> str:
    taken = sorted(
        entry.report["context"]["before"]["taken_utc"] for one in boards for entry in one.entries
    )
    days = [time.partition("T")[0] for time in taken]
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{', '.join(board.title for board in boards)}, {when}"


def _tiles(boards: Sequence[Board]) -> list[dict[str, str]]:
    """The variant that saves most time on its board, in numbers that count."""
    # A run whose energy does not count comes only where there is no other.
    ranked = [
        (not entry.invalid_because(), speedup.median, board, entry)
        for board in boards
        for entry in board.entries
        if isinstance(speedup := entry.speedup(), Ratio)
    ]
    if not ranked:
        return []
    _, _, board, entry = max(ranked, key=lambda one: one[:2])
    assert entry.baseline is not None
    against = f"{entry.label} against {entry.baseline.label} on {board.title}"
    tiles = []
    for ratio, better, worse in (
        (entry.speedup(), "faster", "of the speed"),
        (entry.energy_ratio(), "less energy", "of the energy efficiency"),
    ):
        if isinstance(ratio, Ratio):
            tiles.append(
                {
                    "number": units.times(ratio.median),
                    "label": better if ratio.median >= 1 else worse,
                    "note": f"{against}, {ratio.low:.2f} to {ratio.high:.2f}",
                }
            )
    realised, saved = entry.realised(), entry.macs_saved()
    if isinstance(realised, float) and isinstance(saved, float):
        tiles.append(
            {
                "number": units.percent(realised),
                "label": "of the saving realised",
                "note": f"{units.percent(saved)} of the MACs were saved",
            }
        )
    return tiles


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


def _warnings(boards: Sequence[Board]) -> list[tuple[str, list[str]]]:
    """Each warning once, with the runs that it is about."""
    about: dict[str, list[str]] = {}
    for board in boards:
        for entry in board.entries:
            for line in entry.report["warnings"]:
                names = about.setdefault(line, [])
                name = f"{entry.label} on {board.title}" if len(boards) > 1 else entry.label
                if name not in names:
                    names.append(name)
    return list(about.items())


def _overview(board: Board, entry: Entry) -> dict[str, Any]:
    energy = entry.energy
    return {
        "board": board.title if entry is board.entries[0] else "",
        "name": entry.label,
        "kind": entry.kind,
        "median": cell(entry.median_us, units.microseconds),
        "speedup": ratio_cell(entry.speedup()),
        "gross": cell(_energy(entry, "energy_per_inference_mj"), units.millijoules),
        "net": cell(_energy(entry, "net_energy_per_inference_mj"), units.millijoules),
        "scope": energy["scope"] if is_measured(energy) else "",
        "is_invalid": bool(entry.invalid_because()),
    }


def _energy(entry: Entry, key: str) -> Any:
    return entry.energy[key] if is_measured(entry.energy) else entry.energy


def _board(board: Board) -> dict[str, Any]:
    timed = [one for one in board.entries if is_measured(one.latency)]
    return {
        "title": board.title,
        "rows": _verdict(board.entries),
        "distributions": distribution_rows(
            [(one.label, one.kind, one.latency["latencies_us"]) for one in timed]
        ),
        "energy": energy_rows(board.entries),
        "has_energy": any(is_measured(one.energy) for one in board.entries),
        "traces": traces(board.entries),
        "layers": layer_tables(board.families()),
        "context": context_facts(board.entries),
    }


def _verdict(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Latency of every network on the board."""
    percentiles = [
        one.latency["latency_us"]["percentiles"] for one in entries if is_measured(one.latency)
    ]
    longest = max((one["p50"]["value"] for one in percentiles), default=1.0)
    # A tail far out would squeeze all medians to nothing; the number is beside it anyway.
    scale = 1.02 * min(
        max((one["p95"]["value"] for one in percentiles), default=1.0), TAIL * longest
    )
    return [_verdict_row(entry, scale) for entry in entries]


def _verdict_row(entry: Entry, scale: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": entry.label,
        "kind": entry.kind,
        "against": entry.baseline.label if entry.baseline else "",
        "is_invalid": bool(entry.invalid_because("latency")),
        "outputs": _outputs(entry),
        "median": cell(entry.median_us, units.microseconds),
        "interval": "",
        "bar": "",
        "tails": [],
        "inputs": "",
        "speedup": ratio_cell(entry.speedup()),
        "macs": cell(
            NotMeasured("known from latency runs only")
            if entry.done_macs is None
            else entry.done_macs,
            units.macs,
        ),
        "macs_spread": "",
        "saved": cell(entry.macs_saved(), units.percent),
        "realised": cell(entry.realised(), units.percent),
    }
    if not is_measured(entry.latency):
        return row
    latency = entry.latency
    found = latency["latency_us"]["percentiles"]
    middle, tail = found["p50"], found["p95"]
    row["interval"] = f"{units.microseconds(middle['low'])} to {units.microseconds(middle['high'])}"
    row["bar"] = charts.latency_bar(
        middle["value"],
        middle["low"],
        middle["high"],
        tail["value"],
        scale,
        entry.kind,
        f"median {units.microseconds(middle['value'])}, 95 % interval {row['interval']}",
    )
    row["tails"] = [units.microseconds(found[name]["value"]) for name in ("p95", "p99")]
    per_input, macs = latency["median_us_per_input"], latency["done_macs"]
    least, most = units.microseconds(min(per_input)), units.microseconds(max(per_input))
    if least != most:
        row["inputs"] = f"by input {least} to {most}"
    if min(macs) != max(macs):
        row["macs_spread"] = f"{units.macs(min(macs))} to {units.macs(max(macs))}"
    return row


def _outputs(entry: Entry) -> dict[str, str]:
    """Are they PyTorch's?"""
    outputs = entry.report["outputs"]
    found = cell(outputs, lambda check: "as PyTorch's" if check["passed"] else "wrong")
    error = f"error {outputs['max_error']:.1g}" if is_measured(outputs) else ""
    return {**found, "error": error}
