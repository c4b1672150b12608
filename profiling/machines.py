"""Which reports belong side by side, and the ratios between them (profiling/README.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured, is_measured
from headgate.device.agent.energy import Energy
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.latency import Latency
from headgate.device.agent.percentiles import Summary
from headgate.device.agent.report import Report
from headgate.device.machines.ssh.address import Address
from headgate.profiling.missing import derive, figure
from headgate.profiling.statistics import Ratio, ratio_of_medians

EMULATED = "qemu:"
Figure = TypeVar("Figure")


@dataclass(eq=False)
class Entry:
    """One report and what it is held against."""

    report: Report
    label: str = ""
    """The network's name, with what tells it from others of that name on the machine."""
    kind: str = "dense"
    """``dense``, ``gated`` or ``pruned``."""
    baseline: Entry | None = None
    """None for the dense network itself, and where there is none."""

    @property
    def name(self) -> str:
        return self.report.bundle.name

    @property
    def latency(self) -> Latency | NotMeasured:
        return self.report.latency

    @property
    def energy(self) -> Energy | NotMeasured:
        return self.report.energy

    @property
    def latency_us(self) -> Summary | NotMeasured:
        return figure(self.latency, "latency_us")

    @property
    def firmware(self) -> Firmware | NotMeasured:
        return self.report.firmware

    @property
    def threads(self) -> int | None:
        return None if isinstance(self.latency, NotMeasured) else self.latency.threads

    @property
    def dense_macs(self) -> Any:
        """A number, or why there is none."""
        return figure(self.latency, "dense_macs")

    @property
    def executed_macs(self) -> float | NotMeasured:
        """Mean over the inputs."""
        if isinstance(self.latency, NotMeasured):
            return NotMeasured("MACs are known from latency runs only")
        return self.latency.mean_macs

    def invalid_because(self, part: str = "energy") -> list[str]:
        """Why ``latency`` or ``energy`` does not count; what spoils energy alone spares latency."""
        reasons: list[str] = self.report.invalid_because
        if part == "energy":
            return reasons
        return [reason for reason in reasons if not reason.startswith("energy: ")]

    @property
    def speedup(self) -> Ratio | NotMeasured:
        """The dense network's time over this one's; the interval takes both intervals' far ends."""
        return self._against_dense("latency", "latency_us", _speedup)

    @property
    def energy_ratio(self) -> Ratio | NotMeasured:
        """The dense network's gross energy over this one's; the interval is that of the inputs."""
        return self._against_dense("energy", "energy", _energy_ratio)

    @property
    def macs_saved(self) -> float | NotMeasured:
        """Share of the dense network's MACs that were not executed."""
        dense = self.baseline and self.baseline.dense_macs
        if not dense:
            return NotMeasured("no dense network to hold it against")
        return derive(definitions.macs_saved, self.executed_macs, dense)

    @property
    def realised(self) -> float | NotMeasured:
        """Share of the time saved over share of the MACs saved."""
        speedup = figure(self.speedup, "median")
        return derive(definitions.realised, speedup, self.macs_saved)

    @property
    def fewer(self) -> float | NotMeasured:
        """The dense network's cycles over this one's; under QEMU instructions."""

        def ratio(own: Firmware, base: Firmware) -> float | NotMeasured:
            return base.count / own.count if own.count else NotMeasured("a count of 0")

        return self._against_dense("latency", "firmware", ratio)

    @property
    def count_realised(self) -> float | NotMeasured:
        """Share of the cycles saved over share of the MACs saved."""
        return derive(definitions.realised, self.fewer, self.macs_saved)

    @property
    def energy_per_mac_nj(self) -> float | NotMeasured:
        """Nanojoules of gross energy for an executed MAC."""
        if self.executed_macs == 0:
            return NotMeasured("no MACs were executed")
        energy_mj = figure(self.energy, "energy_per_inference_mj")
        return derive(lambda mj, macs: mj * 1e6 / macs, energy_mj, self.executed_macs)

    def _against_dense(
        self, part: str, name: str, ratio: Callable[[Any, Any], Figure | NotMeasured]
    ) -> Figure | NotMeasured:
        """``ratio`` of what is called ``name`` here and in the dense network, if both count."""
        if self.baseline is None:
            dense = self.kind == "dense" and isinstance(self.latency, Latency)
            return NotMeasured(
                "the dense network itself" if dense else "no dense network beside it"
            )
        for entry in (self, self.baseline):
            measured = getattr(entry, name)
            if isinstance(measured, NotMeasured):
                return NotMeasured(f"{part} of {entry.label}: {measured.reason}")
            if entry.invalid_because(part):
                return NotMeasured(f"the run of {entry.label} is invalid")
        return ratio(getattr(self, name), getattr(self.baseline, name))


def _speedup(own: Summary, base: Summary) -> Ratio | NotMeasured:
    if min(own.median, own.middle.low, base.median, base.middle.low) <= 0:
        return NotMeasured("a latency of 0 has no ratio")
    return ratio_of_medians(base.middle, own.middle)


def _energy_ratio(own: Energy, base: Energy) -> Ratio | NotMeasured:
    if _instrument(own) != _instrument(base):
        return NotMeasured(
            f"measured by {_instrument(own)} here, by {_instrument(base)} for the dense network"
        )
    before, after = (
        {window.sample: window.energy_per_inference_mj for window in one.windows}
        for one in (base, own)
    )
    shared = [sample for sample in after if sample in before]
    if not shared:
        return NotMeasured("its windows are of other inputs than the dense network's")
    # A sensor too coarse for so small a load reads 0, and below where it is not zeroed.
    energies = [one.energy_per_inference_mj for one in (base, own)]
    energies += [one[sample] for one in (before, after) for sample in shared]
    if min(energies) <= 0:
        return NotMeasured(f"the sensor read an energy of {min(energies):g} mJ")
    by_input = [before[sample] / after[sample] for sample in shared]
    median = base.energy_per_inference_mj / own.energy_per_inference_mj
    return Ratio(median, min(by_input), max(by_input))


@dataclass(eq=False)
class Board:
    """One machine, and the reports that came from it."""

    title: str
    entries: list[Entry] = field(default_factory=list)

    def families(self) -> list[list[Entry]]:
        """Variants of one network together, the dense one first."""
        found: dict[Any, list[Entry]] = {}
        for entry in self.entries:
            if isinstance(entry.latency, Latency):
                key = _layers(entry.latency), entry.threads, entry.report.bundle.dtype
                found.setdefault(key, []).append(entry)
        order = ("dense", "pruned", "gated")
        return [sorted(one, key=lambda entry: order.index(entry.kind)) for one in found.values()]


def boards_of(reports: Sequence[Report]) -> list[Board]:
    """Boards in the order of their first report."""
    boards: dict[tuple[str, str, str], Board] = {}
    for report in reports:
        host = report.context.before.hostname
        key = _board_name(report), host if isinstance(host, str) else "", _identity(report)
        board = boards.setdefault(key, Board(key[0]))
        board.entries.append(Entry(report))
    _name(boards)
    for board in boards.values():
        _relate(board)
        _label(board.entries)
    return list(boards.values())


def _identity(report: Report) -> str:
    """What tells boards of one model and host name apart."""
    identity, name = report.context.before.board_id, report.machine or ""
    if name.startswith(EMULATED):
        return name
    if isinstance(identity, str):
        return identity
    # `pi@kitchen` and `pi@kitchen:22` are one board; a name of boards.toml is what it is.
    return "{}:{}".format(*Address.parse(name).place) if "@" in name else name


def _name(boards: Mapping[tuple[str, str, str], Board]) -> None:
    """By model; where that is not enough, by host name; where that is not, by what else differs."""
    models = [model for model, *_ in boards]
    hosts = [key[:2] for key in boards]
    machines = [(*key[:2], one.entries[0].report.machine) for key, one in boards.items()]
    for (model, host, identity), board in boards.items():
        machine = board.entries[0].report.machine
        unique = machines.count((model, host, machine)) == 1
        named = machine if machine and unique else identity[:8]
        own = named if hosts.count((model, host)) > 1 else ""
        words = ", ".join(word for word in (host, own) if word)
        if models.count(model) > 1 and words:
            board.title = f"{model} ({words})"


def _relate(board: Board) -> None:
    for entry in board.entries:
        if is_measured(entry.report.gates) and entry.report.gates:
            entry.kind = "gated"
    for family in board.families():
        whole = [one for one in family if one.kind == "dense"]
        if not whole:
            continue
        dense = max(whole, key=lambda one: one.dense_macs)
        for entry in family:
            # The same network, measured again, is no variant of itself.
            if entry.kind == "gated" or entry.dense_macs < dense.dense_macs:
                entry.kind = "gated" if entry.kind == "gated" else "pruned"
                entry.baseline = dense


def _label(entries: Sequence[Entry]) -> None:
    """By name and type; where that is not enough, by threads; where that is not, by time."""
    for entry in entries:
        dtype = entry.report.bundle.dtype
        namesakes = [
            one for one in entries if (one.name, one.report.bundle.dtype) == (entry.name, dtype)
        ]
        entry.label = entry.name if dtype == "float32" else f"{entry.name}, {dtype}"
        if len(namesakes) == 1:
            continue
        if len({one.threads for one in namesakes}) == len(namesakes):
            entry.label += f", {entry.threads or '?'} thread{'' if entry.threads == 1 else 's'}"
        else:
            entry.label += f", {entry.report.context.before.taken_utc}"


def _layers(latency: Latency) -> tuple[str, ...]:
    """The names that all variants of one network have."""
    return tuple(one.name for one in latency.layers if one.dense_macs and not one.is_gate)


def _instrument(energy: Energy) -> str:
    return f"{energy.sensor} ({' + '.join(energy.total)})"


def _board_name(report: Report) -> str:
    if report.machine and report.machine.startswith(EMULATED):
        return report.machine
    context = report.context.before
    for name in (context.board, context.cpu):
        if isinstance(name, str):
            return name
    return f"an unknown {context.architecture} board"
