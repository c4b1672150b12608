"""The files that a card is written from: checksums in all their forms, and what is no file."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.device.flash import ImageSource
from headgate.errors import InputError

IMAGE = bytes(446) + bytes.fromhex("000000000c0000000001000000010000") + bytes(48) + b"\x55\xaa"
IMAGE = IMAGE.ljust(1 << 18, b"\1")
ZEROS, ONES = "0" * 64, "1" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> bytes:
    with ImageSource(path) as source:
        return b"".join(source.chunks())


RIGHT = {
    "sha256sum": "{sum}  pi.img\n",
    "binary": "{sum} *pi.img\n",
    "sum alone": "{sum}",
    "--tag": "SHA256 (pi.img) = {sum}\n",
    "openssl": "SHA2-256(other.img)= {sum}\n",
    "upper case": "{SUM}  pi.img\n",
    "upper case, --tag": "SHA256 (pi.img) = {SUM}\n",
    "Windows": "\ufeff{SUM} *C:\\cards\\pi.img\r\n",
    "several lines": f"{ZEROS}  other.img\n{{sum}}  pi.img\n{ONES}  third.img\n",
    "several lines, --tag": f"SHA256 (other.img) = {ZEROS}\nSHA256 (pi.img) = {{sum}}\n",
    "several kinds": f"MD5 (pi.img) = {'0' * 32}\nSHA256 (pi.img) = {{sum}}\n",
    "several forms, CRLF": f"# sums\r\n{ZEROS} *x.img\r\n\r\nSHA256 (pi.img) = {{SUM}}\r\n",
    "a folder": f"{ZEROS}  a/b.img\n{{sum}}  ./out/pi.img\n",
    "another name": "{sum}  2026-05-01-raspios.img\n",
    "escaped": f"\\{ZEROS}  a\\nb.img\n\\{{sum}}  a\\\\b/pi.img\n",
}
WRONG = {
    "sha256sum": f"{ZEROS}  pi.img\n",
    "the sum is another file's": f"{{sum}}  other.img\n{ZEROS}  pi.img\n",
    "two sums": f"{{sum}}  pi.img\n{ZEROS}  pi.img\n",
    "another name": f"{ZEROS}  other.img\n",
    "--tag": f"SHA256 (pi.img) = {ZEROS}\n",
}


@pytest.mark.parametrize("form", RIGHT)
def test_a_checksum_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    image = tmp_path / "pi.img"
    image.write_bytes(IMAGE)
    digest = sha256(IMAGE)
    beside = tmp_path / "pi.img.sha256"
    text = RIGHT[form].format(sum=digest, SUM=digest.upper())
    beside.write_bytes(text.encode())
    assert read(image) == IMAGE
    image.write_bytes(IMAGE[:-1] + b"!")
    with pytest.raises(InputError, match=r"pi.img is not what pi.img.sha256 says; download it"):
        read(image)


@pytest.mark.parametrize("form", WRONG)
def test_a_wrong_checksum_is_refused(tmp_path: Path, form: str) -> None:
    image = tmp_path / "pi.img"
    image.write_bytes(IMAGE)
    (tmp_path / "pi.img.sha256").write_text(WRONG[form].format(sum=sha256(IMAGE)))
    with pytest.raises(InputError, match=r"is not what pi.img.sha256 says"):
        read(image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no SHA-256"),
        (b"no sum\n", "holds no SHA-256"),
        (b"d41d8cd98f00b204e9800998ecf8427e  pi.img\n", "holds no SHA-256"),
        (b"\xff\xfe\x00", "cannot read"),
        (f"{ZEROS}  a.img\n{ONES}  b.img\n".encode(), "has 2 lines and none for pi.img"),
    ],
)
def test_what_says_nothing_of_the_image_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    image = tmp_path / "pi.img"
    image.write_bytes(IMAGE)
    (tmp_path / "pi.img.sha256").write_bytes(data)
    with pytest.raises(InputError, match=rf"{message}.*; repair or remove it"):
        ImageSource(image)


@pytest.mark.parametrize("ending", [".xz", ".gz"])
@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ("pi.img{ending}.sha256", "{packed}  pi.img{ending}\n"),
        ("pi.img{ending}.sha256", "{unpacked}  pi.img\n"),
        ("pi.img{ending}.sha256", "{unpacked}"),
        ("pi.img{ending}.sha256", "{packed}"),
        ("pi.img{ending}.sha256", "{unpacked}  pi.img\n{packed}  pi.img{ending}\n"),
        ("pi.img.sha256", "{unpacked}  pi.img\n"),
        ("pi.img.sha256", "SHA256 (pi.img) = {unpacked}\n"),
    ],
)
def test_a_checksum_may_be_of_the_unpacked_image(
    tmp_path: Path, ending: str, beside: str, text: str
) -> None:
    pack = lzma.compress if ending == ".xz" else gzip.compress
    image, packed = tmp_path / f"pi.img{ending}", pack(IMAGE)
    image.write_bytes(packed)
    file = tmp_path / beside.format(ending=ending)
    file.write_text(text.format(ending=ending, packed=sha256(packed), unpacked=sha256(IMAGE)))
    assert read(image) == IMAGE
    image.write_bytes(pack(IMAGE[:-1] + b"!"))
    with pytest.raises(InputError, match=rf"is not what {file.name} says"):
        read(image)


def test_the_checksum_of_an_unpacked_image_that_is_there_is_its_own(tmp_path: Path) -> None:
    packed, changed = tmp_path / "pi.img.xz", tmp_path / "pi.img"
    packed.write_bytes(lzma.compress(IMAGE))
    changed.write_bytes(IMAGE[:-1] + b"!")
    (tmp_path / "pi.img.sha256").write_text(sha256(changed.read_bytes()))
    assert read(packed) == IMAGE
    assert read(changed) != IMAGE


def test_what_is_no_file_is_refused_for_that_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for image in (pipe, Path("/dev/null"), tmp_path):
        assert main(["flash", str(image), str(tmp_path / "card.img"), "--yes"]) == 1
        assert capsys.readouterr().err == (
            f"headgate: error: {image} is no plain file; save the image to one, and name that\n"
        )
    assert not (tmp_path / "card.img").exists()
