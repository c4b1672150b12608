"""Meters that talk in lines of CSV: their clocks, and reading them from a thread."""

from __future__ import annotations

import os
import select
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..absent import NotMeasured
from ..errors import SensorError, describe
from .base import SAMPLED, Channel, Sample, Sensor
from .columns import Columns, is_cut_off, is_header, may_name

_CLOCK_JUMP_NS = 1_000_000_000
_OFFSET_AGE_NS = 5_000_000_000
_FIRST_LINE_S = 10.0


class MeterClock:
    """Maps a meter's own timestamps to the board's monotonic clock.

    Lines arrive late by what the transport takes, never early, so the smallest difference of the
    last five to ten seconds is the offset. When a line is off by more than a second, the meter's
    clock has been set: that is counted, and the offset is found anew.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._offsets_ns: deque[int] = deque(maxlen=2)
        self._since_ns = 0

    def to_monotonic(self, meter_ns: int, arrived_ns: int) -> int:
        late, offsets = arrived_ns - meter_ns, self._offsets_ns
        if offsets and abs(late - min(offsets)) > _CLOCK_JUMP_NS:
            self.jumps += 1
            offsets.clear()
        if not offsets or arrived_ns - self._since_ns > _OFFSET_AGE_NS:
            offsets.append(late)  # and forgets the one before the last
            self._since_ns = arrived_ns
        offsets[-1] = min(offsets[-1], late)
        return meter_ns + min(offsets)


@dataclass
class Meter(Sensor):
    """A sensor with a clock of its own; what arrives by itself is kept until it is polled."""

    kind: str = SAMPLED
    channels: list[Channel] = field(default_factory=list)
    total: list[str] | NotMeasured = field(default_factory=lambda: ["power"])
    scope: str = "what the meter is wired to"
    rate_hz: float = 10.0
    clock: MeterClock = field(default_factory=MeterClock)
    _arrived: deque[Sample] = field(default_factory=deque)
    _first: threading.Event = field(default_factory=threading.Event)

    def poll(self, now_ns: int) -> list[Sample]:
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def oddities(self) -> dict[str, int]:
        return {"clock_jumps": self.clock.jumps}


@dataclass
class LineSensor(Meter):
    """A stream of lines, read by a thread that stamps each with its time of arrival.

    A line that cannot be read is counted and left out.
    """

    column: str | None = None
    joins_midway: bool = False
    """The stream may start mid-line: line one is dropped unless it is a valid header."""
    first_line_s: float = _FIRST_LINE_S
    bad_lines: int = 0
    first_bad: str = ""
    _problem: str = ""
    _thread: threading.Thread | None = None
    _wake: tuple[int, int] = (-1, -1)

    @abstractmethod
    def open(self) -> int:
        """A file descriptor to read from."""

    @abstractmethod
    def close(self) -> None:
        """Give back the descriptor and what is behind it."""

    def ending(self) -> str:
        """Why a stream ended that should not have."""
        return "the meter sends no more"

    def interrupt(self) -> None:
        """Tell what is behind the stream to end; the thread may be about to wait for it."""

    def start(self) -> None:
        descriptor = self.open()
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()
        arrived = self._first.wait(self.first_line_s)
        if not arrived or (self._problem and not self._arrived):
            problem = self._problem or f"no sample within {self.first_line_s:g} s"
            if self.bad_lines:
                problem += f"; lines left out: {self.bad_lines}, the first: {self.first_bad}"
            self.stop()
            raise SensorError(f"{self.name}: {problem}")

    def poll(self, now_ns: int) -> list[Sample]:
        samples = super().poll(now_ns)
        if not samples and self._problem:
            raise OSError(self._problem)
        return samples

    def stop(self) -> None:
        if self._thread is not None:
            os.write(self._wake[1], b"x")
            self.interrupt()
            self._thread.join()
            self._thread = None
            for end in self._wake:
                os.close(end)
        self.close()

    def oddities(self) -> dict[str, int]:
        return {"bad_lines": self.bad_lines, **super().oddities()}

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
        # A first line that may be a header, or the rest of one, until another one tells.
        header: str | None = None
        beginning = True
        for raw, arrived_ns in self._lines(descriptor):
            line = raw.decode(errors="replace").strip("\ufeff \r\n")
            if not line.strip() or line.startswith("#"):
                continue
            first, beginning = beginning, False
            if is_header(line) and columns is None:
                if first and self.joins_midway:
                    header = line
                else:
                    columns = Columns.of(line, self.column)
                continue
            if first and self.joins_midway:
                continue
            if columns is None:
                # Figures under names that mean nothing to us are not to be guessed at.
                if header is not None and may_name(header, line):
                    if is_cut_off(header):
                        raise SensorError(f"{header[:60]!r} is the rest of a header; send it again")
                    columns = Columns.of(header, self.column)
                else:
                    columns = Columns.default(line, self.column)
            try:
                meter_ns, power_mw = columns.read(line)
            except (ValueError, OverflowError) as error:
                self.bad_lines += 1
                self.first_bad = self.first_bad or describe(error)
                continue
            time_ns = arrived_ns
            if meter_ns is not None:
                time_ns = self.clock.to_monotonic(meter_ns, arrived_ns)
            yield Sample(time_ns, {"power": power_mw})

    def _lines(self, descriptor: int) -> Iterator[tuple[bytes, int]]:
        """Whole lines and when they arrived, until :meth:`stop`; an OSError if the stream ends."""
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
