from __future__ import annotations

import json

import numpy as np
import pytest

from headgate.profiling import Profile
from headgate.profiling.absent import NotMeasured
from headgate.profiling.instructions import InstructionCount
from headgate.profiling.profile import profile_source
from headgate.profiling.source import Source
from headgate.profiling.statistics import Summary
from tests import fake_bundle
from tests.fake_program import ScriptedProgram

NONE = NotMeasured("not asked for")


def measure(program: ScriptedProgram, images: int = 3, rounds: int = 4) -> Profile:
    source = Source("fake", "ab" * 32, program)
    return profile_source(source, fake_bundle.images(images), rounds, NONE)


def test_whole_network_is_summarised_without_its_warm_up() -> None:
    # Every burst is four runs: one warm-up that takes 1000 us, three that take 100.
    program = ScriptedProgram(lambda run: 1000.0 if run % 4 == 0 else 100.0)
    program.runs = -3  # three images are first run once each to read the active channels
    result = measure(program)
    assert isinstance(result.latency_us, Summary)
    assert result.latency_us.maximum == 100.0
    assert result.runs == len(result.latencies_us) == 3 * 3 * 4


def test_layers_have_times_macs_and_active_channels() -> None:
    result = measure(ScriptedProgram(lambda run: 40.0, active=2), images=3)
    gate, conv = result.layers
    assert (gate.is_gate, conv.is_gate) == (True, False)
    assert (gate.time_us, conv.time_us) == (10.0, 30.0)
    assert (conv.dense_macs, conv.done_macs) == (96, 48)  # 6 per pair x 4 inputs x 2 of 4 outputs
    assert (conv.channels, conv.active_channels) == (4, [2, 2, 2])
    assert (gate.channels, gate.active_channels) == (None, None)
    assert result.dense_macs == 96  # gates are no part of the dense network
    assert result.done_macs == 48 + 16
    assert (result.gate_macs, result.gate_time_us, result.layer_time_us) == (16, 10.0, 40.0)


def test_images_are_taken_in_turn() -> None:
    program = ScriptedProgram(lambda run: 40.0)
    measure(program, images=3, rounds=2)
    assert program.calls == [3, 1] + [1] * 12  # counts, a guess, then 2 kinds x 2 rounds x 3


def test_drift_is_a_warning() -> None:
    result = measure(ScriptedProgram(lambda run: 100.0 + run), images=2, rounds=20)
    assert any("drifted" in line for line in result.warnings)


def test_emulated_time_is_not_measured() -> None:
    result = measure(ScriptedProgram(lambda run: 40.0, machine="qemu:rpi4"))
    assert result.latency_us == NotMeasured(
        "the wall time of an emulator says nothing about a device"
    )
    assert isinstance(result.layers[1].time_us, NotMeasured)
    assert result.layers[1].done_macs == 48
    assert result.runs == 0


def test_instructions_come_with_the_share_per_mac() -> None:
    count = InstructionCount(96, 5000, 48, 96, True, "qemu:rpi4", "cortex-a72", "qemu-aarch64 7.2")
    assert count.per_mac == 2.0


def test_profile_is_json() -> None:
    data = json.loads(json.dumps(measure(ScriptedProgram(lambda run: 40.0)).to_json()))
    assert data["instructions"] == {"not_measured": "not asked for"}
    assert data["latency_us"]["median"] == 40.0
    assert data["layers"][1]["active_channels"] == [2, 2, 2]
    assert "1 MAC" in data["mac_convention"]


def test_repeat_is_chosen_from_the_clock_when_not_given() -> None:
    source = Source("fake", "ab" * 32, ScriptedProgram(lambda run: 50_000.0))
    slow = profile_source(source, fake_bundle.images(2), None, NONE)
    assert slow.runs == 2 * 3 * 5  # 2 s hold 5 rounds of 2 images x (3 + 1) runs of 50 ms
    assert np.unique(slow.latencies_us) == pytest.approx([50_000.0])
