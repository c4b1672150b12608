"""Logs of power meters, as a fake meter writes them in the published formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import InputError, MissingFile
from headgate.profiling.meters import Asked, MeterLog, read_log
from tests.fake_meter import IDLE_MW, WORK_MW, FakeMeter

LENGTHS_S = [2.0, 2.5]
METER = FakeMeter.of_windows(LENGTHS_S, idle_s=1.0)


def mean_mw(log: MeterLog, start_s: float, end_s: float) -> float:
    energy = np.interp([start_s, end_s], log.times_s, log.energy_mj)
    return float(energy[1] - energy[0]) / (end_s - start_s)


@pytest.mark.parametrize(
    ("name", "write", "meter"),
    [
        ("lpm.log", lambda path: METER.lpm01a(path), "LPM01A"),
        ("lpm.txt", lambda path: METER.lpm01a(path, output="current"), "LPM01A"),
        ("js.csv", lambda path: METER.joulescope(path), "Joulescope"),
        ("trace1-energy.bin", lambda path: METER.runner_trace(path), "EnergyRunner"),
    ],
)
def test_power_and_windows(name: str, write: object, meter: str, tmp_path: Path) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    log = read_log(tmp_path / name)
    assert log.meter == meter
    spans = log.windows_s(LENGTHS_S)
    for (start, end), length in zip(spans, LENGTHS_S, strict=True):
        assert end - start == pytest.approx(length, abs=0.006)
        assert mean_mw(log, start + 0.01, end - 0.01) == pytest.approx(WORK_MW, rel=1e-3)
    assert mean_mw(log, 0.1, spans[0][0] - 0.01) == pytest.approx(IDLE_MW, rel=1e-3)


def test_any_meters_csv(tmp_path: Path) -> None:
    times = np.arange(500) / 100
    rows = [
        f"{1e3 * time:g};{20 if 1 <= time < 3 else 10};3,3;{0 if 1 <= time < 3 else 1}"
        for time in times
    ]
    path = tmp_path / "meter.csv"
    path.write_text("\n".join(["time_ms;current_ma;voltage_v;busy", *rows]))
    with pytest.raises(InputError, match=r"no column with the level of the board's pin.*--pin"):
        read_log(path)
    with pytest.raises(InputError, match="has no column 'd9'"):
        read_log(path, Asked(pin="d9"))
    log = read_log(path, Asked(pin="busy"))
    assert log.windows_s([2.0]) == [pytest.approx((0.995, 2.995))]
    assert mean_mw(log, 1.1, 2.9) == pytest.approx(66)
    with pytest.raises(InputError, match="has 1 windows, the board measured 2"):
        log.windows_s([2.0, 2.0])


def test_what_came_before_the_windows_is_left_out(tmp_path: Path) -> None:
    log = MeterLog("x", "y", np.array([0.0, 9.0]), np.zeros(2), falls_s=[0.1, 1.0, 3.0, 5.0, 7.0])
    assert log.windows_s([2.0, 2.0]) == [(1.0, 3.0), (5.0, 7.0)]


def lines_of(path: Path) -> list[str]:
    METER.lpm01a(path)
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [one for one in lines if "ack freq" not in one], "say --rate-hz"),
        (lambda lines: [one for one in lines if "ack output" not in one], "may be either"),
        (lambda lines: lines[:2000] + lines[2500:], "some were lost"),
        (lambda lines: [one for one in lines if "event 01" not in one], "one is not in the log"),
        (lambda lines: [one for one in lines if "-0" not in one], "no samples in ascii_dec"),
    ],
)
def test_logs_of_an_lpm01a_that_lack_something(
    change: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "lpm.log"
    path.write_text("\n".join(change(lines_of(path))))  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        read_log(path)


def test_a_rate_and_volts_that_the_log_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "lpm.log"
    METER.lpm01a(path, output="current")
    kept = [one for one in path.read_text().splitlines() if not one.startswith("ack ")]
    path.write_text("\n".join(kept))
    with pytest.raises(InputError, match="say --volts"):
        read_log(path, Asked(rate_hz=1000))
    log = read_log(path, Asked(rate_hz=1000, volts=3.3))
    assert mean_mw(log, 1.1, 2.9) == pytest.approx(WORK_MW, rel=1e-3)


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        read_log(tmp_path / "none.csv")
    path = tmp_path / "a-energy.bin"
    METER.runner_trace(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is cut off"):
        read_log(path)
    path.write_bytes(whole)
    (tmp_path / "a-timestamps.json").write_text(json.dumps({"no": "list"})[:-1])
    with pytest.raises(InputError, match="has no time stamps"):
        read_log(path)
    for text, message in (
        ("", "is no meter's log"),
        ("1,2\n3,4\n5,6\n", "names no columns"),
        ("time_s,power_mw,pin\n1,2,0\n1,2,1\n", "times go back at sample 1"),
        ("time_s,power_mw,pin\n1,x,0\n2,2,1\n", "could not convert"),
        ("# time,A.i,B.i,A.v,A.0\n0,1,1,1,1\n1,1,1,1,1\n", "several Joulescopes"),
    ):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_log(tmp_path / "x.csv")
