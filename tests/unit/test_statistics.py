"""Ratios and drift; percentiles and their intervals are in test_agent_latency.py."""

from __future__ import annotations

import numpy as np
import pytest

from headgate.device.agent.percentiles import Percentile, measure_drift, summarize
from headgate.profiling.statistics import ratio_of_medians, ratio_of_rounds


def rounds(values: np.ndarray, count: int) -> list[list[float]]:
    return [part.tolist() for part in np.array_split(values, count)]


def test_interval_of_a_ratio_covers_the_true_one_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    found = [ratio_of_rounds(generator.lognormal(0, 0.1, size=20)) for _ in range(200)]
    hits = sum(one.low <= 1.0 <= one.high for one in found)
    assert 0.90 <= hits / 200 <= 1.0
    assert all(one.low <= one.median <= one.high for one in found)


def test_equal_ratios_have_a_point_for_an_interval() -> None:
    ratio = ratio_of_rounds([7.0] * 30)
    assert (ratio.low, ratio.median, ratio.high) == (7, 7, 7)


def test_ratio_of_separate_runs_takes_the_far_ends() -> None:
    ratio = ratio_of_medians(Percentile(10, 8, 12), Percentile(5, 4, 6))
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 8 / 6, 12 / 4)


def test_heating_up_is_drift() -> None:
    noise = np.random.default_rng(3).normal(0, 0.5, 300)
    drift, drifted = measure_drift(rounds(np.linspace(100, 120, 300) + noise, 30))
    assert drifted
    assert drift == pytest.approx(116.667 / 103.333 - 1, abs=0.005)


def test_noise_alone_is_not_drift() -> None:
    values = np.random.default_rng(4).lognormal(0, 0.4, 30)
    assert not measure_drift(rounds(values, 30))[1]


def test_small_steady_change_is_not_worth_a_warning() -> None:
    assert not measure_drift(rounds(np.linspace(100, 103, 90), 30))[1]


def test_too_few_rounds_to_have_thirds() -> None:
    assert measure_drift([[1.0], [1.0], [5.0], [9.0], [9.0]]) == (0.0, False)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_nothing_is_said_about_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values to summarize"):
        summarize([values])


def test_interval_is_that_of_the_rounds_and_not_of_the_runs() -> None:
    generator = np.random.default_rng(5)
    centres = generator.normal(100, 5, 20)
    runs = centres[:, None] + generator.normal(0, 0.1, (20, 50))
    alone, grouped = summarize([runs.ravel().tolist()]).middle, summarize(runs.tolist()).middle
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
