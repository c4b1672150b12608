"""Did the board slow itself down? Every witness there is, before and after a run.

Raspberry Pi: the firmware's bits (0 under-voltage, 1 frequency capped, 2 throttled, 3 soft
temperature limit; 16 to 19: the same, since boot). Jetson: over-current events of soctherm. Any
Linux: cooling devices of the CPU, a lowered ``scaling_max_freq``, x86's throttle counters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .absent import NotMeasured
from .errors import AgentError, describe
from .system import System

_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
SINCE_BOOT = 16
_FIRMWARE_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_CPU_COOLER = re.compile(r"cpu|processor|balanced", re.IGNORECASE)


@dataclass(frozen=True)
class Throttle:
    """What the witnesses say at one moment."""

    firmware_bits: int | NotMeasured
    """Of a Raspberry Pi."""
    undervoltage_alarm: bool | NotMeasured
    """Of a Raspberry Pi's ``rpi_volt``."""
    overcurrent_events: dict[str, int] | NotMeasured
    """Of a Jetson, since boot."""
    core_throttle_events: int | NotMeasured
    """Of an x86 CPU, since boot, all cores."""
    cpu_cooling_states: dict[str, int]
    """Cooling device of the CPU -> its state; 0 is no cooling."""
    frequency_limits_khz: dict[str, int]
    """cpufreq policy -> ``scaling_max_freq``."""


@dataclass(frozen=True)
class Meanwhile:
    """What the witnesses said at some time between two moments."""

    firmware_bits: int = 0
    """All that were set."""
    undervoltage_alarm: bool = False
    cpu_cooling_states: dict[str, int] = field(default_factory=dict)
    """The highest."""


def read_throttle(system: System) -> Throttle:
    """Ask all witnesses; never fails."""
    return Throttle(
        firmware_bits=firmware_bits(system),
        undervoltage_alarm=undervoltage_alarm(system),
        overcurrent_events=_overcurrent_events(system),
        core_throttle_events=_core_throttle_events(system),
        cpu_cooling_states=cooling_states(system, cooling_files(system)),
        frequency_limits_khz=_readable(
            system, "sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq", level=-2
        ),
    )


def throttle_reasons(
    before: Throttle, after: Throttle, during: Meanwhile | None = None
) -> list[str]:
    """Why a run between the two does not count; empty if it does.

    Args:
        before: before the run.
        after: after it.
        during: what was seen in between.
    """
    reasons = []
    during = during or Meanwhile()
    bits = during.firmware_bits
    old = before.firmware_bits if isinstance(before.firmware_bits, int) else 0
    new = after.firmware_bits if isinstance(after.firmware_bits, int) else 0
    for bit, name in enumerate(_BITS):
        if (old | new | bits) >> bit & 1:
            reasons.append(f"{name} at the time of the run (throttled={new | bits:#x})")
        elif (new & ~old) >> (bit + SINCE_BOOT) & 1:
            reasons.append(f"{name} happened during the run (throttled={new:#x})")
    alarms = (before.undervoltage_alarm, during.undervoltage_alarm, after.undervoltage_alarm)
    if True in alarms:
        reasons.append("under-voltage alarm of rpi_volt; use a stronger supply or a shorter cable")
    if isinstance(before.overcurrent_events, dict) and isinstance(after.overcurrent_events, dict):
        for name, count in after.overcurrent_events.items():
            if count > before.overcurrent_events.get(name, 0):
                more = count - before.overcurrent_events.get(name, 0)
                reasons.append(f"{name}: throttled {more} times for over-current during the run")
    if isinstance(before.core_throttle_events, int) and isinstance(after.core_throttle_events, int):
        more = after.core_throttle_events - before.core_throttle_events
        if more > 0:
            reasons.append(f"CPU throttled {more} times for heat during the run")
    states = (before.cpu_cooling_states, during.cpu_cooling_states, after.cpu_cooling_states)
    for name in dict.fromkeys(name for one in states for name in one):
        state = max(one.get(name, 0) for one in states)
        if state > 0:
            reasons.append(f"cooling device {name} was slowing the CPU down (state {state})")
    for policy, limit in after.frequency_limits_khz.items():
        if limit < before.frequency_limits_khz.get(policy, limit):
            earlier = before.frequency_limits_khz[policy]
            reasons.append(
                f"{policy}: highest frequency lowered from {earlier // 1000} to "
                f"{limit // 1000} MHz during the run"
            )
    return reasons


def parse_throttled(text: str) -> int:
    """``throttled=0x50005`` of vcgencmd, or ``50005`` of sysfs.

    Raises:
        ValueError: it is neither.
    """
    return int(text.rpartition("=")[2], 16)


def firmware_bits(system: System) -> int | NotMeasured:
    """What a Raspberry Pi's firmware says about now (bits 0 to 3) and since boot (16 to 19)."""
    try:
        text = system.run("vcgencmd", "get_throttled")
        if text.startswith("throttled="):
            return parse_throttled(text)
        reason = f"vcgencmd get_throttled says {text.splitlines()[0] if text else 'nothing'}"
    except (AgentError, ValueError) as error:
        reason = describe(error)
    text_of_file = system.text(_FIRMWARE_FILE)
    if isinstance(text_of_file, NotMeasured):
        return NotMeasured(f"{reason}, {text_of_file.reason}")
    try:
        return parse_throttled(text_of_file)
    except ValueError:
        return NotMeasured(f"/{_FIRMWARE_FILE} holds {text_of_file[:20]!r}")


def undervoltage_alarm(system: System) -> bool | NotMeasured:
    """Of a Raspberry Pi's ``rpi_volt``, which forgets it within two seconds."""
    for name in system.glob("sys/class/hwmon/hwmon*/name"):
        if system.text(name) == "rpi_volt":
            alarm = system.number(name.replace("/name", "/in0_lcrit_alarm"))
            return alarm if isinstance(alarm, NotMeasured) else alarm != 0
    return NotMeasured("no hwmon device rpi_volt")


def _overcurrent_events(system: System) -> dict[str, int] | NotMeasured:
    for name in system.glob("sys/class/hwmon/hwmon*/name"):
        if system.text(name) == "soctherm_oc":
            folder = name.rpartition("/")[0]
            return _readable(system, f"{folder}/oc*_event_cnt", level=-1)
    return NotMeasured("no hwmon device soctherm_oc")


def _core_throttle_events(system: System) -> int | NotMeasured:
    pattern = "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"
    counts = _readable(system, pattern, level=-3)
    return sum(counts.values()) if counts else NotMeasured("no core_throttle_count in /sys")


def cooling_files(system: System) -> dict[str, str]:
    """Cooling device of the CPU -> the file with its state."""
    files = {}
    for folder in system.glob("sys/class/thermal/cooling_device*"):
        kind = system.text(f"{folder}/type")
        if isinstance(kind, str) and _CPU_COOLER.search(kind):
            files[f"{kind} ({folder.rpartition('/')[2]})"] = f"{folder}/cur_state"
    return files


def cooling_states(system: System, files: Mapping[str, str]) -> dict[str, int]:
    """Cooling device of the CPU -> its state, of those that can be read."""
    states = {name: system.number(path) for name, path in files.items()}
    return {name: state for name, state in states.items() if isinstance(state, int)}


def _readable(system: System, pattern: str, level: int) -> dict[str, int]:
    """The files that hold numbers, by the part of their path at ``level``."""
    values = {name: system.number(name) for name in system.glob(pattern)}
    return {
        name.split("/")[level]: value for name, value in values.items() if isinstance(value, int)
    }
