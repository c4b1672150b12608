"""Looking at the board while the network runs: clocks, temperature, throttling."""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .absent import NOT_LOOKED, NotMeasured
from .frequency import ClockRange, clock_files
from .system import System
from .throttle import (
    BITS,
    SINCE_BOOT,
    Throttle,
    cooling_files,
    cooling_states,
    firmware_bits,
    undervoltage_alarm,
)

_PERIOD_S = 0.3
_FIRMWARE_PERIOD_NS = 1_000_000_000


@dataclass(frozen=True)
class Watched:
    """What was seen during all runs: bits and alarm if set at some time, of states the highest."""

    clock: ClockRange | NotMeasured
    """Of all together, which may differ without changing."""
    hottest_celsius: float | NotMeasured
    firmware_bits: int | NotMeasured
    clocks: dict[str, ClockRange] = field(default_factory=dict)
    undervoltage_alarm: bool | NotMeasured = NOT_LOOKED
    cpu_cooling_states: dict[str, int] = field(default_factory=dict)


class Watch:
    """Looks three times a second while a network runs, from a thread of its own.

    The first look comes when a governor that raises the clock under load has done so. A Raspberry
    Pi's firmware remembers that it throttled; where it already did before the run, it is asked once
    a second. Where it cannot be asked (Debian has no vcgencmd), the kernel's alarm is the witness
    of under-voltage, and the cooling devices that of heat; neither remembers.
    """

    def __init__(self, system: System, cpus: Collection[int], period_s: float = _PERIOD_S) -> None:
        self._system = system
        self._clocks = clock_files(system, cpus)
        self._zones = system.glob("sys/class/thermal/thermal_zone*/temp")
        self._coolers = cooling_files(system)
        self._period_s = period_s
        self._khz: dict[str, list[tuple[int, int]]] = {}
        """cpufreq policy -> when something was seen, and what."""
        self._millidegrees: list[int] = []
        self._cooling: dict[str, int] = {}
        self._first_alarm = undervoltage_alarm(system)
        self._alarms: list[bool] = []
        self._first_bits = firmware_bits(system)
        self._bits: list[int] = []
        self._asked_ns = 0

    @contextmanager
    def watch(self) -> Iterator[Callable[[int], None]]:
        """Look while the block runs; several blocks add up.

        Yields what is to be told when, by the monotonic clock in ns, the network had ended: a
        governor lowers the clock at once, so what was seen of it later does not count.
        """
        over = threading.Event()
        ends_ns: list[int] = []

        def look() -> None:
            while not over.wait(self._period_s):
                self.look()

        thread = threading.Thread(target=look, name="watch", daemon=True)
        thread.start()
        try:
            yield ends_ns.append
        finally:
            over.set()
            thread.join()
            if ends_ns:
                for policy, seen in self._khz.items():
                    self._khz[policy] = [one for one in seen if one[0] <= ends_ns[-1]]

    def look(self) -> None:
        for policy, name in self._clocks.items():
            khz = self._system.number(name)
            if isinstance(khz, int):
                self._khz.setdefault(policy, []).append((self._system.monotonic_ns(), khz))
        for name in self._zones:
            millidegrees = self._system.number(name)
            if isinstance(millidegrees, int):
                self._millidegrees.append(millidegrees)
        for name, state in cooling_states(self._system, self._coolers).items():
            self._cooling[name] = max(state, self._cooling.get(name, 0))
        if isinstance(self._first_alarm, bool):
            alarm = undervoltage_alarm(self._system)
            self._alarms += [alarm] if isinstance(alarm, bool) else []
        now_ns = self._system.monotonic_ns()
        throttled_before = isinstance(self._first_bits, int) and self._first_bits >> SINCE_BOOT
        if throttled_before and now_ns - self._asked_ns >= _FIRMWARE_PERIOD_NS:
            self._asked_ns = now_ns
            bits = firmware_bits(self._system)
            self._bits += [bits] if isinstance(bits, int) else []

    def result(self) -> Watched:
        too_short = NotMeasured(f"the runs were shorter than {self._period_s:g} s")
        clocks = {policy: [khz for _, khz in seen] for policy, seen in self._khz.items() if seen}
        clock: ClockRange | NotMeasured = too_short
        if clocks:
            clock = _range([khz for seen in clocks.values() for khz in seen])
        elif not self._clocks:
            clock = NotMeasured("no cpufreq in /sys for these CPUs")
        hottest: float | NotMeasured = too_short
        if self._millidegrees:
            hottest = max(self._millidegrees) / 1000
        elif not self._zones:
            hottest = NotMeasured("no zone in /sys/class/thermal")
        alarm, bits = self._first_alarm, self._first_bits
        if isinstance(alarm, bool):
            alarm = any(self._alarms) if self._alarms else too_short
        if self._bits:
            bits = functools.reduce(operator.or_, self._bits)
        elif isinstance(bits, int):
            bits = NotMeasured("bits 16 to 19 say it after the run")
        return Watched(
            clock=clock,
            hottest_celsius=hottest,
            firmware_bits=bits,
            clocks={policy: _range(seen) for policy, seen in clocks.items()},
            undervoltage_alarm=alarm,
            cpu_cooling_states=dict(self._cooling),
        )


def _range(khz: list[int]) -> ClockRange:
    return ClockRange(min(khz) / 1000, max(khz) / 1000, len(khz))


def slowing_reasons(before: Throttle, after: Throttle, during: Watched | NotMeasured) -> list[str]:
    """Why a run on a board that slowed itself down does not count."""
    seen = during if isinstance(during, Watched) else Watched(during, during, during)
    reasons = []
    old, new, bits = (
        one.firmware_bits if isinstance(one.firmware_bits, int) else 0
        for one in (before, after, seen)
    )
    for bit, name in enumerate(BITS):
        if (old | new | bits) >> bit & 1:
            reasons.append(f"{name} at the time of the run (throttled={new | bits:#x})")
        elif (new & ~old) >> (bit + SINCE_BOOT) & 1:
            reasons.append(f"{name} happened during the run (throttled={new:#x})")
    if any(one.undervoltage_alarm is True for one in (before, seen, after)):
        reasons.append("under-voltage alarm of rpi_volt; use a stronger supply or a shorter cable")
    if isinstance(before.overcurrent_events, dict) and isinstance(after.overcurrent_events, dict):
        for name, count in after.overcurrent_events.items():
            more = count - before.overcurrent_events.get(name, 0)
            if more > 0:
                reasons.append(f"{name}: throttled {more} times for over-current during the run")
    if isinstance(before.core_throttle_events, int) and isinstance(after.core_throttle_events, int):
        more = after.core_throttle_events - before.core_throttle_events
        if more > 0:
            reasons.append(f"CPU throttled {more} times for heat during the run")
    states = (before.cpu_cooling_states, seen.cpu_cooling_states, after.cpu_cooling_states)
    for name in dict.fromkeys(name for one in states for name in one):
        state = max(one.get(name, 0) for one in states)
        if state > 0:
            reasons.append(f"cooling device {name} was slowing the CPU down (state {state})")
    for policy, limit in after.frequency_limits_khz.items():
        earlier = before.frequency_limits_khz.get(policy, limit)
        if limit < earlier:
            reasons.append(
                f"{policy}: highest frequency lowered from {earlier // 1000} to "
                f"{limit // 1000} MHz during the run"
            )
    clocks = [clock.reason(policy) for policy, clock in seen.clocks.items()]
    return reasons + [reason for reason in clocks if reason is not None]
