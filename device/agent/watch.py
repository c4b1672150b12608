"""Looking at the board while the network runs: clocks, temperature, throttling."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .absent import NotMeasured
from .frequency import ClockRange, clock_files
from .system import System
from .throttle import SINCE_BOOT, firmware_bits

_PERIOD_S = 0.3
_FIRMWARE_PERIOD_NS = 1_000_000_000


@dataclass(frozen=True)
class Watched:
    """What was seen during all runs."""

    clock: ClockRange | NotMeasured
    hottest_celsius: float | NotMeasured
    firmware_bits: int | NotMeasured
    """All bits of a Raspberry Pi's firmware that were set at some time."""


class Watch:
    """Looks three times a second while a network runs.

    From a thread of its own, which the system keeps off the CPU under measurement if there is
    another one. The first look comes a third of a second after the start, when a governor that
    raises the clock under load has done so.

    A Raspberry Pi's firmware remembers that it throttled. Where it already did before the run,
    it cannot tell that it did again, so it is asked during the run, once a second.
    """

    def __init__(self, system: System, cpus: Collection[int], period_s: float = _PERIOD_S) -> None:
        self._system = system
        self._clocks = clock_files(system, cpus)
        self._zones = system.glob("sys/class/thermal/thermal_zone*/temp")
        self._period_s = period_s
        self._khz: list[int] = []
        self._millidegrees: list[int] = []
        bits = firmware_bits(system)
        self._ask_firmware = isinstance(bits, int) and bits >> SINCE_BOOT != 0
        self._bits: int | NotMeasured = (
            NotMeasured("bits 16 to 19 say it after the run") if isinstance(bits, int) else bits
        )
        self._asked_ns = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look while the block runs; several blocks add up."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(self._period_s):
                self.look()

        thread = threading.Thread(target=look, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def look(self) -> None:
        """Take one sample of everything."""
        for files, seen in ((self._clocks, self._khz), (self._zones, self._millidegrees)):
            for name in files:
                value = self._system.number(name)
                if isinstance(value, int):
                    seen.append(value)
        now_ns = self._system.monotonic_ns()
        if self._ask_firmware and now_ns - self._asked_ns >= _FIRMWARE_PERIOD_NS:
            self._asked_ns = now_ns
            bits = firmware_bits(self._system)
            if isinstance(bits, int):
                self._bits = bits | (self._bits if isinstance(self._bits, int) else 0)

    def result(self) -> Watched:
        """What was seen."""
        short = f"the runs were shorter than {self._period_s:g} s"
        clock: ClockRange | NotMeasured
        hottest: float | NotMeasured
        if self._khz:
            clock = ClockRange(min(self._khz) / 1000, max(self._khz) / 1000, len(self._khz))
        else:
            clock = NotMeasured(short if self._clocks else "no cpufreq in /sys for these CPUs")
        if self._millidegrees:
            hottest = max(self._millidegrees) / 1000
        else:
            hottest = NotMeasured(short if self._zones else "no zone in /sys/class/thermal")
        return Watched(clock, hottest, self._bits)
