"""The agent with a real network: it says what the host says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headgate.device import Bundle
from headgate.device.agent.bundle import Check
from headgate.device.agent.latency import Latency
from headgate.device.agent.report import Report
from headgate.device.agent_archive import agent_archive
from headgate.device.agent_report import read_agent_report
from headgate.device.machines.runner import RunnerProgram
from headgate.profiling.report import build_report, render_html
from tests.page_structure import page_faults

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.networks import shipped

    folder = tmp_path_factory.mktemp("agent")
    (folder / "headgate-agent.pyz").write_bytes(agent_archive())
    shipped("resnet8-fbs-0.5", "host").save(folder / "network.hgb")
    return folder


def profile_with_agent(folder: Path) -> Report:
    command = [sys.executable, "-I", "-S", folder / "headgate-agent.pyz"]
    command += ["profile", folder / "network.hgb", "--rounds", "1", "--repeat", "2"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return read_agent_report(done.stdout.encode())


def test_counts_and_arithmetic_agree_with_the_hosts(folder: Path) -> None:
    bundle = Bundle.open(folder / "network.hgb")
    (inputs,), _ = bundle.vectors()
    report = profile_with_agent(folder)
    latency = report.latency
    assert isinstance(latency, Latency)
    with RunnerProgram(bundle, "host", command=[], env={}) as program:
        program.run(inputs)
        counts, macs = program.active_counts, program.layer_macs()
    assert latency.gates == {name: active.tolist() for name, active in counts.items()}
    assert [layer.executed_macs for layer in latency.layers] == macs.T.tolist()
    assert latency.dense_macs == program.dense_macs()
    assert isinstance(report.outputs, Check) and report.outputs.passed
    page = render_html(build_report("here", profiles=[report]))
    assert "resnet8-fbs-0.5" in page and page_faults(page) == []
