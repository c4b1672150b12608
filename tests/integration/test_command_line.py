"""The whole path on the command line: train, compile, run, check, measure, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.cli import main
from headgate.device import Bundle
from tests.session_cache import lowered_as_users_do

pytest.importorskip("torch")
pytest.importorskip("tvm")
pytest.importorskip("ziglang")

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated resnet8 after an epoch on synthetic images."""
    folder = tmp_path_factory.mktemp("run")
    options = ["dataset=synthetic", "limit_train=128", "limit_test=64", "epochs=1"]
    options += ["batch_size=64", "warmup_epochs=0", "gate=fbs", "density=0.5", "precision=no"]
    settings = [part for option in options for part in ("--set", option)]
    assert main(["train", "resnet8", *settings, "--out", str(folder / "out")]) == 0
    return folder / "out" / "model.safetensors"


@pytest.fixture(scope="module")
def host_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "gated.hgb"
    with lowered_as_users_do():
        assert main(["compile", str(checkpoint), "-o", str(path)]) == 0
    return path


def test_on_this_machine(
    checkpoint: Path, host_bundle: Path, tmp_path: Path, command: Command
) -> None:
    assert command("validate", host_bundle)["passed"]
    figures = command("validate", host_bundle, "--images", "sample", "--model", checkpoint)
    assert figures["passed"]
    assert figures["samples"] == 200
    # Another network's answers must not pass.
    figures = command("validate", host_bundle, "--images", "sample", "--model", "resnet8", code=3)
    assert figures["max_error"] > 0.01
    assert main(["validate", str(host_bundle), "--model", "resnet8"]) == 2

    figures = command("run", host_bundle, "--images", "sample", "-o", tmp_path / "scores.npy")
    assert figures["images"] == 200
    assert 0 <= figures["accuracy"] <= 1
    done = np.array(figures["executed_macs"])
    assert (done < 0.6 * figures["dense_macs"]).all()
    scores = np.load(tmp_path / "scores.npy")
    assert scores.shape == (200, 10)
    assert scores.argmax(axis=1).tolist() == figures["predicted"]

    profiled = command("profile", host_bundle, "--repeat", "5")
    assert profiled["latency"]["latency_us"]["percentiles"]["p50"]["value"] > 0


def test_compiling_twice_gives_equal_bytes(
    checkpoint: Path, host_bundle: Path, tmp_path: Path, command: Command
) -> None:
    with lowered_as_users_do():
        command("compile", checkpoint, "-o", tmp_path / "again.hgb")
    assert (tmp_path / "again.hgb").read_bytes() == host_bundle.read_bytes()


def test_on_an_emulated_board(
    checkpoint: Path, tmp_path: Path, command: Command, qemu_aarch64: str
) -> None:
    path = tmp_path / "board.hgb"
    compiled = command("compile", checkpoint, "--target", "rpi4", "-o", path)
    assert compiled["target"] == "rpi4" and compiled["bundle_bytes"] < 1e6
    assert command("validate", path, "--on", "qemu:rpi4")["passed"]


def test_report(host_bundle: Path, tmp_path: Path, command: Command) -> None:
    files = command("report", host_bundle, "-o", tmp_path / "page.html")["files"]
    assert sorted(Path(file).name for file in files) == [
        "page-density.csv",
        "page-layers.csv",
        "page-macs.csv",
        "page.csv",
        "page.html",
        "page.json",
    ]
    page = (tmp_path / "page.html").read_text()
    command("report", tmp_path / "page.json", "-o", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_wrong_answer_is_exit_code_3(host_bundle: Path, tmp_path: Path, command: Command) -> None:
    bundle = Bundle.open(host_bundle)
    members = dict(bundle.members)
    tensors = bytearray(members["vectors.safetensors"])
    tensors[-4:] = np.float32(1e6).tobytes()  # the last score of the last vector
    members["vectors.safetensors"] = bytes(tensors)
    Bundle(bundle.manifest, members).save(tmp_path / "wrong.hgb")
    assert not command("validate", tmp_path / "wrong.hgb", code=3)["passed"]


def test_full_disk_while_compiling(
    checkpoint: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(checkpoint), "-o", str(full_disk / "out.hgb")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("headgate: error: cannot write") and "no space left" in error
    assert [path.name for path in full_disk.iterdir()] == ["filler"]
