"""Bad input: one line on standard error, an exit code that is not zero, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.cli import main
from headgate.errors import StorageError, UnsupportedOperator
from tests.fake_bundle import bundle

Fails = Callable[..., str]
CODE = {"code/runner": b"\x7fELF, but never executed here"}


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that has to fail with ``code``; gives back its one line."""

    def run(*arguments: str | Path, code: int = 1) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("headgate: error: ")
        assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
        return captured.err.removeprefix("headgate: error: ").rstrip()

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "fake.hgb"
    bundle(CODE).save(path)
    return path


READERS = ["run", "validate", "profile"]


@pytest.mark.parametrize("verb", READERS)
def test_truncated_bundle(verb: str, saved: Path, fails: Fails) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    assert fails(verb, saved).startswith(f"{saved}: truncated or not a bundle")


@pytest.mark.parametrize("verb", READERS)
def test_altered_bundle(verb: str, saved: Path, fails: Fails) -> None:
    # In the archive and its own checksum, so that only the manifest's SHA-256 can tell.
    other = bundle({"code/runner": b"\x7fELF, but seldom executed her"})
    other.manifest["members"] = bundle(CODE).manifest["members"]
    saved.write_bytes(other.to_bytes())
    assert "member code/runner was altered" in fails(verb, saved)


@pytest.mark.parametrize("verb", READERS)
def test_missing_bundle(verb: str, tmp_path: Path, fails: Fails) -> None:
    assert fails(verb, tmp_path / "no.hgb").startswith(f"no bundle {tmp_path / 'no.hgb'}")


@pytest.mark.parametrize("verb", READERS)
def test_bundle_for_another_target(verb: str, tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "fake.hgb"
    bundle(CODE, "rpi4").save(path)
    line = fails(verb, path, "--on", "qemu:rpi3")
    assert "compiled for target rpi4" in line and "recompile with --target rpi3" in line


def test_unknown_machine(saved: Path, fails: Fails) -> None:
    assert "Did you mean 'qemu:rpi4'?" in fails("run", saved, "--on", "qemu:rpi44", code=2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 2, 2), np.float32), "the network takes [N, 4, 2, 3]"),
        (np.zeros((1, 4, 2, 3), np.float64), "has type float64; expected uint8 pixels or float32"),
        (np.zeros((1, 5, 5, 4), np.uint8), "is 5x5 with 4 channels, the network takes 3x2 with 4"),
        (np.zeros(24, np.float32), "has shape (24,); expected one image or a batch"),
        (np.zeros((0, 4, 2, 3), np.float32), "expected one image or a batch"),
        (np.array([{}], object), "is not an array that NumPy can read"),
    ],
)
def test_wrong_array(
    array: np.ndarray, message: str, saved: Path, tmp_path: Path, fails: Fails
) -> None:
    np.save(tmp_path / "images.npy", array, allow_pickle=True)
    assert message in fails("run", saved, "--images", tmp_path / "images.npy")


def test_pixels_without_preprocessing(tmp_path: Path, fails: Fails) -> None:
    bundle(CODE, preprocess=None).save(tmp_path / "fake.hgb")
    np.save(tmp_path / "images.npy", np.zeros((1, 2, 3, 4), np.uint8))
    line = fails("run", tmp_path / "fake.hgb", "--images", tmp_path / "images.npy")
    assert "does not say how to preprocess" in line


def test_image_of_another_size(saved: Path, tmp_path: Path, fails: Fails) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (48, 40)).save(tmp_path / "cat.png")
    line = fails("run", saved, "--images", tmp_path / "cat.png")
    assert "is 48x40 with 3 channels, the network takes 3x2 with 4: resize it first" in line


def test_file_that_is_no_image(saved: Path, tmp_path: Path, fails: Fails) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "cat.png").write_bytes(b"meow")
    line = fails("run", saved, "--images", tmp_path / "cat.png")
    assert "is not an image that can be decoded" in line


def test_missing_images(saved: Path, tmp_path: Path, fails: Fails) -> None:
    assert "there are no images at" in fails("run", saved, "--images", tmp_path / "cat.png")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails("run", saved, "--images", tmp_path / "empty")


def test_unknown_recipe_key(tmp_path: Path, fails: Fails) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("epoch = 3\n")
    line = fails("train", recipe, code=2)
    assert line == f"{recipe}: unknown key 'epoch'. Did you mean 'epochs'?"
    line = fails("train", "resnet8", "--set", "learning_rat=1", code=2)
    assert line == "--set: unknown key 'learning_rat'. Did you mean 'learning_rate'?"


def test_recipe_that_is_not_there(fails: Fails) -> None:
    assert "Did you mean 'resnet8'?" in fails("train", "resnet88")


def test_a_run_is_not_overwritten(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "recipe.toml").write_text("")
    line = fails("train", "resnet8", "--out", tmp_path, code=2)
    assert "holds a run already; add --resume" in line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["resnet8", "--target", "rpi44"], 2, "Did you mean 'rpi4'?"),
        (["resnet9", "--random-weights"], 2, "unknown model 'resnet9'"),
        (["resnet8x"], 1, "there is no checkpoint 'resnet8x'"),
        (["resnet56"], 2, "no trained resnet56 comes with the package: add --random-weights"),
        (["no/where.safetensors"], 1, "no/where.json does not exist"),
        (["resnet20", "--random-weights", "--density", "0.5"], 2, "add --method fbs"),
        (["resnet20", "--random-weights", "--method", "fb"], 2, "Did you mean 'fbs'?"),
        (["resnet20", "--random-weights", "--method", "fbs", "--density", "2"], 2, "density 2.0"),
    ],
)
def test_network_that_cannot_be_compiled(
    arguments: list[str], code: int, message: str, tmp_path: Path, fails: Fails
) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "out.hgb"
    assert message in fails("compile", *arguments, "-o", output, code=code)
    assert list(tmp_path.iterdir()) == []


def test_operator_that_cannot_be_lowered() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("tvm")
    import headgate

    class Bessel(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Bessel()).eval()
    with pytest.raises(
        UnsupportedOperator,
        match=r"bessel_j0.* in module '1' cannot be lowered. Headgate lowers convolution",
    ) as caught:
        headgate.compile_module(network, torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(caught.value)


def test_full_disk_while_saving_a_bundle(full_disk: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*: no space left on the disk"):
        bundle(CODE).save(full_disk / "fake.hgb")
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_full_disk_while_training(full_disk: Path, fails: Fails) -> None:
    pytest.importorskip("accelerate")
    line = fails("train", "resnet8", "--set", "dataset=synthetic", "--out", full_disk)
    assert "no space left on the disk" in line
    assert [path.name for path in full_disk.iterdir()] == ["filler"]
