"""MACs, saved and realised mean the same wherever they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.device import load
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.definitions import dense_macs, executed_macs, macs_saved, realised
from headgate.device.agent.settings import Settings
from headgate.device.agent_call import measure_here
from headgate.profiling import profile
from tests import fake_bundle, fake_runner


def test_host_and_board_count_the_same_macs(tmp_path: Path) -> None:
    path = tmp_path / "fake.hgb"
    bundle = fake_runner.save_bundle(path)
    (images,), _ = bundle.vectors()
    latency = measure_here(path, Settings(rounds=1, budget_s=0.01)).latency
    with load(bundle) as program:
        program.run(images)
        assert latency.executed_macs == program.executed_macs().tolist()
        assert latency.dense_macs == program.dense_macs() == 96  # without the gate
        of_layers = [layer.executed_macs for layer in latency.layers]
        assert of_layers == program.layer_macs().T.tolist()
    here = profile(path, repeat=1).latency
    assert (here.dense_macs, here.executed_macs) == (latency.dense_macs, latency.executed_macs)


def test_executed_macs_are_pairs_of_active_channels_and_what_is_always_done() -> None:
    _, conv = fake_bundle.manifest()["layers"]
    assert executed_macs(conv, None, None) == 96  # 6 x 4 x 4
    assert executed_macs(conv, None, 2) == 48
    assert executed_macs({**conv, "base_macs": 10}, 1, 0) == 10
    assert dense_macs(fake_bundle.manifest()["layers"]) == 96


def test_realised_is_time_saved_over_macs_saved() -> None:
    assert macs_saved(25, 100) == 0.75
    assert realised(2.0, 0.75) == pytest.approx(0.5 / 0.75)
    assert realised(2.0, 0.009) == realised(2.0, -0.1) == NotMeasured("it saves no arithmetic")
