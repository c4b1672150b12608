"""`profile` on this machine and under an emulator; the agent's own figures: test_agent_latency."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.latency import EMULATED
from headgate.device.agent.report import InstructionCount
from headgate.device.machines.qemu_user import Qemu
from headgate.errors import BundleError, InputError, ToolMissing
from headgate.profiling import profile
from tests import fake_bundle, fake_runner

# The function has taken the module's name in the package.
module = importlib.import_module("headgate.profiling.profile")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET_S", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fake_runner.save_bundle(tmp_path / "net.hgb", base_us=100)
    return tmp_path / "net.hgb"


def test_layers_have_times_macs_and_active_channels(path: Path) -> None:
    report = profile(path, repeat=2)
    latency = report.latency
    assert report.bundle.name == "net" and report.machine == "host"
    assert latency.latency_us.rounds == 2
    assert latency.latency_us.count == len(latency.latencies_us)
    gate, conv = latency.layers
    assert (gate.is_gate, conv.is_gate) == (True, False)
    assert conv.median_us == pytest.approx(3 * gate.median_us)
    assert (conv.dense_macs, conv.executed_macs) == (96, [48, 72, 48, 72, 48])
    assert (conv.channels, conv.active_outputs) == (4, [2, 3, 2, 3, 2])
    assert (gate.channels, gate.active_outputs) == (None, None)
    assert latency.dense_macs == 96  # gates are no part of the dense network
    assert latency.executed_macs == [64, 88, 64, 88, 64]


def test_an_unsaved_bundle_has_its_own_name(path: Path) -> None:
    from headgate.device import Bundle

    report = profile(Bundle.open(path), repeat=1)
    assert report.bundle.name == "fake"
    assert report.bundle.sha256 == profile(path, repeat=1).bundle.sha256


def test_images_take_the_place_of_the_test_vectors(path: Path) -> None:
    report = profile(path, images=fake_bundle.images(2), repeat=1)
    assert report.latency.inputs == 2
    assert report.outputs == NotMeasured("the inputs are not the bundle's own")
    with pytest.raises(InputError, match=r"takes float32 \(N, 4, 2, 3\)"):
        profile(path, images=np.zeros((1, 3, 2, 3), np.float32))


def test_emulated_time_is_not_measured_but_work_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = fake_bundle.bundle({"code/runner": fake_runner.script()}, target="rpi4")
    monkeypatch.setattr(Qemu, "command", lambda self: ["/usr/bin/env"])

    def missing(*args: object, **options: object) -> None:
        raise ToolMissing("no plugins")

    monkeypatch.setattr(module, "count_instructions", missing)
    report = profile(bundle, "qemu:rpi4")
    latency = report.latency
    assert latency.latency_us == latency.layers[1].median_us == EMULATED
    assert latency.layers[1].executed_macs == [48, 72, 48, 72, 48]
    assert latency.latencies_us == [] and report.outputs.passed
    assert report.instructions == NotMeasured("no plugins")
    data = json.loads(json.dumps(report.to_json()))
    assert data["latency"]["latency_us"] == {"not_measured": EMULATED.reason}


def test_a_bundle_without_a_runner_is_refused() -> None:
    with pytest.raises(BundleError, match="has no code/runner"):
        profile(fake_bundle.bundle({"code/network.so": b"code"}))


def test_instructions_come_with_the_share_per_mac() -> None:
    count = InstructionCount(96, 5000, 48, 96, True, "qemu:rpi4", "cortex-a72", "qemu-aarch64 7.2")
    assert count.per_mac == 2.0
