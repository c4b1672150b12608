"""What becomes of what an agent printed and of the status that it ended with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.device.agent.settings import Settings
from headgate.device.agent_call import agent_result, measure_here
from headgate.errors import DeviceError
from tests.fake_runner import save_bundle


def test_a_sensor_that_fails_meanwhile_does_not_take_the_latency_along(tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb")
    sensor = f"command:{sys.executable} -c pass"
    settings = Settings(energy=True, sensor=sensor, rounds=1, budget_s=0.01)
    report = measure_here(tmp_path / "fake.hgb", settings)
    assert report.latency.latency_us.count >= 5
    assert "it ended with status 0" in report.energy.reason
    # `headgate profile` prints these, and ends with a status of its own because of them.
    assert report.valid is False
    assert any(
        reason.startswith("energy: not measured: ") and "it ended with status 0" in reason
        for reason in report.invalid_because
    )


def test_the_command_line_prints_the_latency_writes_it_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = Settings.arguments
    monkeypatch.setattr(Settings, "arguments", lambda self: [*arguments(self), "--budget-s", "0.1"])
    save_bundle(tmp_path / "fake.hgb")
    command = ["profile", str(tmp_path / "fake.hgb"), "--repeat", "1", "-o", str(tmp_path / "x")]
    assert main([*command, "--sensor", f"command:{sys.executable} -c pass"]) == 3
    printed = capsys.readouterr().out
    assert "time: " in printed and "INVALID: energy: not measured: " in printed
    assert json.loads((tmp_path / "x").read_text())["latency"]["latency_us"]["count"] >= 5


@pytest.mark.parametrize("output", [b"", b'{"schema": 1', b"[]", json.dumps({"a": 1}).encode()])
def test_without_a_report_it_is_an_error(output: bytes) -> None:
    complaint = "headgate-agent: no power sensor to use"
    with pytest.raises(DeviceError) as caught:
        agent_result("kitchen", 3, output, complaint)
    assert str(caught.value) == "energy cannot be measured on kitchen: no power sensor to use"
