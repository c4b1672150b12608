"""The demo, on networks so small that it takes seconds."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from headgate.cli import main

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
pytest.importorskip("ziglang")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts small gated networks in the place of the shipped ones, and times them briefly."""
    from headgate import demo, gate
    from headgate.networks import Network
    from headgate.train.data import CLASSES, PREPROCESS, sample_images

    def find(name: str) -> Network:
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=4),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 8, 3),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(288, 10),
        )
        _, fbs, density = name.partition("-fbs-")
        if fbs:
            module = gate(module, density=float(density))
        vectors = PREPROCESS(sample_images()[0][:4])
        return Network(
            name, module.eval(), (3, 32, 32), vectors, PREPROCESS, list(CLASSES), test_accuracy=0.1
        )

    monkeypatch.setattr(demo, "find_network", find)
    for module in ("compare", "profile"):
        monkeypatch.setattr(
            importlib.import_module(f"headgate.profiling.{module}"), "BUDGET_S", 0.1
        )


def test_demo(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["valid"]
    standings = result["comparison"]["standings"]
    assert [one["name"] for one in standings] == ["resnet8", "resnet8-fbs-0.7", "resnet8-fbs-0.5"]
    done = [one["executed_macs"] for one in standings]
    assert done[0] > done[1] > done[2]
    assert all(0 <= one["accuracy_on_images"] <= 1 for one in standings)
    page = Path(result["report"]).read_text()
    assert all(one["name"] in page for one in standings)
    assert len(list((tmp_path / "demo").glob("*.hgb"))) == 6


def test_demo_without_qemu_says_what_is_missing(
    small: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "headgate.device.machines.qemu_user.shutil.which", lambda name, **options: None
    )
    assert main(["demo", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "left out: machine qemu:rpi4 needs qemu-aarch64; install it: apt-get install" in shown
    assert "next: headgate" in shown
