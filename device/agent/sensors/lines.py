"""Meters that talk in lines of CSV: parsing, their clocks, and reading them from a thread.

A line has named columns, from a header or by default ``timestamp_s,power_mw``. Power is a column
whose name ends in ``_uw``, ``_mw`` or ``_w``; else one of volts times one of amperes. Without a
column for time, a line is stamped when it arrives.
"""

from __future__ import annotations

import math
import os
import re
import select
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import SensorError, describe
from ..system import System
from .base import Channel, Sample, Sensor

DEFAULT_HEADER = "timestamp_s,power_mw"
_TIME = {
    "timestamp_s": 1e9,
    "time_s": 1e9,
    "timestamp_ms": 1e6,
    "time_ms": 1e6,
    "timestamp_us": 1e3,
    "timestamp_ns": 1.0,
}
_POWER = {"_uw": 1e3, "_mw": 1.0, "_w": 1e-3}
_VOLTS = {"_uv": 1e6, "_mv": 1e3, "_v": 1.0}
_AMPERES = {"_ua": 1e6, "_ma": 1e3, "_a": 1.0}
_CLOCK_JUMP_NS = 1_000_000_000
_OFFSET_AGE_NS = 5_000_000_000
_FIRST_LINE_S = 10.0
_WORD = re.compile("[A-Za-z]{2}")


class MeterClock:
    """Maps a meter's own timestamps to the board's monotonic clock.

    Lines arrive late by what the transport takes, never early, so the smallest difference of the
    last five to ten seconds is the offset: old enough to have met a quick line, young enough to
    follow a clock that runs fast or slow. When a line is off by more than a second, the meter's
    clock has been set: that is counted, and the offset is found anew.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._earlier_ns: int | None = None
        self._latest_ns: int | None = None
        self._since_ns = 0

    def to_monotonic(self, meter_ns: int, arrived_ns: int) -> int:
        """Board time of a sample."""
        late = arrived_ns - meter_ns
        known = [offset for offset in (self._earlier_ns, self._latest_ns) if offset is not None]
        if known and abs(late - min(known)) > _CLOCK_JUMP_NS:
            self.jumps += 1
            self._earlier_ns = self._latest_ns = None
            known = []
        if not known or arrived_ns - self._since_ns > _OFFSET_AGE_NS:
            self._earlier_ns, self._latest_ns = self._latest_ns, late
            self._since_ns = arrived_ns
        assert self._latest_ns is not None
        self._latest_ns = min(self._latest_ns, late)
        if self._earlier_ns is None:
            return meter_ns + self._latest_ns
        return meter_ns + min(self._earlier_ns, self._latest_ns)


@dataclass(frozen=True)
class Columns:
    """Where time and power are, and what makes nanoseconds and milliwatts of them."""

    names: tuple[str, ...]
    time: int | None
    time_factor: float
    power: tuple[int, ...]
    """One column, or the two to be multiplied."""
    divisor: float

    @classmethod
    def of(cls, header: str, wanted: str | None = None) -> Columns:
        """Find them by name.

        Raises:
            SensorError: there is no column with power, or not the one that is wanted.
        """
        names = tuple(name.strip().lower() for name in header.split(","))
        time = next((index for index, name in enumerate(names) if name in _TIME), None)
        factor = 1.0 if time is None else _TIME[names[time]]
        if wanted is not None and wanted.lower() not in names:
            raise SensorError(f"no column {wanted!r} in the meter's header: {', '.join(names)}")
        candidates = names if wanted is None else (wanted.lower(),)
        power = _by_unit(candidates, _POWER)
        if power is not None:
            name, divisor = power
            return cls(names, time, factor, (names.index(name),), divisor)
        volts, amperes = _by_unit(names, _VOLTS), _by_unit(names, _AMPERES)
        if wanted is None and volts is not None and amperes is not None:
            places = (names.index(volts[0]), names.index(amperes[0]))
            return cls(names, time, factor, places, volts[1] * amperes[1] / 1000)
        raise SensorError(
            f"no column with power among {', '.join(names)}: name it with its unit, such as "
            "power_mw, or voltage_v and current_ma"
        )

    def read(self, line: str) -> tuple[int | None, float]:
        """Nanoseconds of the meter's clock, if it has one, and milliwatts.

        Raises:
            ValueError: the line is cut off or holds no numbers.
        """
        cells = line.split(",")
        if len(cells) != len(self.names):
            raise ValueError(f"{len(cells)} columns, not {len(self.names)}: {line[:60]!r}")
        power_mw = 1.0
        for index in self.power:
            power_mw *= float(cells[index])
        if not math.isfinite(power_mw):
            raise ValueError(f"no number: {line[:60]!r}")
        time_ns = None
        if self.time is not None:
            time_ns = round(float(cells[self.time]) * self.time_factor)
        return time_ns, power_mw / self.divisor


def _by_unit(names: tuple[str, ...], units: dict[str, float]) -> tuple[str, float] | None:
    for name in names:
        for unit, divisor in units.items():
            if name.endswith(unit) and name not in _TIME:
                return name, divisor
    return None


def is_header(line: str) -> bool:
    """Whether a line names columns instead of filling them."""
    try:
        return not [float(cell) for cell in line.split(",")]
    except ValueError:
        return True


def may_name(header: str, line: str) -> bool:
    """Whether a first line that was not understood may be the header of a line of figures.

    Otherwise it is the rest of a line (``,987.6`` or ``e-05,9.1``), or noise.
    """
    return _WORD.search(header) is not None and header.count(",") == line.count(",")


@dataclass
class LineSensor(Sensor):
    """A stream of lines, read by a thread that stamps each with its time of arrival.

    Subclasses open and close the stream. A line that cannot be read is counted and left out.
    """

    system: System = field(default_factory=System)
    column: str | None = None
    joins_midway: bool = False
    """The first line may be the rest of one, so it counts only if it is a header that is
    understood."""
    first_line_s: float = _FIRST_LINE_S
    bad_lines: int = 0
    clock: MeterClock = field(default_factory=MeterClock)
    _arrived: deque[Sample] = field(default_factory=deque)
    _problem: str = ""
    _first: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _wake: tuple[int, int] = (-1, -1)

    @abstractmethod
    def open(self) -> int:
        """A file descriptor to read from.

        Raises:
            SensorError: it cannot be opened.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back the descriptor and what is behind it."""

    def ending(self) -> str:
        """Why a stream ended that should not have."""
        return "the meter sends no more"

    def interrupt(self) -> None:
        """Tell what is behind the stream to end; the thread may be about to wait for it."""

    def start(self) -> None:
        """Open the stream and wait for its first sample."""
        descriptor = self.open()
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()
        arrived = self._first.wait(self.first_line_s)
        if not arrived or (self._problem and not self._arrived):
            problem = self._problem or f"no sample within {self.first_line_s:g} s"
            self.stop()
            raise SensorError(f"{self.name}: {problem}")

    def poll(self, now_ns: int) -> list[Sample]:
        """What arrived since the last time.

        Raises:
            OSError: the stream has ended.
        """
        samples = [self._arrived.popleft() for _ in range(len(self._arrived))]
        if not samples and self._problem:
            raise OSError(self._problem)
        return samples

    def stop(self) -> None:
        """End the thread, then the stream."""
        if self._thread is not None:
            os.write(self._wake[1], b"x")
            self.interrupt()
            self._thread.join()
            self._thread = None
            for end in self._wake:
                os.close(end)
        self.close()

    def oddities(self) -> dict[str, int]:
        """Lines left out, and times that the meter's clock was set."""
        return {"bad_lines": self.bad_lines, "clock_jumps": self.clock.jumps}

    def _read(self, descriptor: int) -> None:
        try:
            for sample in self._samples(descriptor):
                self._arrived.append(sample)
                self._first.set()
        except (OSError, SensorError) as error:
            self._problem = describe(error)
        self._first.set()

    def _samples(self, descriptor: int) -> Iterator[Sample]:
        columns: Columns | None = None
        refused: tuple[str, SensorError] | None = None
        beginning = True
        for raw, arrived_ns in self._lines(descriptor):
            line = raw.decode(errors="replace").strip()
            if not line or line.startswith("#"):
                continue
            first, beginning = beginning, False
            if is_header(line) and columns is None:
                try:
                    columns = Columns.of(line, self.column)
                except SensorError as error:
                    if not (first and self.joins_midway):
                        raise
                    refused = line, error
                continue
            if first and self.joins_midway:
                continue
            if columns is None:
                # Figures under names that mean nothing to us are not to be guessed at.
                if refused is not None and may_name(refused[0], line):
                    raise refused[1]
                columns = Columns.of(DEFAULT_HEADER if "," in line else "power_mw", self.column)
            try:
                meter_ns, power_mw = columns.read(line)
            except (ValueError, OverflowError):
                self.bad_lines += 1
                continue
            time_ns = arrived_ns
            if meter_ns is not None:
                time_ns = self.clock.to_monotonic(meter_ns, arrived_ns)
            yield Sample(time_ns, {"power": power_mw})

    def _lines(self, descriptor: int) -> Iterator[tuple[bytes, int]]:
        """Whole lines and when they arrived, until :meth:`stop`.

        Raises:
            OSError: the stream ended or failed.
        """
        rest = b""
        while True:
            ready, _, _ = select.select([descriptor, self._wake[0]], [], [])
            if self._wake[0] in ready:
                return
            data = os.read(descriptor, 65536)
            arrived_ns = self.system.monotonic_ns()
            if not data:
                self.bad_lines += bool(rest)
                raise OSError(self.ending())
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line, arrived_ns


def meter_channel(source: str) -> Channel:
    """The one channel of a meter."""
    return Channel("power", "external", source)
