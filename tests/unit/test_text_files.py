"""Text that users write: with the mark that Windows' editors begin with, in other encodings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.device.image.settings import read_keys
from headgate.errors import (
    DataError,
    HeadgateError,
    ModelError,
    RecipeError,
    StorageError,
    UsageError,
)
from headgate.train.checkpoints import describe
from headgate.train.data import imagenet, lists
from headgate.train.history import COLUMNS, read_csv, write_csv
from headgate.train.recipe import load_recipe

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me@board\n"


def ssh_key(path: Path) -> Any:
    from headgate.cli.image import _read_text

    return read_keys(_read_text(path), str(path))


# What is read, by which reader, and the error for what is no text.
READERS: dict[str, tuple[str, Callable[[Path], Any], type[HeadgateError], str]] = {
    "recipe": ("epochs = 2  # Größe\n", load_recipe, RecipeError, "no text in UTF-8: save it as"),
    "list": ("a.jpg 0\nb.jpg 1\n", lists.numbered, DataError, "no text in UTF-8: save it as"),
    "solution": ("ImageId,x\na,n1 1 2\n", imagenet._rows, DataError, "no text in UTF-8"),
    "key": (KEY, ssh_key, UsageError, "is no public key of OpenSSH"),
    "checkpoint": ('{"schema": 1}', describe, ModelError, "not a checkpoint's description"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path: Path, name: str) -> None:
    content, read, _, _ = READERS[name]
    path = tmp_path / "file.json"
    path.write_bytes(content.encode())
    plain = read(path)
    path.write_bytes(content.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    assert read(path) == plain


@pytest.mark.parametrize("name", READERS)
def test_text_in_another_encoding_is_one_line_with_the_files_name(
    tmp_path: Path, name: str
) -> None:
    _, read, kind, message = READERS[name]
    path = tmp_path / "file.json"
    for content in ("epochs = 2 # Größe".encode("latin-1"), b"\xff\xfee\0p\0", b"\x00\xff\x80"):
        path.write_bytes(content)
        with pytest.raises(kind, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_log_that_an_editor_has_marked(tmp_path: Path) -> None:
    rows = [dict.fromkeys(COLUMNS, 0.5)]
    write_csv(tmp_path / "log.csv", rows)
    marked = b"\xef\xbb\xbf" + (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").write_bytes(marked)
    assert read_csv(tmp_path / "log.csv") == rows


def test_a_table_with_an_endless_field_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "LOC_val_solution.csv"
    path.write_text("ImageId,x\na," + "n" * 200_000 + "\n")
    with pytest.raises(DataError, match="is no table of comma-separated values: field larger"):
        imagenet._rows(path)


def test_a_key_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"cannot read {tmp_path}: "):
        ssh_key(tmp_path)
