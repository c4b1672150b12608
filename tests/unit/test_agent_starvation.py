"""Threads that share a CPU with something else are noticed; those that only sleep are not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.device.agent.bundle import open_bundle
from headgate.device.agent.cpus import Queue, cpu_share
from headgate.device.agent.latency import measure_latency
from headgate.device.agent.runner import Network, NetworkLoad
from headgate.device.agent.settings import Plan
from headgate.device.agent.system import System
from headgate.device.agent.watch import Watch
from tests.fake_runner import save_bundle

# Two threads that work for as long as the scripted clock says, outside of Python's lock.
WORK = """
import hashlib, threading
def work():
    data, deadline = bytes(1 << 20), time.monotonic() + 0.5
    while time.monotonic() < deadline: hashlib.sha256(data)
other = threading.Thread(target=work)
other.start(); work(); other.join()
"""


def counts(proc: Path, threads: dict[str, str]) -> None:
    for name, text in threads.items():
        (proc / "7/task" / name).mkdir(parents=True, exist_ok=True)
        (proc / "7/task" / name / "schedstat").write_text(f"{text}\n")


def test_the_share_is_that_of_all_threads(tmp_path: Path) -> None:
    queue = Queue(7, tmp_path)
    queue.look()
    assert queue.waited_share() is None
    # One thread has a CPU to itself; of another, three quarters of what it could have run.
    counts(tmp_path, {"7": "9000 0 40", "8": "3000 1000 50"})
    queue.look()
    assert queue.waited_share() == pytest.approx(1 / 13)
    # Threads that have gone, and files that are cut off, leave what was seen last.
    (tmp_path / "7/task/8/schedstat").unlink()
    counts(tmp_path, {"7": "10000"})
    queue.look()
    assert queue.waited_share() == pytest.approx(1 / 13)


def test_threads_that_sleep_are_not_starved(tmp_path: Path) -> None:
    counts(tmp_path, {"7": "10000 0 1", "8": "400 0 900", "9": "0 0 0"})
    queue = Queue(7, tmp_path)
    queue.look()
    share = queue.waited_share()
    assert share == 0
    # Four tenths of a CPU too little for three threads, and right for their layers.
    assert cpu_share(10.4, 10.0, [share]) == 1.0


def test_looks_end_with_the_process_and_come_ever_later(tmp_path: Path) -> None:
    pauses: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return sum(pauses) > 5

    Queue(7, tmp_path).watch(Clock())
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1])


def test_what_is_not_known_changes_nothing() -> None:
    assert cpu_share(1.5, 1.0, [None, None]) == 1.0
    assert cpu_share(0.5, 1.0, [None]) == 0.5
    assert cpu_share(1.5, 1.0, [None, 0.4, 0.2]) == pytest.approx(0.7)
    # Neither witness covers up for the other.
    assert cpu_share(0.5, 1.0, [0.1]) == 0.5


def wait_for_end(wait: Callable[[float], bool]) -> None:
    while not wait(0.01):
        pass


@pytest.mark.skipif(
    not os.path.exists("/proc/self/schedstat"), reason="this kernel has no schedstat"
)
def test_two_threads_that_take_turns_on_one_cpu_are_noticed(tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb", base_us=1000, extra=WORK)
    cpu = max(os.sched_getaffinity(0))
    with Network(open_bundle(tmp_path / "fake.hgb"), {cpu}, threads=2) as network:
        watch = Watch(System(tmp_path), ())
        found = measure_latency(network, Plan(rounds=1, repeat=30), watch)
        burst = NetworkLoad(network, watch).burst(0, 10, wait_for_end)
    # By the time on CPUs alone, it had 100 %: one CPU's worth.
    assert found.cpu_share < 0.75
    assert burst.cpu_share < 0.75
    (warning,) = found.warnings()
    assert warning.startswith("the network's 2 threads had their CPUs for ")


def test_one_thread_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = tmp_path / "looked"
    monkeypatch.setattr(Queue, "look", lambda self: looked.touch())
    save_bundle(tmp_path / "one.hgb")
    with Network(open_bundle(tmp_path / "one.hgb"), threads=1) as network:
        assert network.run(samples=[0]).waited_share is None
    assert not looked.exists()
    # Two go on until they were looked at.
    wait = f"import os\nwhile not os.path.exists({str(looked)!r}): time.sleep(0.01)"
    save_bundle(tmp_path / "two.hgb", extra=wait)
    with Network(open_bundle(tmp_path / "two.hgb"), threads=2) as network:
        assert network.run(samples=[0]).waited_share is None
