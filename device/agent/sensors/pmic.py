"""The Raspberry Pi 5's power chip: twelve rails, read through the firmware.

It is asked by one ioctl on its mailbox, as vcgencmd does it, without starting a process for each
sample; where the mailbox is closed to us, vcgencmd itself is started.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import AgentError, SensorError, describe
from ..system import System
from .base import SAMPLED, Channel, Probe, Sample, Sensor

COMMAND = "pmic_read_adc"
_DEVICES = ("dev/vcio_gencmd", "dev/vcio")
_TEXT_BYTES = 4096
_GET_GENCMD_RESULT = 0x00030080
# _IOWR(100, 0, char *): direction in bits 30 and 31, the pointer's size in bits 16 to 29.
MAILBOX_REQUEST = 3 << 30 | struct.calcsize("P") << 16 | 100 << 8
_LINE = re.compile(r"^\s*(\S+)_([AV])\s+(current|volt)\(\d+\)=(-?[\d.]+)[AV]\s*$")
_RATE_HZ = 10.0
# All that the chip measures both of. An answer may lack a line, and a sum that was begun without
# one of them would be too small until the end.
_RAILS = frozenset(
    (
        *("3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS", "0V8_SW"),
        *("VDD_CORE", "3V3_DAC", "3V3_ADC", "0V8_AON", "HDMI"),
    )
)
_VOLTS_ONLY = frozenset(("EXT5V", "BATT"))
_TRIES = 3
# A fit by a third party to wall power: conversion losses and what the rails leave out.
_ESTIMATE = (1.1451, 587.9)
_ESTIMATED = "board_estimate"


def probe(system: System, *, estimate: bool = False) -> Probe:
    """The power chip of a Raspberry Pi 5 or CM5.

    ``estimate`` makes ``board_estimate``, a fit to what the whole board draws, the total.
    """
    try:
        ask, rails = _find_way(system)
    except SensorError as error:
        return Probe(absent=str(error))
    channels = [Channel(name, "rail", f"vcgencmd {COMMAND}") for name in rails]
    total = list(rails)
    scope, warnings = "the rails of the power chip; not USB, HATs and conversion losses", []
    if estimate:
        channels.append(Channel(_ESTIMATED, "board", "a fit to the sum of the rails"))
        total = [_ESTIMATED]
        scope = "an estimate of the whole board"
        warnings = ["board_estimate is 1.1451 x the rails + 587.9 mW, a fit, not a measurement"]
    chip = PowerChip("pmic", SAMPLED, channels, total, scope, _RATE_HZ, warnings, system, ask)
    return Probe([chip])


@dataclass
class PowerChip(Sensor):
    """Volts times amperes of every rail that has both."""

    ask: Callable[[], str] = str

    def poll(self, now_ns: int) -> list[Sample]:
        """One sample, stamped with the middle of the call, which can take 0.1 s."""
        started = self.system.monotonic_ns()
        try:
            values = parse(self.ask())
        except AgentError as error:
            raise ValueError(str(error)) from error
        rails = [one.name for one in self.channels if one.name != _ESTIMATED]
        later = [name for name in values if name not in rails]
        if later:
            raise ValueError(f"{', '.join(later)} was not there at the start; measure again")
        if self.total == [_ESTIMATED]:
            missing = [name for name in rails if name not in values]
            if missing:
                # The fit to fewer rails would be a lower power, and nobody would see why.
                raise ValueError(f"no reading of {', '.join(missing)}")
            factor, constant = _ESTIMATE
            values[_ESTIMATED] = factor * math.fsum(values[name] for name in rails) + constant
        return [Sample((started + self.system.monotonic_ns()) // 2, values)]


def parse(text: str) -> dict[str, float]:
    """Milliwatts of each rail that has a current and a voltage; a ValueError if none has."""
    whole = {rail: one for rail, one in _readings(text).items() if len(one) == 2}
    if not whole:
        raise ValueError(f"no rails in {text.strip()[:60]!r}")
    return {rail: reading["V"] * reading["A"] * 1000 for rail, reading in whole.items()}


def rails_of(text: str) -> list[str]:
    """The rails of a first answer, and so of the sensor; a ValueError if one is not complete."""
    whole, readings = list(parse(text)), _readings(text)
    missing = {rail for rail, reading in readings.items() if len(reading) < 2} - _VOLTS_ONLY
    if _RAILS & readings.keys():
        missing |= _RAILS - set(whole)
    if missing:
        raise ValueError(f"no reading of {', '.join(sorted(missing))}")
    cut_off = [line for line in text.splitlines() if line.strip() and not _LINE.match(line)]
    if cut_off:
        raise ValueError(f"{cut_off[0].strip()[:60]!r} is no reading")
    return whole


def _readings(text: str) -> dict[str, dict[str, float]]:
    """Rail -> volts (``V``) and amperes (``A``), as far as they are there."""
    readings: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            rail, unit, _, value = found.groups()
            readings.setdefault(rail, {})[unit] = float(value)
    return readings


def _find_way(system: System) -> tuple[Callable[[], str], list[str]]:
    """A function that asks the power chip, and its rails; a SensorError says why there is none."""
    ways = [partial(_ask_mailbox, system, device) for device in _DEVICES]
    ways.append(partial(system.run, "vcgencmd", COMMAND))
    reasons = []
    for way in ways:
        try:
            text = way()
        except FileNotFoundError:
            continue
        except OSError as error:
            reasons.append(f"{error.filename or 'mailbox'}: {describe(error)}; be in group video")
            continue
        except AgentError as error:
            reasons.append(str(error))
            continue
        if "not registered" in text:
            raise SensorError("only the Raspberry Pi 5 and CM5 measure their power")
        try:
            return way, _rails(way, text)
        except (OSError, AgentError, ValueError) as error:
            reasons.append(f"vcgencmd {COMMAND}: {describe(error)}")
    raise SensorError("; ".join(reasons))


def _rails(way: Callable[[], str], text: str) -> list[str]:
    """Those of an answer; of a later one while it is incomplete."""
    for _ in range(_TRIES - 1):
        try:
            return rails_of(text)
        except ValueError:
            text = way()
    return rails_of(text)


def _ask_mailbox(system: System, device: str) -> str:
    """vcgencmd's call: size, request, tag, room, length, error, text, end tag."""
    words = struct.pack("<6I", 28 + _TEXT_BYTES, 0, _GET_GENCMD_RESULT, _TEXT_BYTES, 0, 0)
    command = COMMAND.encode()
    buffer = bytearray(words + command.ljust(_TEXT_BYTES, b"\0") + bytes(4))
    system.ioctl(device, MAILBOX_REQUEST, buffer)
    (error,) = struct.unpack_from("<i", buffer, 20)
    text = bytes(buffer[24:-4]).partition(b"\0")[0].decode(errors="replace")
    # Other boards' firmware says so in words as well, and those are the better reason.
    if error and "not registered" not in text:
        raise AgentError(
            f"the firmware answered {COMMAND} with error {error}: {text.strip()[:60]!r}"
        )
    return text
