"""The agent's figures are those that the runner wrote, and its statistics are right."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.bundle import Check, check_outputs, open_bundle
from headgate.device.agent.errors import AgentError, UsageError
from headgate.device.agent.latency import measure_latency
from headgate.device.agent.percentiles import _student, percentile, summarize
from headgate.device.agent.runner import Network, NetworkLoad
from headgate.device.agent.settings import Plan
from headgate.device.agent.system import System
from headgate.device.agent.watch import Watch
from headgate.device.protocol import Request
from tests import fake_bundle
from tests.fake_runner import save_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "fake.hgb", base_us=100)
    return tmp_path / "fake.hgb"


def test_figures_are_those_of_the_runner(path: Path, tmp_path: Path) -> None:
    with Network(open_bundle(path)) as network:
        watch = Watch(System(tmp_path), ())
        found = measure_latency(network, Plan(rounds=2, repeat=3), watch)
    # Sample s, run r: 100 + 100 s + r microseconds, and both rounds are alike.
    us = [100 + 100 * sample + run for sample in range(5) for run in range(3)]
    assert found.latencies_us == us * 2
    assert found.latency_us.median == statistics.median(us * 2)
    assert found.latency_us.percentiles["p95"].value == pytest.approx(np.percentile(us * 2, 95))
    assert (found.latency_us.count, found.latency_us.rounds) == (30, 2)
    assert found.median_us_per_input == [101, 201, 301, 401, 501]
    first, second = found.layers
    assert first.median_us == 301 / 4
    assert second.median_us_per_input == [0.75 * value for value in found.median_us_per_input]
    assert found.layer_sum_us == 301
    assert found.gates == {"block": [2, 3, 2, 3, 2]}
    assert second.active_outputs == [2, 3, 2, 3, 2]
    assert (first.channels, second.channels) == (None, 4)
    assert second.active_inputs is None
    # The gate's 4 x 4 pairs; 6 MACs for each of 4 inputs and the active outputs.
    assert first.executed_macs == [16] * 5
    assert second.executed_macs == [48, 72, 48, 72, 48]
    assert (found.executed_macs, found.dense_macs) == ([64, 88, 64, 88, 64], 96)


def test_runs_are_as_many_as_fit_the_budget(path: Path, tmp_path: Path) -> None:
    with Network(open_bundle(path)) as network:
        watch = Watch(System(tmp_path), ())
        found = measure_latency(network, Plan(rounds=2, budget_s=0.02, warmup=0), watch)
    # 20 ms / (2 rounds x 5 inputs x 300 us)
    assert (found.rounds, found.repeat) == (2, 6)


def test_time_without_a_cpu_is_told(path: Path, tmp_path: Path) -> None:
    spin = "deadline = time.process_time() + 0.6\nwhile time.process_time() < deadline: pass"
    save_bundle(tmp_path / "busy.hgb", base_us=100, extra=spin)
    shares = []
    for name in (path, tmp_path / "busy.hgb"):
        # 0.4 s by the scripted clock: asleep but for Python's own start, or 0.6 s of work.
        with Network(open_bundle(name)) as network:
            watch = Watch(System(tmp_path), ())
            found = measure_latency(network, Plan(rounds=1, repeat=200), watch)
        shares.append(found.cpu_share)
        assert bool(found.warnings()) == (found.cpu_share < 0.95)
    assert shares[0] < 0.95
    assert shares[1] == 1.0


def wait_for_end(wait: Callable[[float], bool]) -> None:
    while not wait(0.01):
        pass


def test_a_burst_is_the_end_of_its_process(path: Path, tmp_path: Path) -> None:
    with Network(open_bundle(path)) as network:
        load = NetworkLoad(network, Watch(System(tmp_path), ()))
        assert load.inference_s(1) == pytest.approx(102e-6)
        before = time.monotonic_ns()
        burst = load.burst(1, 100, wait_for_end)
        after = time.monotonic_ns()
    # Input 1 alone is sample 0 of that process: 100 + r microseconds.
    assert burst.inference_s == pytest.approx(14.95e-3)
    assert burst.end_ns - burst.start_ns == 14_950_000
    assert before < burst.start_ns < burst.end_ns < after
    assert burst.inferences == 100


def test_a_slow_network_has_fewer_rounds(path: Path, tmp_path: Path) -> None:
    with Network(open_bundle(path)) as network:
        watch = Watch(System(tmp_path), ())
        found = measure_latency(network, Plan(rounds=10, budget_s=0.02, warmup=2), watch)
    # 13 runs of all inputs fit: four rounds with two for warming up.
    assert (found.rounds, found.repeat) == (4, 1)


def test_a_run_can_be_limited_to_some_inputs(path: Path) -> None:
    with Network(open_bundle(path)) as network:
        started_ns = time.monotonic_ns()
        done = network.run(Request(repeat=2, times=True), [3, 1])
    expected = fake_bundle.expected(fake_bundle.images(5))[[3, 1]]
    given_back = np.frombuffer(done.outputs[0], "<f4").reshape(2, 4)
    np.testing.assert_allclose(given_back, expected, rtol=1e-5)
    assert done.times_ns == [[100_000, 101_000], [200_000, 201_000]]
    assert done.layer_times_ns == []
    assert done.ended_ns > started_ns


def test_the_runner_is_given_what_the_plan_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    extra = (
        f"import os; open({str(log)!r}, 'a').write(repr((sorted(os.sched_getaffinity(0)), "
        "options.get('--threads'), options['--warmup'], len(os.environ))) + '\\n')"
    )
    save_bundle(tmp_path / "fake.hgb", extra=extra)
    bundle = open_bundle(tmp_path / "fake.hgb")
    with Network(bundle, {0}) as network:
        network.run(Request(warmup=7), [0])
    with Network(bundle, threads=2) as network:
        network.run(samples=[0])
    pinned, threaded = log.read_text().splitlines()
    # Python itself sets a variable where the locale is C.
    assert pinned.startswith("([0], None, '7'")
    assert ", '2', '0'" in threaded


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sys.exit('runner: no memory for the arena: 128 bytes')", "no memory for the arena"),
        ("sys.exit(9)", "the runner failed: exit status 9"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import os; os.kill(os.getpid(), 4)", "an instruction that this CPU lacks"),
        ("options['--repeat'] = '1'", "bytes of times, not 80"),
    ],
)
def test_a_runner_that_fails_is_one_line(extra: str, message: str, tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb", extra=extra)
    with (
        Network(open_bundle(tmp_path / "fake.hgb")) as network,
        pytest.raises(AgentError, match=message) as raised,
    ):
        network.run(Request(repeat=2, times=True))
    assert "\n" not in str(raised.value)


def test_nothing_is_left_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    with Network(open_bundle(path)) as network:
        network.run()
        (inside,) = folder.iterdir()
        assert sorted(entry.name for entry in inside.iterdir()) == ["runner", "weights"]
    assert list(folder.iterdir()) == []


def test_outputs_are_compared_with_pytorchs(path: Path) -> None:
    bundle = open_bundle(path)
    with Network(bundle) as network:
        done = network.run()
    right = check_outputs(bundle, done.outputs)
    assert isinstance(right, Check)
    assert right.passed
    assert right.max_error < 1e-6
    assert right.samples == 5
    outputs = np.frombuffer(done.outputs[0], "<f4").reshape(5, 4).copy()
    scale = np.abs(fake_bundle.expected(fake_bundle.images(5))).max()
    outputs[2, 1] += 0.5 * scale
    wrong = check_outputs(bundle, [outputs.tobytes()])
    assert isinstance(wrong, Check)
    assert not wrong.passed
    assert wrong.max_error == pytest.approx(0.5, rel=1e-3)
    outputs[2, 1] = np.nan
    broken = check_outputs(bundle, [outputs.tobytes()])
    assert isinstance(broken, Check)
    assert not broken.passed


def test_inputs_of_the_users_own(path: Path, tmp_path: Path) -> None:
    images = fake_bundle.images(3, seed=7)
    (tmp_path / "in.bin").write_bytes(images.tobytes())
    bundle = open_bundle(path).with_inputs([str(tmp_path / "in.bin")])
    with Network(bundle) as network:
        done = network.run()
    given_back = np.frombuffer(done.outputs[0], "<f4").reshape(3, 4)
    np.testing.assert_allclose(given_back, fake_bundle.expected(images), rtol=1e-5)
    assert isinstance(check_outputs(bundle, done.outputs), NotMeasured)
    (tmp_path / "in.bin").write_bytes(b"12345")
    with pytest.raises(AgentError, match="has 5 bytes, a sample 96"):
        bundle.with_inputs([str(tmp_path / "in.bin")])
    with pytest.raises(AgentError, match="given 2 times, the network has 1"):
        bundle.with_inputs(["a", "b"])


def test_a_damaged_bundle_is_not_started(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"time.sleep")
    data[place] ^= 1
    (tmp_path / "bad.hgb").write_bytes(data)
    with pytest.raises(AgentError, match=r"damaged|altered"):
        open_bundle(tmp_path / "bad.hgb")
    (tmp_path / "cut.hgb").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AgentError, match="no bundle, or damaged"):
        open_bundle(tmp_path / "cut.hgb")
    with pytest.raises(AgentError, match=r"cannot read .*No such file"):
        open_bundle(tmp_path / "none.hgb")
    fake_bundle.bundle({"code/network.so": b"code"}).save(tmp_path / "host.hgb")
    with pytest.raises(AgentError, match="has no code/runner; compile it again"):
        open_bundle(tmp_path / "host.hgb")


def test_plans_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="rounds=0"):
        Plan(rounds=0)
    with pytest.raises(UsageError, match="repeat=0"):
        Plan(repeat=0)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(
        float(np.percentile(values, percent)), rel=1e-9, abs=1e-9
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.floats(1, 1e6), min_size=1, max_size=9), min_size=1, max_size=6))
def test_intervals_lie_in_the_range_and_repeat_exactly(rounds: list[list[float]]) -> None:
    one = summarize(rounds)
    assert one == summarize(rounds)
    for found in one.percentiles.values():
        assert 0 < found.low <= found.value <= found.high < float("inf")
        # Two rounds say little of where others would be, so theirs reaches beyond the range.
        assert len(rounds) > 1 or one.minimum <= found.low <= found.high <= one.maximum


def test_intervals_cover_the_median_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        # Rounds that differ more than their runs.
        rounds = [list(generator.normal(generator.normal(100, 5), 1, size=8)) for _ in range(12)]
        middle = summarize(rounds).percentiles["p50"]
        covered += middle.low <= 100 <= middle.high
    assert covered >= 51  # 95 % of 60 are 57; 51 is three deviations below


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 10])
def test_intervals_of_few_rounds_cover_as_often_as_they_say(count: int) -> None:
    generator = np.random.default_rng(count)
    median = tail = 0
    for _ in range(300):
        # One per cent from round to round, two from run to run: together the root of five.
        levels = generator.normal(0, 0.01, size=(count, 1))
        rounds = 100 * np.exp(generator.normal(levels, 0.02, size=(count, 50)))
        found = summarize(rounds.tolist()).percentiles
        median += found["p50"].low <= 100 <= found["p50"].high
        true_tail = 100 * math.exp(1.6449 * 0.05**0.5 / 10)
        tail += found["p95"].low <= true_tail <= found["p95"].high
    assert median >= 273  # three deviations below 95 % of 300
    assert tail >= 255


def test_student_agrees_with_its_table() -> None:
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
    table = {1: 12.706, 2: 4.303, 4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 20: 2.086, 100: 1.984}
    for freedom, value in table.items():
        assert _student(freedom) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("count", [20, 300])
def test_the_interval_of_one_round_covers_as_often_as_it_says(count: int) -> None:
    generator = np.random.default_rng(count)
    covered = dict.fromkeys(("p50", "p90"), 0)
    for _ in range(300):
        found = summarize([generator.uniform(size=count).tolist()]).percentiles
        for name in covered:
            covered[name] += found[name].low <= int(name[1:]) / 100 <= found[name].high
    # Of 20 runs nothing above the greatest can be said, which is below the 90th percentile in 12
    # of 100 cases.
    assert covered["p50"] >= 273
    assert covered["p90"] >= (273 if count == 300 else 249)


def test_the_interval_of_one_round_is_that_of_all_its_runs() -> None:
    values = np.random.default_rng(0).uniform(size=20_000).tolist()
    found = summarize([values]).percentiles
    for name, percent in (("p50", 50), ("p99", 99)):
        share = percent / 100
        expected = 2 * 1.96 * (share * (1 - share) / 20_000) ** 0.5
        assert found[name].high - found[name].low == pytest.approx(expected, rel=0.2)


def test_times_below_a_tick_of_the_clock_have_no_logarithm() -> None:
    middle = summarize([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]).percentiles["p50"]
    assert (middle.low, middle.value, middle.high) == (0.0, 0.5, 1.0)


def test_one_round_is_resampled_by_runs() -> None:
    middle = summarize([[float(value) for value in range(100)]]).percentiles["p50"]
    assert 35 < middle.low < 47 < 52 < middle.high < 64


def test_equal_figures_have_no_width() -> None:
    summary = summarize([[5.0, 5.0], [5.0, 5.0]])
    assert (summary.median, summary.percentiles["p99"].low, summary.percentiles["p99"].high) == (
        5.0,
        5.0,
        5.0,
    )
    with pytest.raises(ValueError, match="no values"):
        summarize([[], []])


def test_thousands_of_runs_are_summarized_in_a_moment() -> None:
    rounds = [[float(100 + (7 * run) % 13) for run in range(10_000)] for _ in range(10)]
    assert summarize(rounds).count == 100_000
