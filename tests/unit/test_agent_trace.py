"""From samples to energy: trapezoids, counters, gaps, and clocks that misbehave."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.device.agent.recording import Integral, Recording, Series, integrate
from headgate.device.agent.sensors.base import COUNTER, Channel, Sample, Sensor

S = 1_000_000_000


def power(*samples: tuple[float, float]) -> Series:
    series = Series(counter=False)
    for seconds, milliwatts in samples:
        series.add(round(seconds * S), milliwatts)
    return series


def counter(*samples: tuple[float, float], wraps_at_mj: float | None = None) -> Series:
    series = Series(counter=True, wraps_at_mj=wraps_at_mj)
    for seconds, millijoules in samples:
        series.add(round(seconds * S), millijoules)
    return series


def energy_mj(series: Series, start_s: float, end_s: float) -> Integral:
    integral = integrate(series, round(start_s * S), round(end_s * S))
    assert integral is not None
    return integral


def test_constant_power_gives_power_times_time() -> None:
    series = power(*((0.1 * step, 2500.0) for step in range(101)))
    assert energy_mj(series, 0, 10) == Integral(pytest.approx(25000), 101, 0, 0.0)
    assert energy_mj(series, 2.53, 7.31).energy_mj == pytest.approx(2500 * 4.78)


def test_a_ramp_is_integrated_exactly_inside_an_interval() -> None:
    # 1000 mW/s: from 0.25 s to 0.75 s the mean is 500 mW.
    series = power((0, 0), (1, 1000), (2, 2000))
    assert energy_mj(series, 0.25, 0.75).energy_mj == pytest.approx(250)
    assert energy_mj(series, 0.5, 1.5).energy_mj == pytest.approx(1000)
    assert energy_mj(series, 0, 2).energy_mj == pytest.approx(2000)


@given(
    st.lists(st.floats(0, 1e5), min_size=2, max_size=30),
    st.lists(st.floats(-1, 4), min_size=3, max_size=3),
)
def test_parts_of_a_window_add_up(values: list[float], ends: list[float]) -> None:
    series = power(*((0.1 * step, value) for step, value in enumerate(values)))
    start, middle, end = sorted(round(end, 6) for end in ends)
    if start < middle < end:
        whole = energy_mj(series, start, end).energy_mj
        parts = (
            energy_mj(series, start, middle).energy_mj + energy_mj(series, middle, end).energy_mj
        )
        assert whole == pytest.approx(parts, rel=1e-9, abs=1e-6)


def test_lost_samples_are_bridged_and_counted() -> None:
    times = [0.1 * step for step in range(101) if not 30 < step < 50]
    series = power(*((time, 1000.0) for time in times))
    assert energy_mj(series, 0, 10) == Integral(pytest.approx(10000), 82, 1, pytest.approx(2.0))
    # Only what lies in the window.
    assert energy_mj(series, 4, 6).gap_s == pytest.approx(1.0)
    assert energy_mj(series, 6, 8).gaps == 0


def test_a_window_that_outlasts_the_samples_has_a_gap_at_its_end() -> None:
    series = power(*((0.1 * step, 1000.0) for step in range(11)))
    integral = energy_mj(series, 0, 3)
    assert integral.energy_mj == pytest.approx(3000)
    assert (integral.gaps, integral.gap_s) == (1, pytest.approx(2.0))
    # One sampling period late is no gap.
    assert energy_mj(series, 0, 1.05).gaps == 0


def test_duplicates_and_times_that_go_back_are_dropped_and_counted() -> None:
    series = power((0, 1000), (1, 1000), (1, 9000), (0.5, 9000), (2, 1000), (2, 9000))
    assert (series.duplicates, series.backward) == (2, 1)
    assert energy_mj(series, 0, 2).energy_mj == pytest.approx(2000)


def test_two_samples_are_the_least() -> None:
    assert integrate(power((0, 1000)), 0, S) is None
    assert integrate(power(), 0, S) is None
    assert integrate(power((0, 1), (1, 1)), S, S) is None


def test_a_counters_energy_is_a_difference() -> None:
    series = counter((0, 5000), (1, 7000), (2, 8000))
    assert energy_mj(series, 0, 2).energy_mj == pytest.approx(3000)
    assert energy_mj(series, 0.5, 1.5).energy_mj == pytest.approx(1500)
    assert series.power_mw() == [(1 * S, pytest.approx(2000)), (2 * S, pytest.approx(1000))]


def test_a_counter_that_wraps_goes_on() -> None:
    # 262143.328850 J of RAPL: 1 J before the end, then 2 J further, twice.
    top = 262143328.850
    series = counter((0, top - 1000), (1, 1000), (2, 3000), (3, 500), wraps_at_mj=top)
    assert series.wraps == 2
    assert energy_mj(series, 0, 2).energy_mj == pytest.approx(4000)
    assert series.values[-1] == pytest.approx(top + 1500)


def test_a_counter_that_goes_back_for_no_known_reason_leaves_a_gap() -> None:
    series = counter((0, 9000), (1, 10000), (2, 50), (3, 1050))
    integral = energy_mj(series, 0, 3)
    assert series.resets == 1
    assert integral == Integral(pytest.approx(2000), 4, 1, pytest.approx(1.0))


@dataclass
class Rails(Sensor):
    """Counters that say what a test says."""

    readings: dict[int, dict[str, float]] = field(default_factory=dict)

    def poll(self, now_ns: int) -> list[Sample]:
        return [Sample(now_ns, self.readings[now_ns])]


def recorded(*readings: dict[str, float]) -> Recording:
    """One reading a second of rails a, b and other, of which a and b are the total."""
    channels = [Channel(name, "rail", "") for name in ("a", "b", "other")]
    by_time = {second * S: values for second, values in enumerate(readings)}
    recording = Recording(Rails("x", COUNTER, channels, ["a", "b"], "", 1.0, readings=by_time))
    for time_ns in by_time:
        recording.poll(time_ns)
    return recording


def test_what_is_missing_in_a_rail_is_missing_in_the_total() -> None:
    steps = [{"a": 9000.0, "b": 0.0}, {"a": 10000.0, "b": 10.0}]
    recording = recorded(*steps, {"a": 50.0, "b": 20.0}, {"a": 1050.0, "b": 30.0})
    assert recording.oddities()["resets"] == 1
    assert integrate(recording.total, 0, 3 * S) == Integral(
        pytest.approx(2030), 4, 1, pytest.approx(1.0)
    )


def test_a_reset_between_readings_of_all_rails_is_a_gap_up_to_the_next_of_them() -> None:
    # At 2 s there is no sum, because b is not read.
    last = [{"a": 1050.0, "b": 30.0}, {"a": 2050.0, "b": 40.0}]
    recording = recorded({"a": 9000.0, "b": 0.0}, {"a": 10000.0, "b": 10.0}, {"a": 50.0}, *last)
    integral = integrate(recording.total, 0, 4 * S)
    assert integral is not None
    assert (integral.gaps, integral.gap_s) == (1, pytest.approx(2.0))


def test_a_rail_outside_the_total_leaves_no_gap_in_it() -> None:
    steps = [{"a": 10.0 * step, "b": 0.0, "other": 5.0 - step} for step in range(4)]
    recording = recorded(*steps)
    assert recording.oddities()["resets"] == 3
    assert integrate(recording.total, 0, 3 * S) == Integral(pytest.approx(30), 4, 0, 0.0)
