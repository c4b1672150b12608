"""The context of a measurement in this process; the agent's is in test_agent_context.py."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from headgate.device.agent.absent import NotMeasured, is_measured, to_json
from headgate.profiling.timing import pinned, read_context, warnings_between


def test_context_of_this_machine_is_json() -> None:
    text = json.dumps(to_json(read_context(packages=["numpy", "no-such-package"])))
    back = json.loads(text)
    assert "numpy" in back["versions"]
    assert "no-such-package" not in back["versions"]
    assert is_measured(back["kernel"])
    assert not is_measured({"not_measured": "no sensor"})


def test_a_busy_machine_is_a_warning() -> None:
    idle = dataclasses.replace(read_context(), load_1min=0.0, clock_synchronised=True, clocks=[])
    assert warnings_between(idle, idle) == []
    busy = dataclasses.replace(idle, load_1min=99.0)
    assert "busy before the run" in warnings_between(busy, idle)[0]
    assert warnings_between(dataclasses.replace(idle, load_1min=NotMeasured("")), idle) == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_pinning_ends_with_the_block_even_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), pinned() as cpus:
        assert os.sched_getaffinity(0) == set(cpus)
        raise RuntimeError
    assert os.sched_getaffinity(0) == before
