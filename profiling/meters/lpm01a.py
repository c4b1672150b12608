"""What ST's X-NUCLEO-LPM01A sends over its serial port, saved by a terminal or a script.

Set up with ``output energy`` (joules of each sample) or ``output current`` (amperes), ``format
ascii_dec`` and ``eventsrc d7 fal``, it sends samples as ``6409-07`` (6409 x 10^-7), ``event 00
ris`` when pin D7 has fallen, and ``TimeStamp: 001s 000ms, buff 00%`` now and then. Its answers to
commands (``ack freq 1k``) say what the samples are. MLPerf Tiny's own runner reads the same lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headgate.errors import InputError
from headgate.profiling.meters.log import Asked, MeterLog, of_power

_SAMPLE = re.compile(r"(\d{4})([+-]\d{2})")
_EVENT = re.compile(r"event (\d+) ris")
_STAMP = re.compile(r"TimeStamp:[ ><]+(\d{3})s (\d{3})ms")
_ACK = re.compile(r"ack (freq|output|volt) (\S+)")
_UNITS = {"u": 1e-6, "m": 1e-3, "k": 1e3}
_PROMPT = "PowerShield > "


def fits(path: Path, data: bytes) -> bool:
    head = data[:4096].decode(errors="replace")
    return _PROMPT.strip() in head or any(
        pattern.search(line) for line in head.splitlines() for pattern in (_EVENT, _STAMP)
    )


@dataclass
class _Read:
    """What was in the lines so far; numbers of samples stand for times."""

    samples: list[float] = field(default_factory=list)
    falls: list[int] = field(default_factory=list)
    stamps: list[tuple[float, int]] = field(default_factory=list)
    set_up: dict[str, str] = field(default_factory=dict)
    garbled: int = 0
    event: int | None = None
    """The number of the last."""

    def take(self, line: str) -> None:
        line = line.replace(_PROMPT, "").strip()
        if found := _STAMP.match(line):
            self.stamps.append((int(found[1]) + int(found[2]) / 1e3, len(self.samples)))
        elif found := _EVENT.match(line):
            number = int(found[1])
            if self.event is not None and number not in (0, self.event + 1):
                raise InputError(
                    f"event {number} of the LPM01A comes after event {self.event}: one is not in "
                    "the log; record again"
                )
            self.event = number
            self.falls.append(len(self.samples))
        elif found := _ACK.match(line):
            self.set_up[found[1]] = found[2]
        elif _SAMPLE.match(line):
            self.samples += [float(f"{one}e{power}") for one, power in _SAMPLE.findall(line)]
            self.garbled += bool(_SAMPLE.sub("", line).strip())


def read(path: Path, data: bytes, asked: Asked) -> MeterLog:
    """An InputError if samples are missing, or it does not say what they are."""
    found = _Read()
    for line in data.decode("ascii", errors="replace").splitlines():
        found.take(line)
    if len(found.samples) < 2:
        raise InputError(f"{path} has no samples in ascii_dec; set the LPM01A to that")
    rate_hz = _rate_hz(path, found, asked)
    _check_stamps(path, found, rate_hz)
    samples = np.array(found.samples)
    output = found.set_up.get("output")
    if output == "energy":
        times_s = np.arange(len(samples) + 1) / rate_hz
        energy_mj = np.concatenate([[0.0], np.cumsum(samples)]) * 1e3
    elif output == "current":
        volts = _number(found.set_up.get("volt")) or asked.volts
        if volts is None:
            raise InputError(f"{path} has currents and no 'ack volt'; say --volts")
        times_s, energy_mj = of_power(np.arange(len(samples)) / rate_hz, samples * volts * 1e3)
    else:
        raise InputError(
            f"{path} has no line 'ack output energy' or 'ack output current', so its samples may "
            "be either; save what the LPM01A answers from `output` on"
        )
    garbled = [f"{found.garbled} lines of the LPM01A were garbled"] if found.garbled else []
    return MeterLog(
        meter="LPM01A",
        source=f"{output}, {rate_hz:g} samples a second",
        times_s=times_s,
        energy_mj=energy_mj,
        falls_s=[number / rate_hz for number in found.falls],
        warnings=garbled,
    )


def _rate_hz(path: Path, found: _Read, asked: Asked) -> float:
    known = _number(found.set_up.get("freq")) or asked.rate_hz
    if known is None:
        raise InputError(f"{path} has no line 'ack freq 1k'; say --rate-hz")
    return known


def _check_stamps(path: Path, found: _Read, rate_hz: float) -> None:
    """The meter's own time says whether samples were lost on the way."""
    if len(found.stamps) < 2:
        return
    (first_s, first), (last_s, last) = found.stamps[0], found.stamps[-1]
    expected = (last_s - first_s) * rate_hz
    # A stamp may come a sample early or late.
    if abs(last - first - expected) > max(2, 1e-3 * expected):
        raise InputError(
            f"{path}: between its time stamps {first_s:g} s and {last_s:g} s are {last - first} "
            f"samples, not {expected:.0f}: some were lost, or the rate is not {rate_hz:g} Hz"
        )


def _number(text: str | None) -> float | None:
    """``1k``, ``3300m`` or ``100`` as the LPM01A writes them."""
    if text is None:
        return None
    factor = _UNITS.get(text[-1:], 1.0)
    try:
        return float(text.rstrip("umk")) * factor
    except ValueError as error:
        raise InputError(f"the LPM01A's answer {text!r} is no number") from error
