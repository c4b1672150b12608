from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headgate.profiling.statistics import bootstrap_interval, measure_drift, summarize, thin

series = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(0.1, 1e7, allow_nan=False))


def test_one_to_hundred_has_the_numbers_of_a_textbook() -> None:
    values = np.random.default_rng(1).permutation(np.arange(1.0, 101.0))
    summary = summarize(values)
    assert summary.count == 100
    assert summary.median == 50.5
    assert summary.p95 == pytest.approx(95.05)
    assert (summary.minimum, summary.maximum) == (1, 100)
    assert summary.spread == pytest.approx(75.25 - 25.75)


@given(series)
def test_order_of_the_numbers(values: np.ndarray) -> None:
    summary = summarize(values)
    assert summary.minimum <= summary.low <= summary.median <= summary.high <= summary.maximum
    assert summary.median <= summary.p95 <= summary.maximum
    assert summary.spread >= 0


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.lognormal(size=60), resamples=300, seed=seed)
        hits += low <= 1.0 <= high  # the median of a standard log-normal
    assert 0.90 <= hits / 200 <= 0.99


def test_interval_repeats_and_does_not_depend_on_block_size(monkeypatch) -> None:
    values = np.random.default_rng(2).gamma(2.0, size=500)
    whole = bootstrap_interval(values)
    assert bootstrap_interval(values) == whole
    monkeypatch.setattr("headgate.profiling.statistics._BLOCK_VALUES", 7_000)
    in_blocks = bootstrap_interval(values)
    assert in_blocks == pytest.approx(whole)


def test_constant_series_has_a_point_for_an_interval() -> None:
    summary = summarize([7.0] * 30)
    assert (summary.low, summary.high, summary.spread, summary.drift) == (7, 7, 0, 0)
    assert not summary.drifted


def test_heating_up_is_drift() -> None:
    noise = np.random.default_rng(3).normal(0, 0.5, 300)
    drift, drifted = measure_drift(np.linspace(100, 120, 300) + noise)
    assert drifted
    assert drift == pytest.approx(116.667 / 103.333 - 1, abs=0.005)


def test_noise_alone_is_not_drift() -> None:
    values = np.random.default_rng(4).lognormal(0, 0.4, 30)
    assert not measure_drift(values)[1]


def test_small_steady_change_is_not_worth_a_warning() -> None:
    assert not measure_drift(np.linspace(100, 103, 90))[1]


def test_too_few_values_to_have_thirds() -> None:
    assert measure_drift([1, 1, 1, 1, 9, 9, 9, 9]) == (0.0, False)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_nothing_is_said_about_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values to summarize"):
        summarize(values)


def test_interval_of_a_series_taken_in_rounds_is_that_of_its_rounds() -> None:
    generator = np.random.default_rng(5)
    rounds = generator.normal(100, 5, 20)
    runs = (rounds[:, None] + generator.normal(0, 0.1, (20, 50))).ravel()
    alone, grouped = summarize(runs), summarize(runs, rounds=rounds)
    assert (grouped.low, grouped.high) == bootstrap_interval(rounds)
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)  # as if 1000 runs were 20


@given(st.integers(1, 500), st.integers(1, 100))
def test_thinning_keeps_the_order_and_the_limit(count: int, limit: int) -> None:
    kept = thin(np.arange(count, dtype=float), limit)
    assert len(kept) <= limit
    assert kept == sorted(kept)
    assert count > limit or len(kept) == count
