"""Which disks an image may be written to, on a recorded machine."""

from __future__ import annotations

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
