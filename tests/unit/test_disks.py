"""Which disks an image may be written to, on a recorded machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from headgate.device.flash import find_target, list_disks
from headgate.errors import DeviceError, HeadgateError, UsageError
from tests.board_trees import plant

CARD_BYTES = 62333952 * 512
REFUSALS = {
    "nvme0n1": "this machine runs from it: it holds /, /boot/efi",
    "sda": "it is built in, not removable",
    "sdb": None,
    "sdc": "it is mounted at /media/me/My Disk; unmount it first",
    "sdd": "there is no card in it",
    "sde": "it is write-protected",
    "sdf": "it is part of dm-0; stop that volume first",
    "sdg": "it is mounted at /media/me/butter",
    "sdh": "it is built in, not removable",
    "nvme1n1": "it is built in, not removable",
    "mmcblk0": None,
    "mmcblk1": "this machine swaps to it",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A laptop with two disks of its own and several that were plugged in."""
    root = plant("disks", tmp_path / "root")
    mounts = root / "proc/self/mountinfo"
    # To recordings \\0 is a NUL; here it begins the octal number of a space.
    mounts.write_text(mounts.read_text().replace("\0", "\\0"))
    (root / "dev").mkdir()
    for name in (*REFUSALS, "sdb1", "nvme0n1p2", "null", "sr0", "fd0"):
        (root / "dev" / name).touch()
    return root


def test_every_disk_is_listed_with_the_reason_it_is_refused_for(machine: Path) -> None:
    disks = {disk.name: disk for disk in list_disks(machine)}
    assert sorted(disks) == sorted(REFUSALS)
    for name, reason in REFUSALS.items():
        refusal = disks[name].refusal
        assert (refusal or "").startswith(reason or ""), name
        assert (refusal is None) == (reason is None), name


def test_a_disk_is_described_so_that_it_is_recognised(machine: Path) -> None:
    disks = {disk.name: disk for disk in list_disks(machine)}
    card, stick, slot = disks["sdb"], disks["sdc"], disks["mmcblk0"]
    assert (card.model, card.serial, card.connection) == (
        "Generic STORAGE DEVICE",
        "000000001539",
        "usb",
    )
    assert card.size_bytes == CARD_BYTES
    assert card.diskseq == "11"
    assert (stick.removable, stick.connection) == (True, "usb")
    assert (slot.model, slot.serial, slot.connection) == ("SC32G", "0x8a5c1f2e", "sd")


@pytest.mark.parametrize("name", [name for name, reason in REFUSALS.items() if reason])
def test_a_refused_disk_is_no_target(machine: Path, name: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(REFUSALS[name] or "")):
        find_target(machine / "dev" / name, machine)


@pytest.mark.parametrize("name", ["sdb", "mmcblk0"])
def test_a_free_card_is_a_target_under_its_own_name(machine: Path, name: str) -> None:
    target = find_target(machine / "dev" / name, machine)
    assert target.disk is not None
    assert target.name == name
    assert target.size_bytes == CARD_BYTES
    assert target.overwrites()


def test_a_link_leads_to_the_disk_behind_it(machine: Path) -> None:
    link = machine / "dev/disk/by-id/usb-Generic"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../sdb")
    assert find_target(link, machine).name == "sdb"
    system = machine / "dev/my-card"
    system.symlink_to("nvme0n1")
    with pytest.raises(DeviceError, match="runs from it"):
        find_target(system, machine)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sdb1", "is a partition; an image takes the disk: .*/dev/sdb"),
        ("nvme0n1p2", "is a partition"),
        ("null", "is no disk of this machine; removable disks: .*/dev/mmcblk0, .*/dev/sdb"),
        ("sdz", "is no disk of this machine"),
        ("sr0", "is no disk of this machine"),
        ("fd0", "is no disk of this machine"),
        ("../dev/loop0", "is no disk of this machine"),
    ],
)
def test_nothing_else_below_dev_is_a_target(machine: Path, name: str, message: str) -> None:
    before = sorted((machine / "dev").iterdir())
    with pytest.raises(UsageError, match=message):
        find_target(machine / "dev" / name, machine)
    assert sorted((machine / "dev").iterdir()) == before


def test_a_path_outside_dev_is_a_plain_file(machine: Path, tmp_path: Path) -> None:
    target = find_target(tmp_path / "card.img", machine)
    assert target.disk is None
    assert target.name == "card.img"
    assert target.size_bytes is None
    assert not target.overwrites()
    with pytest.raises(UsageError, match="is a folder"):
        find_target(tmp_path, machine)


def test_this_machines_own_disk_is_refused() -> None:
    for disk in list_disks():
        if not disk.removable:
            with pytest.raises(HeadgateError):
                find_target(disk.path)


@pytest.fixture
def card(machine: Path) -> Path:
    """The free card of that machine, as a file of its size."""
    path = machine / "dev/sdb"
    os.truncate(path, CARD_BYTES)
    return path


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every file that is open is a disk of this number."""
    number, real = [8, 16], os.fstat

    def as_block(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[0] = 0o060660
        return os.stat_result(status, {"st_rdev": os.makedev(*number)})

    monkeypatch.setattr("headgate.device.flash.target.os.fstat", as_block)
    return number


def test_a_disk_that_is_what_it_was_is_opened(machine: Path, card: Path, block: list[int]) -> None:
    os.close(find_target(card, machine).open())


def test_a_disk_that_is_pulled_does_not_become_a_file(machine: Path, card: Path) -> None:
    target = find_target(card, machine)
    card.unlink()
    with pytest.raises(DeviceError, match=r"sdb is gone; plug it in, and try again$"):
        target.open()
    assert not card.exists()


def test_a_file_in_a_disks_place_is_left_alone(machine: Path, card: Path) -> None:
    target = find_target(card, machine)
    card.write_bytes(b"precious")
    with pytest.raises(DeviceError, match="sdb is no disk any more"):
        target.open()
    assert card.read_bytes() == b"precious"


def test_another_disk_under_the_same_name_is_not_opened(
    machine: Path, card: Path, block: list[int]
) -> None:
    block[1] = 32
    with pytest.raises(DeviceError, match=r"its device number was 8:16, and is 8:32;"):
        find_target(card, machine).open()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("size", "31116288", "its number of bytes was 31,914,983,424, and is 15,931,539,456"),
        ("size", "0", "its number of bytes was 31,914,983,424, and is 0"),
        ("device/model", "OTHER", "its model was Generic STORAGE DEVICE, and is Generic OTHER"),
        ("device/serial", "2", "its serial number was 000000001539, and is 2"),
        ("diskseq", "12", "its sequence number was 11, and is 12"),
        ("ro", "1", "it is write-protected"),
    ],
)
def test_another_card_in_the_same_reader_is_not_opened(
    machine: Path, card: Path, block: list[int], file: str, content: str, message: str
) -> None:
    target = find_target(card, machine)
    (machine / "sys/block/sdb" / file).write_text(f"{content}\n")
    with pytest.raises(DeviceError, match=re.escape(message)):
        target.open()


def test_the_size_is_what_the_open_disk_says(machine: Path, card: Path, block: list[int]) -> None:
    target = find_target(card, machine)
    os.truncate(card, 4096)
    with pytest.raises(DeviceError, match=r"was 31,914,983,424, and is 4,096;"):
        target.open()


def test_a_disk_that_is_no_longer_listed_is_gone(
    machine: Path, card: Path, block: list[int]
) -> None:
    target = find_target(card, machine)
    (machine / "sys/block/sdb").unlink()
    with pytest.raises(DeviceError, match="sdb is gone"):
        target.open()


def test_without_sequence_numbers_the_rest_is_compared(
    machine: Path, card: Path, block: list[int]
) -> None:
    (machine / "sys/block/sdb/diskseq").unlink()
    os.close(find_target(card, machine).open())
