"""What READMEs show runs: Python, commands that need no board and no hours, linking a runner."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

import headgate
from headgate.cli import main
from headgate.train.gates import gate_loss
from headgate.train.macs import count_macs
from tests import fake_bundle
from tests.networks import converted, shipped
from tests.readmes import blocks, commands, headgate_commands

CIFAR = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run; what is timed is timed briefly."""
    monkeypatch.chdir(tmp_path)
    for name in ("compare", "profile"):
        module = importlib.import_module(f"headgate.profiling.{name}")
        monkeypatch.setattr(module, "BUDGET_S", 0.1, raising=False)
    return tmp_path


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)]
    return nn.Sequential(*layers).eval()


def run(readme: str, names: dict[str, Any]) -> dict[str, Any]:
    """Runs a README's Python, block after block, on this machine instead of a board."""
    for text in blocks(readme, "python"):
        text = text.replace('target="rpi4"', 'target="host"').replace("qemu:rpi4", "host")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, readme, "exec"), names)
    return names


def test_python_of_the_front_page(folder: Path) -> None:
    names = run("README.md", {"network": network(), "example": CIFAR[:1], "images": CIFAR.numpy()})
    assert names["scores"].shape == (4, 10)


def test_python_of_compiling(folder: Path) -> None:
    run("compile/README.md", {"headgate": headgate, "torch": torch, "module": network()})
    assert (folder / "model.hgb").is_file()


def test_python_of_devices(folder: Path) -> None:
    shipped("resnet8-fbs-0.5", "host").save(folder / "resnet8-fbs-0.5.hgb")
    names = run("device/README.md", {"images": CIFAR.numpy()})
    assert names["scores"].shape == (4, 10)


def test_python_of_training() -> None:
    given = {
        "model": headgate.train.models.create_model("resnet8"),
        "images": CIFAR,
        "labels": torch.arange(4),
        "example_input": CIFAR[:1],
        "cross_entropy": nn.functional.cross_entropy,
        "gate_loss": gate_loss,
        "count_macs": count_macs,
    }
    names = run("train/README.md", given)
    assert names["loss"].isfinite() and names["count"].executed < names["count"].dense


def test_python_of_profiling(folder: Path) -> None:
    pytest.importorskip("tensorflow", reason="tensorflow is not installed: headgate[tflite]")
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    for name in ("resnet8", "resnet8-fbs-0.5"):
        shipped(name, "host").save(folder / f"{name}.hgb")
    shutil.copy(converted("resnet8"), folder / "resnet8.tflite")
    run("profiling/README.md", {})
    assert "ResNet-8" in (folder / "report.html").read_text()


def test_commands_of_the_front_page(folder: Path, qemu_aarch64: str) -> None:
    made, proved = headgate_commands("README.md")[:2]
    assert made[0] == "compile" and proved[0] == "validate"
    assert main(made) == main(proved) == 0


def test_firmware_of_the_front_page(folder: Path, qemu_system_arm: str) -> None:
    (block,) = (text for text in blocks("README.md", "") if "fw/demo/build.py" in text)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert lines[0] == ["pip", "install", "headgate[compile]"] and len(lines) == 5
    for words in lines[1:]:
        if words[0] == "headgate":
            assert main(words[1:]) == 0, words
        else:
            assert words[0] == "python"
            ran = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
            assert ran.returncode == 0 and ran.stdout.endswith("passed\n"), ran.stderr


def test_commands_of_the_tflite_page(folder: Path) -> None:
    pytest.importorskip("tensorflow", reason="tensorflow is not installed: headgate[tflite]")
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    shipped("resnet8", "host").save(folder / "resnet8-host.hgb")
    for words in headgate_commands("compile/export/tflite/README.md"):
        assert main(words) == 0, words


def test_linking_a_runner(folder: Path) -> None:
    """The commands of device/README.md, with the C compiler that is here, on the test network."""
    runtime = Path(headgate.device.__file__).parent / "runtime"
    shutil.copytree(runtime, folder, dirs_exist_ok=True)
    shutil.copy(fake_bundle.NETWORK, "network.c")
    (folder / "kernels.c").touch()
    # zig compiles the C library first.
    here = shutil.which("cc")
    compiler = [here] if here else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*compiler, "-c", "kernels.c", "-o", "kernels.o"], check=True)
    linked = [words for words in commands("device/README.md") if words[0] == "cc"]
    assert len(linked) >= 2
    for words in linked:
        static = ["-target", "native-linux-musl"] if "-static" in words and not here else []
        done = subprocess.run([*compiler, *static, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    described = subprocess.run(["./runner", "--describe"], capture_output=True, check=True)
    assert json.loads(described.stdout)["layers"]
