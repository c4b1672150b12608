"""`headgate compile --project`: what is refused before anything is compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli import main
from headgate.device.bundle_folder import write_folder
from headgate.errors import StorageError

M4 = ("--target", "cortex-m4")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--project", "demo", "-o", "fw"), "--project is for microcontrollers"),
        (("--project", "demo", "--target", "rpi4", "-o", "fw"), "is for microcontrollers"),
        (("--project", "demo", "--backend", "tflite"), "--project is for microcontrollers"),
        (("--project", "demo", *M4), "give one: -o fw/"),
        (("--project", "demo", *M4, "-o", "fw.hgb"), "give one: -o fw/"),
        (("--project", "code", *M4, "-o", "fw"), "and none of code, examples, include, src"),
        (("--project", "../up", *M4, "-o", "fw"), "has to be letters"),
        (("--project", "d", *M4, "-o", "fw", "--board", "pico"), "Did you mean 'pico2'"),
        (("--project", "d", *M4, "-o", "fw", "--board", "pico2"), "give --target cortex-m33"),
        ((*M4, "-o", "fw", "--layout", "zepyr"), "Did you mean 'zephyr'"),
        (("-o", "fw", "--layout", "zephyr"), "--layout is for microcontrollers"),
        ((*M4, "-o", "fw", "--board", "pico2"), "--board is for --project"),
    ],
)
def test_options_that_do_not_go_together(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "resnet8", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("note", ['{"name": 1}', '{"name": "x", "files": []}', "[]", '"x"'])
def test_a_manifest_of_somebody_else_owns_nothing(note: str, tmp_path: Path) -> None:
    folder = tmp_path / "fw"
    (folder / "x").mkdir(parents=True)
    (folder / "x" / "file").write_text("mine")
    (folder / "manifest.json").write_text(f'{{"members": {{}}, "project": {note}}}')
    with pytest.raises(StorageError, match="x/file in it is not of a bundle"):
        write_folder(folder, {"manifest.json": b"{}"}, "manifest.json")
