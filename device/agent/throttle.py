"""Did the board slow itself down? Every witness there is, before and after a run.

Raspberry Pi: the firmware's bits (0 under-voltage, 1 frequency capped, 2 throttled, 3 soft
temperature limit; 16 to 19: the same, since boot). Jetson: over-current events of soctherm. Any
Linux: cooling devices of the CPU, a lowered ``scaling_max_freq``, x86's throttle counters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .absent import NotMeasured
from .errors import AgentError, describe
from .system import System

BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
SINCE_BOOT = 16
_FIRMWARE_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_CPU_COOLER = re.compile(r"cpu|processor|balanced", re.IGNORECASE)


@dataclass(frozen=True)
class Throttle:
    """What the witnesses say at one moment; events are counted since boot."""

    firmware_bits: int | NotMeasured
    undervoltage_alarm: bool | NotMeasured
    overcurrent_events: dict[str, int] | NotMeasured
    core_throttle_events: int | NotMeasured
    cpu_cooling_states: dict[str, int]
    """Cooling device of the CPU -> its state; 0 is no cooling."""
    frequency_limits_khz: dict[str, int]


def read_throttle(system: System) -> Throttle:
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


def parse_throttled(text: str) -> int:
    """``throttled=0x50005`` of vcgencmd, or ``50005`` of sysfs."""
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
    folder = _hwmon(system, "rpi_volt")
    if isinstance(folder, NotMeasured):
        return folder
    alarm = system.number(f"{folder}/in0_lcrit_alarm")
    return alarm if isinstance(alarm, NotMeasured) else alarm != 0


def _overcurrent_events(system: System) -> dict[str, int] | NotMeasured:
    folder = _hwmon(system, "soctherm_oc")
    if isinstance(folder, NotMeasured):
        return folder
    return _readable(system, f"{folder}/oc*_event_cnt", level=-1)


def _hwmon(system: System, chip: str) -> str | NotMeasured:
    for name in system.glob("sys/class/hwmon/hwmon*/name"):
        if system.text(name) == chip:
            return name.rpartition("/")[0]
    return NotMeasured(f"no hwmon device {chip}")


def _core_throttle_events(system: System) -> int | NotMeasured:
    pattern = "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"
    counts = _readable(system, pattern, level=-3)
    return sum(counts.values()) if counts else NotMeasured("no core_throttle_count in /sys")


def cooling_files(system: System) -> dict[str, str]:
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
