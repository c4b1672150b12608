"""A meter on a board's supply and pin: it writes its log in the formats that meters publish."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IDLE_MW, WORK_MW = 20.0, 70.0
VOLTS = 3.3


@dataclass(frozen=True)
class FakeMeter:
    """Saw a pin fall and rise at some moments, in seconds; the board works while it is low."""

    falls_s: list[float]
    rises_s: list[float]
    length_s: float

    @classmethod
    def of_windows(cls, lengths_s: list[float], idle_s: float = 10.0) -> FakeMeter:
        """Windows with idle times around them, and the pulse behind each."""
        falls, rises, now = [], [], 0.0
        for length_s in lengths_s:
            now += idle_s
            falls += [now, now + length_s + 1e-5]
            now += length_s
            rises += [now, now + 2e-5]
        return cls(falls, rises, now + idle_s)

    @classmethod
    def of_edges(cls, path: Path, clock_hz: float, idle_s: float = 10.0) -> FakeMeter:
        """What the firmware of ``serial_firmware.py`` logged of its pin."""
        rows = [line.split() for line in path.read_text().splitlines()]
        edges = [(int(cycles) / clock_hz, level == "1") for cycles, level in rows]
        lows = [later - start for (start, high), (later, _) in pairwise(edges) if not high]
        # The firmware's clock stands still while it waits, so the idle times are put in here.
        return cls.of_windows([one for one in lows if one > 1], idle_s)

    def low(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the pin is, at each moment."""
        before = np.searchsorted(self.falls_s, times_s, side="right")
        done = np.searchsorted(self.rises_s, times_s, side="right")
        return before > done

    def power_mw(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.low(times_s), WORK_MW, IDLE_MW)

    def lpm01a(self, path: Path, rate_hz: int = 1000, output: str = "energy") -> None:
        """Lines of ST's X-NUCLEO-LPM01A, some samples to a line."""
        middles = (np.arange(int(self.length_s * rate_hz)) + 0.5) / rate_hz
        watts = self.power_mw(middles) / 1e3
        values = watts / rate_hz if output == "energy" else watts / VOLTS
        lines = [
            f"PowerShield > ack output {output}",
            "ack format ascii_dec",
            "ack eventsrc d7 fal",
        ]
        lines += [f"ack freq {rate_hz // 1000}k", f"ack volt {VOLTS * 1000:.0f}m", "ack start"]
        falls = [round(fall * rate_hz) for fall in self.falls_s]
        number = 0
        for at, value in enumerate(values):
            while number < len(falls) and falls[number] == at:
                lines.append(f"event {number:02} ris")
                number += 1
            if at % rate_hz == 0:
                lines.append(f"TimeStamp: {at // rate_hz:03}s 000ms, buff 00%")
            lines.append(_lpm(value))
        assert number == len(falls)
        path.write_text("\r\n".join([*lines, "Acquisition completed", ""]))

    def joulescope(self, path: Path, rate_hz: int = 200) -> None:
        """What Joulescope's program exports of its plots; a level is the mean over a sample."""
        times = np.arange(int(self.length_s * rate_hz)) / rate_hz
        fine = np.stack([~self.low(times + share / rate_hz) for share in (0.1, 0.5, 0.9)])
        amperes = self.power_mw(times + 0.5 / rate_hz) / 1e3 / VOLTS
        volts, level = np.full_like(times, VOLTS), fine.mean(axis=0)
        header = "time,JS220-001234.i,JS220-001234.v,JS220-001234.0"
        table = np.stack([times, amperes, volts, level], axis=1)
        np.savetxt(path, table, delimiter=",", header=header)

    def runner_trace(self, path: Path, rate_hz: float = 1000.0) -> None:
        """Both files of EEMBC's EnergyRunner, the first time stamp a test of the pin."""
        middles = (np.arange(int(self.length_s * rate_hz)) + 0.5) / rate_hz
        microjoules = (self.power_mw(middles) / rate_hz * 1e3).astype("<f4")
        path.write_bytes(struct.pack("<Bf", 0xF1, rate_hz) + microjoules.tobytes())
        stamps = path.with_name(path.name.replace("-energy.bin", "-timestamps.json"))
        stamps.write_text(json.dumps([0.019, *(round(one, 3) for one in self.falls_s)]))


def _lpm(value: float) -> str:
    """Four digits and a power of ten."""
    power = int(np.floor(np.log10(value))) - 3
    digits = round(value / 10.0**power)
    return f"{digits:04}{power:+03}" if digits < 10_000 else f"{digits // 10:04}{power + 1:+03}"
