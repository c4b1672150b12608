"""Which reports belong side by side, and the ratios between them.

Two networks are variants of one if their layers with arithmetic have the same names: gating and
pruning keep them. Of the variants without gates, the one with the most MACs is the dense network,
the others were pruned for good. The dense one on the same board and threads is what ratios are
against; they are of separate runs, unlike those of ``headgate compare``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headgate.device.agent import definitions
from headgate.device.machines.ssh.address import Address
from headgate.profiling.absent import NotMeasured, is_measured

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Ratio:
    """Of medians, with an interval."""

    median: float
    low: float
    high: float


@dataclass(eq=False)
class Entry:
    """One report and what it is held against."""

    report: Data
    label: str = ""
    """The network's name, with what tells it from others of that name on the board."""
    kind: str = "dense"
    """``dense``, ``gated`` or ``pruned``."""
    baseline: Entry | None = None
    """None for the dense network itself, and where there is none."""

    @property
    def name(self) -> str:
        return str(self.report["bundle"]["name"])

    @property
    def latency(self) -> Data:
        """Or ``{"not_measured": reason}``."""
        return dict(self.report["latency"])

    @property
    def energy(self) -> Data:
        """Or ``{"not_measured": reason}``."""
        return dict(self.report["energy"])

    @property
    def threads(self) -> int | None:
        return self.latency["threads"] if is_measured(self.latency) else None

    @property
    def median_us(self) -> float | NotMeasured:
        """Of the runs that only took times."""
        if is_measured(self.latency):
            return float(self.latency["latency_us"]["percentiles"]["p50"]["value"])
        return NotMeasured(self.latency["not_measured"])

    @property
    def dense_macs(self) -> int | None:
        """With every channel computed, and without the gates."""
        if not is_measured(self.latency):
            return None
        return definitions.dense_macs(self.latency["layers"])

    @property
    def done_macs(self) -> float | None:
        """Mean over the inputs, the gates' own included."""
        return statistics.fmean(self.latency["done_macs"]) if is_measured(self.latency) else None

    def invalid_because(self, part: str = "energy") -> list[str]:
        """Why ``latency`` or ``energy`` does not count; what spoils energy alone spares latency."""
        reasons: list[str] = self.report["invalid_because"]
        if part == "energy":
            return reasons
        return [reason for reason in reasons if not reason.startswith("energy: ")]

    def speedup(self) -> Ratio | NotMeasured:
        """The dense network's time over this one's; the interval takes both intervals' far ends."""
        problem = self._unsound("latency")
        if problem is not None:
            return problem
        assert self.baseline is not None
        own, base = (
            one.latency["latency_us"]["percentiles"]["p50"] for one in (self, self.baseline)
        )
        if min(own["value"], own["low"], base["value"], base["low"]) <= 0:
            return NotMeasured("a latency of 0 has no ratio")
        return Ratio(
            base["value"] / own["value"], base["low"] / own["high"], base["high"] / own["low"]
        )

    def energy_ratio(self) -> Ratio | NotMeasured:
        """The dense network's gross energy over this one's; the interval is that of the inputs."""
        problem = self._unsound("energy")
        if problem is not None:
            return problem
        assert self.baseline is not None
        own, base = self.energy, self.baseline.energy
        if _instrument(own) != _instrument(base):
            return NotMeasured(
                f"measured by {_instrument(own)} here, by {_instrument(base)} for "
                f"{self.baseline.label}"
            )
        before, after = (
            {window["sample"]: window["energy_per_inference_mj"] for window in one["windows"]}
            for one in (base, own)
        )
        shared = [sample for sample in after if sample in before]
        if not shared:
            return NotMeasured("its windows are of other inputs than the dense network's")
        # A sensor too coarse for so small a load reads 0, and below where it is not zeroed.
        energies = [one["energy_per_inference_mj"] for one in (base, own)]
        energies += [one[sample] for one in (before, after) for sample in shared]
        if min(energies) <= 0:
            return NotMeasured(f"the sensor read an energy of {min(energies):g} mJ")
        by_input = [before[sample] / after[sample] for sample in shared]
        median = base["energy_per_inference_mj"] / own["energy_per_inference_mj"]
        return Ratio(median, min(by_input), max(by_input))

    def macs_saved(self) -> float | NotMeasured:
        """1 - done MACs / MACs of the dense network."""
        wanted = self.baseline.dense_macs if self.baseline else None
        if not wanted or self.done_macs is None:
            return NotMeasured("no dense network to hold it against")
        return definitions.macs_saved(self.done_macs, wanted)

    def realised(self) -> float | NotMeasured:
        """Share of the time saved over share of the MACs saved."""
        speedup, saved = self.speedup(), self.macs_saved()
        for value in (speedup, saved):
            if isinstance(value, NotMeasured):
                return value
        assert isinstance(speedup, Ratio) and isinstance(saved, float)
        return definitions.realised(speedup.median, saved)

    def _unsound(self, part: str) -> NotMeasured | None:
        """Why no ratio of ``latency`` or ``energy`` can rest on the two reports."""
        if self.baseline is None:
            dense = self.kind == "dense" and is_measured(self.latency)
            return NotMeasured(
                "the dense network itself" if dense else "no dense network beside it"
            )
        for entry in (self, self.baseline):
            measured = entry.report[part]
            if not is_measured(measured):
                return NotMeasured(f"{part} of {entry.label}: {measured['not_measured']}")
            if entry.invalid_because(part):
                return NotMeasured(f"the run of {entry.label} is invalid")
        return None


@dataclass(eq=False)
class Board:
    """One board, and the reports that came from it."""

    title: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def context(self) -> Data:
        """Of its first report, before the run."""
        return dict(self.entries[0].report["context"]["before"])

    def families(self) -> list[list[Entry]]:
        """Variants of one network together, the dense one first."""
        found: dict[Any, list[Entry]] = {}
        for entry in self.entries:
            if is_measured(entry.latency):
                found.setdefault((_family(entry), entry.threads), []).append(entry)
        order = ("dense", "pruned", "gated")
        return [sorted(one, key=lambda entry: order.index(entry.kind)) for one in found.values()]


def boards_of(reports: Sequence[Data]) -> list[Board]:
    """Boards in the order of their first report.

    Boards of one model often have the host name that their system came with: what tells such
    apart is their own identity, and of reports without one the name they were measured by.
    """
    boards: dict[tuple[str, str, str], Board] = {}
    for report in reports:
        before = report["context"]["before"]
        key = _board_name(before), _text(before["hostname"]), _identity(report)
        board = boards.setdefault(key, Board(key[0]))
        board.entries.append(Entry(report))
    _name(boards)
    for board in boards.values():
        _relate(board)
        _label(board.entries)
    return list(boards.values())


def machine_of(report: Data) -> str | None:
    """What `headgate profile --on` called the board; None where its agent was called there."""
    name = report.get("machine")
    return name if isinstance(name, str) else None


def _identity(report: Data) -> str:
    identity = report["context"]["before"].get("board_id")
    if isinstance(identity, str):
        return identity
    name = machine_of(report) or ""
    # `pi@kitchen` and `pi@kitchen:22` are one board; a name of boards.toml is what it is.
    return "{}:{}".format(*Address.parse(name).place) if "@" in name else name


def _name(boards: Mapping[tuple[str, str, str], Board]) -> None:
    """By model; where that is not enough, by host name; where that is not, by what else differs."""
    models = [model for model, *_ in boards]
    hosts = [key[:2] for key in boards]
    machines = [(*key[:2], machine_of(one.entries[0].report)) for key, one in boards.items()]
    for (model, host, identity), board in boards.items():
        machine = machine_of(board.entries[0].report)
        unique = machines.count((model, host, machine)) == 1
        named = machine if machine and unique else identity[:8]
        own = named if hosts.count((model, host)) > 1 else ""
        words = ", ".join(word for word in (host, own) if word)
        if models.count(model) > 1 and words:
            board.title = f"{model} ({words})"


def is_gate(layer: Data) -> bool:
    """Whether a layer exists only because of gating."""
    return definitions.is_gate(layer["operator"])


def _relate(board: Board) -> None:
    for entry in board.entries:
        gates = entry.report["gates"]
        if is_measured(gates) and gates:
            entry.kind = "gated"
    for family in board.families():
        whole = [one for one in family if one.kind == "dense"]
        if not whole:
            continue
        dense = max(whole, key=lambda one: one.dense_macs or 0)
        for entry in family:
            # The same network, measured again, is no variant of itself.
            if entry.kind == "gated" or (entry.dense_macs or 0) < (dense.dense_macs or 0):
                entry.kind = "gated" if entry.kind == "gated" else "pruned"
                entry.baseline = dense


def _label(entries: Sequence[Entry]) -> None:
    """By name; where that is not enough, by threads; where that is not, by time."""
    for entry in entries:
        namesakes = [one for one in entries if one.name == entry.name]
        entry.label = entry.name
        if len(namesakes) == 1:
            continue
        if len({one.threads for one in namesakes}) == len(namesakes):
            entry.label += f", {_count(entry.threads, 'thread')}"
        else:
            entry.label += f", {entry.report['context']['before']['taken_utc']}"


def _count(number: int | None, what: str) -> str:
    return f"{number or '?'} {what}{'' if number == 1 else 's'}"


def _family(entry: Entry) -> tuple[str, ...]:
    return tuple(
        one["name"] for one in entry.latency["layers"] if one["dense_macs"] and not is_gate(one)
    )


def _instrument(energy: Data) -> str:
    return f"{energy['sensor']} ({' + '.join(energy['total'])})"


def _board_name(context: Data) -> str:
    for key in ("board", "cpu"):
        if is_measured(context[key]):
            return str(context[key])
    return f"an unknown {context['architecture']} board"


def _text(value: Any) -> str:
    return str(value) if is_measured(value) else ""
