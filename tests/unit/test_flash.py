"""Writing images: whatever fails, nothing that boots differs from the image."""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import os
import random
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.device.flash import Disk, ImageSource, Target, flash
from headgate.device.flash import write as writing
from headgate.device.flash.source import CHUNK_BYTES
from headgate.errors import (
    DeviceError,
    HeadgateError,
    InputError,
    MissingFile,
    StorageError,
    UsageError,
)

PIECES = 6


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 KiB, so that every write of an image can be made to fail in turn."""
    for module in ("source", "write"):
        monkeypatch.setattr(f"headgate.device.flash.{module}.CHUNK_BYTES", 65536)
    monkeypatch.setattr(writing, "_ZEROS", bytes(65536))
    monkeypatch.setattr(writing, "_SYNC_BYTES", 2 * 65536)


def image_bytes() -> bytes:
    """An image with a partition table, a piece of zeros, and a last piece that is short."""
    noise = random.Random(0)
    pieces = [noise.randbytes(65536) for _ in range(PIECES)]
    sectors = ((PIECES - 1) * 65536 + 5120) // 512
    table = struct.pack("<4xB3xII", 0x83, 8, sectors - 8)
    pieces[0] = pieces[0][:446] + table + bytes(48) + b"\x55\xaa" + pieces[0][512:]
    pieces[3] = bytes(65536)
    pieces[-1] = pieces[-1][:5120]
    return b"".join(pieces)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "pi.img"
    path.write_bytes(image_bytes())
    return path


class Card(Target):
    """A plain file that stands for /dev/sdb; test_disks.py has what is checked of real ones."""

    def check_disk(self, descriptor: int, disk: Disk) -> None:
        pass


@pytest.fixture
def card(tmp_path: Path) -> Target:
    """A card with something on it that boots."""
    path = tmp_path / "sdb"
    old = random.Random(1).randbytes(10 * 65536)
    path.write_bytes(old[:510] + b"\x55\xaa" + old[512:])
    disk = Disk("sdb", path, 10 * 65536, "Card", "1", "usb", "8:16", True, None)
    return Card(path, disk)


def boots(path: Path) -> bool:
    """Whether a machine would find a partition table."""
    return path.exists() and path.read_bytes()[510:512] == b"\x55\xaa"


def write(image: Path, target: Target) -> writing.Flashed:
    with ImageSource(image) as source:
        return flash(source, target)


def test_a_card_holds_the_image_and_keeps_what_is_behind_it(image: Path, card: Target) -> None:
    behind = card.path.read_bytes()[len(image_bytes()) :]
    done = write(image, card)
    assert card.path.read_bytes() == image_bytes() + behind
    assert done.size_bytes == len(image_bytes())
    assert done.sha256 == hashlib.sha256(image_bytes()).hexdigest()
    # The card had something else where the image has zeros.
    assert done.written_bytes == len(image_bytes())


def test_zeros_are_not_written_to_a_blank_card(image: Path, card: Target) -> None:
    card.path.write_bytes(bytes(10 * 65536))
    assert write(image, card).written_bytes == len(image_bytes()) - 65536


def test_a_file_becomes_the_image_with_holes(image: Path, tmp_path: Path) -> None:
    target = Target(tmp_path / "card.img", None)
    target.path.write_bytes(b"longer than the image " * 100_000)
    write(image, target)
    assert target.path.read_bytes() == image_bytes()
    assert target.path.stat().st_blocks * 512 < len(image_bytes())


def test_a_file_that_ends_in_zeros_has_its_full_length(tmp_path: Path) -> None:
    image = tmp_path / "pi.img"
    image.write_bytes(image_bytes()[:65536] + bytes(5 * 65536))
    target = Target(tmp_path / "card.img", None)
    write(image, target)
    assert target.path.read_bytes() == image.read_bytes()


def gzip_members(data: bytes) -> bytes:
    return gzip.compress(data[:70_001], mtime=0) + gzip.compress(data[70_001:]) + bytes(512)


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, gzip_members])
def test_compressed_images_are_written_unpacked(
    tmp_path: Path, card: Target, compress: Callable[[bytes], bytes]
) -> None:
    packed = tmp_path / "pi.img.packed"
    packed.write_bytes(compress(image_bytes()))
    write(packed, card)
    assert card.path.read_bytes().startswith(image_bytes())


# Each makes the n-th write fail in its way, given the real os.pwrite.
def _short(real: Callable[..., int], *call: object) -> int:
    descriptor, data, offset = call
    return real(descriptor, memoryview(data)[: len(memoryview(data)) // 3], offset)  # type: ignore[arg-type]


def _fails(number: int) -> Callable[..., int]:
    def fail(real: Callable[..., int], *call: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def _torn(real: Callable[..., int], *call: object) -> int:
    descriptor, data, offset = call
    real(descriptor, memoryview(data)[: len(memoryview(data)) // 2], offset)  # type: ignore[arg-type]
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _forgets(real: Callable[..., int], *call: object) -> int:
    """A card that says it has written, as worn and false ones do."""
    return len(memoryview(call[1]))  # type: ignore[arg-type]


def _flips(real: Callable[..., int], *call: object) -> int:
    descriptor, data, offset = call
    changed = bytearray(memoryview(data))  # type: ignore[arg-type]
    changed[len(changed) // 2] ^= 1
    return real(descriptor, changed, offset)


FAULTS = {
    "short": _short,
    "EIO": _fails(errno.EIO),
    "ENOSPC": _fails(errno.ENOSPC),
    "torn": _torn,
    "forgets": _forgets,
    "flips": _flips,
}
# Two that zero the partition table, one for each piece, since the card has something where the
# image has zeros, and the partition table.
WRITES = 2 + PIECES + 1


def spoil(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., int], number: int, name: str = "pwrite"
) -> list[int]:
    """Make the ``number``-th call of os.``name`` go wrong; the list counts calls."""
    real, calls = getattr(os, name), [0]

    def spoilt(*call: object) -> int:
        calls[0] += 1
        return fault(real, *call) if calls[0] == number else real(*call)

    monkeypatch.setattr(writing.os, name, spoilt)
    return calls


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(1, WRITES + 2))
def test_a_fault_at_any_write_never_leaves_something_else_that_boots(
    image: Path, card: Target, monkeypatch: pytest.MonkeyPatch, fault: str, number: int
) -> None:
    calls = spoil(monkeypatch, FAULTS[fault], number)
    try:
        write(image, card)
    except HeadgateError as error:
        message = str(error)
        assert "\n" not in message
        assert str(card.path) in message
        assert not boots(card.path)
        assert fault != "short"
    else:
        assert card.path.read_bytes().startswith(image_bytes())
        # A fault that does not show in the result: the zeroing was repeated, or none was hit.
        assert fault == "short" or number > calls[0] or number <= 2
    assert number > WRITES or calls[0] >= number


def test_the_count_of_writes_above_is_true(
    image: Path, card: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spoil(monkeypatch, _short, 0)
    write(image, card)
    assert calls == [WRITES]


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
@pytest.mark.parametrize("number", range(1, 5))
def test_data_that_does_not_reach_the_medium_is_an_error(
    image: Path, card: Target, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    calls = spoil(monkeypatch, _fails(errno.EIO), number, call)
    try:
        write(image, card)
    except StorageError:
        return
    assert calls[0] < number


@pytest.mark.parametrize("number", range(1, 4))
def test_a_file_that_fails_is_gone(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = Target(tmp_path / "card.img", None)
    spoil(monkeypatch, _fails(errno.ENOSPC), number)
    with pytest.raises(StorageError, match="no space left"):
        write(image, target)
    assert not target.path.exists()


def test_a_last_piece_that_reads_back_wrong_does_not_boot(
    image: Path, card: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, _flips, WRITES)
    with pytest.raises(DeviceError, match=r"reads back as something else.*does not boot now"):
        write(image, card)
    assert not boots(card.path)


def write_and_be_killed(image: Path, card: Target, number: int) -> None:
    """Flash in a process of its own that is killed amid the ``number``-th write."""
    real, calls = os.pwrite, 0

    def killing(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == number:
            real(descriptor, memoryview(data)[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor, data, offset)

    child = os.fork()
    if child == 0:
        os.pwrite = killing
        try:
            write(image, card)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


# Killed amid the first write, which begins to zero the old partition table, nothing is lost yet.
@pytest.mark.parametrize("number", range(2, WRITES + 1))
def test_killed_at_any_write_it_does_not_boot(image: Path, card: Target, number: int) -> None:
    write_and_be_killed(image, card, number)
    assert not boots(card.path)


def test_killed_before_anything_was_written_the_card_is_as_it_was(
    image: Path, card: Target
) -> None:
    before = card.path.read_bytes()
    write_and_be_killed(image, card, 1)
    assert card.path.read_bytes()[256:] == before[256:]


def test_killed_at_the_last_write_all_the_rest_is_there(image: Path, card: Target) -> None:
    write_and_be_killed(image, card, WRITES)
    assert card.path.read_bytes()[512 : len(image_bytes())] == image_bytes()[512:]


def test_an_image_larger_than_the_card_is_refused_before_anything_is_lost(
    tmp_path: Path, card: Target
) -> None:
    image = tmp_path / "large.img"
    image.write_bytes(image_bytes()[:65536] + bytes(20 * 65536))
    before = card.path.read_bytes()
    packed = tmp_path / "large.img.xz"
    packed.write_bytes(lzma.compress(image.read_bytes()))
    for path in (image, packed):
        with pytest.raises(DeviceError, match=r"needs 1,376,256 bytes.*use a larger card$"):
            write(path, card)
        assert card.path.read_bytes() == before
    # What gzip unpacks to is not known before.
    packed = tmp_path / "large.img.gz"
    packed.write_bytes(gzip.compress(image.read_bytes(), mtime=0))
    with pytest.raises(DeviceError, match=r"does not fit.*does not boot now"):
        write(packed, card)
    assert not boots(card.path)


def test_partitions_that_end_behind_the_card_are_refused_before_anything_is_lost(
    tmp_path: Path, card: Target
) -> None:
    table = struct.pack("<4xB3xII", 0x83, 8, 20 * 128)
    data = bytes(446) + table + bytes(48) + b"\x55\xaa" + bytes(20 * 65536 + 4096 - 512)
    packed = tmp_path / "large.img.gz"
    packed.write_bytes(gzip.compress(data, mtime=0))
    before = card.path.read_bytes()
    with pytest.raises(DeviceError, match=r"needs 1,314,816 bytes.*use a larger card$"):
        write(packed, card)
    assert card.path.read_bytes() == before


def damaged_behind_its_beginning() -> Iterator[tuple[str, bytes, str]]:
    packed = lzma.compress(image_bytes())
    yield "cut.xz", packed[: len(packed) // 2], "is damaged"
    yield "flipped.xz", packed[:5000] + b"!" + packed[5001:], "is damaged"
    # No time of day: every process of a test run has to find the same cases.
    yield "cut.gz", gzip.compress(image_bytes(), mtime=0)[:100_000], "is damaged"
    # lzma.LZMAFile would end before the second stream, and say nothing.
    halves = lzma.compress(image_bytes()[:200_000]), lzma.compress(image_bytes()[200_000:])
    yield "second.xz", halves[0] + halves[1][:6] + b"!" + halves[1][7:], "is damaged"
    yield "behind.xz", packed + b"garbage", "is damaged"
    yield "odd.xz", packed + bytes(6), "padding that is no multiple of four"
    yield "short.img.gz", gzip.compress(image_bytes()[:-512], mtime=0), "is truncated"
    yield "uneven.img.gz", gzip.compress(image_bytes() + b"!", mtime=0), "ends within a sector"


def wrong_from_the_beginning() -> Iterator[tuple[str, bytes, str]]:
    text = b"no image" * 1000
    yield "text.img", text, "no partition table"
    yield "text.img.xz", lzma.compress(text), "no partition table"
    yield "text.img.gz", gzip.compress(text, mtime=0), "no partition table"
    yield "empty.img", b"", "is empty"
    yield "empty.img.xz", lzma.compress(b""), "is empty"
    yield "empty.img.gz", gzip.compress(b"", mtime=0), "is empty"
    yield "cut.gz", gzip.compress(image_bytes(), mtime=0)[:5000], "is damaged"
    yield "no.xz", b"\xfd7zXZ\0" + text, "is damaged"
    yield "cut.img", image_bytes()[:-100], "ends within a sector"
    yield "cut.img.xz", lzma.compress(image_bytes()[:-100]), "ends within a sector"
    yield "short.img", image_bytes()[: 3 * 65536], "is truncated: it has 196,608 bytes"
    yield "short.img.xz", lzma.compress(image_bytes()[:-512]), "is truncated"
    yield "pi.zip", b"PK\x03\x04" + bytes(100), "unpack it first"
    yield "pi.bz2", b"BZh91AY&SY" + text, "unpack it first"


@pytest.mark.parametrize(("name", "data", "message"), list(damaged_behind_its_beginning()))
def test_a_damaged_image_is_one_clear_line(
    tmp_path: Path, card: Target, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{message}.*does not boot now"):
        write(path, card)
    assert not boots(card.path)


@pytest.mark.parametrize(("name", "data", "message"), list(wrong_from_the_beginning()))
def test_what_is_no_image_leaves_the_target_as_it_was(
    tmp_path: Path, card: Target, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    file, new = tmp_path / "card.img", tmp_path / "new.img"
    file.write_bytes(b"precious")
    before = card.path.read_bytes()
    for target in (card, Target(file, None), Target(new, None)):
        with pytest.raises(InputError, match=message) as caught:
            write(path, target)
        assert str(target.path) not in str(caught.value)
    assert card.path.read_bytes() == before
    assert file.read_bytes() == b"precious"
    assert not new.exists()


@pytest.mark.parametrize(
    "data",
    [
        lzma.compress(image_bytes()),
        lzma.compress(image_bytes(), check=lzma.CHECK_NONE),
        lzma.compress(image_bytes()[:70_001]) + lzma.compress(image_bytes()[70_001:]),
        lzma.compress(image_bytes()) + lzma.compress(b""),
        lzma.compress(image_bytes()) + bytes(8),
        lzma.compress(image_bytes()) + bytes(200_000),
        lzma.compress(image_bytes()[:70_001]) + bytes(4) + lzma.compress(image_bytes()[70_001:]),
    ],
)
def test_what_xz_unpacks_to_is_known_before_it_is_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pi.img.xz"
    path.write_bytes(data)
    with ImageSource(path) as source:
        assert source.least_bytes == len(image_bytes())
        assert source.position == 0
        assert b"".join(source.chunks()) == image_bytes()


def test_a_damaged_index_of_xz_is_left_to_the_unpacking(tmp_path: Path) -> None:
    packed = lzma.compress(image_bytes())
    path = tmp_path / "pi.img.xz"
    # Twelve bytes of index, twelve of footer.
    for place in range(1, 25):
        changed = bytearray(packed)
        changed[-place] ^= 1
        path.write_bytes(changed)
        with ImageSource(path) as source:
            assert source.least_bytes == 0
            with pytest.raises(InputError, match="is damaged"):
                list(source.chunks())
    path.write_bytes(packed + b"more")
    with ImageSource(path) as source:
        assert source.least_bytes == 0


def test_an_image_that_shrinks_while_it_is_read_is_no_success(image: Path, card: Target) -> None:
    with ImageSource(image) as source:
        os.truncate(image, 65536)
        with pytest.raises(InputError, match=r"ended after 65,536.*does not boot now"):
            flash(source, card)
    assert not boots(card.path)


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_an_image_is_not_flashed_onto_itself(
    image: Path, link: Callable[[Path, Path], None] | None
) -> None:
    other = image if link is None else image.with_name("other.img")
    if link is not None:
        link(image, other)
    with pytest.raises(UsageError, match="is the image itself"):
        write(image, Target(other, None))
    assert image.read_bytes() == image_bytes()


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="there is no image"):
        ImageSource(tmp_path / "no.img")


def test_pieces_are_whole_sectors() -> None:
    assert CHUNK_BYTES % 4096 == 0
