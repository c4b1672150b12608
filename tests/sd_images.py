"""Small SD images in the shape of those that are downloaded, made by mtools; no root needed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SECTOR_BYTES = 512
BOOT_START, BOOT_SECTORS = 2048, 131072
ROOT_SECTORS = 2048
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 rootwait"
# What the boot partitions of Raspberry Pi OS hold besides the firmware.
_BOARDS = {"bcm2710-rpi-3-b.dtb": "", "bcm2711-rpi-4-b.dtb": "", "kernel8.img": ""}
BOOKWORM = {
    **_BOARDS,
    "cmdline.txt": f"{CMDLINE} quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
}
TRIXIE = {
    **_BOARDS,
    "cmdline.txt": f"{CMDLINE} resize\n",
    "user-data": "#cloud-config\n# Customise me.\n",
    "meta-data": "instance-id: rpios-image\n",
    "network-config": "# Empty.\n",
}


def need_mtools() -> None:
    """Skip the test where there are none."""
    if shutil.which("mcopy") is None:
        pytest.skip("mtools is not installed: sudo apt install mtools")


def make_sd_image(
    path: Path, files: dict[str, str], boot_sectors: int = BOOT_SECTORS, kind: int = 0x0C
) -> Path:
    """An image with a FAT partition that holds ``files``, and an empty one behind it."""
    need_mtools()
    entry = struct.Struct("<B3xB3xII")
    table = entry.pack(0x80, kind, BOOT_START, boot_sectors)
    table += entry.pack(0, 0x83, BOOT_START + boot_sectors, ROOT_SECTORS)
    with path.open("wb") as file:
        file.write(bytes(446) + table + bytes(32) + b"\x55\xaa")
        file.truncate((BOOT_START + boot_sectors + ROOT_SECTORS) * SECTOR_BYTES)
    size = str(boot_sectors)
    mtools(path, "mformat", "-T", size, "-h", "64", "-s", "32", "-v", "bootfs", "-N", "1", "::")
    for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
        mtools(path, "mmd", f"::{folder}")
    for name, text in files.items():
        mtools(path, "mcopy", "-", f"::{name}", data=text.encode())
    return path


def mtools(image: Path, program: str, *arguments: str, data: bytes = b"") -> bytes:
    """Run one of the mtools on the image's boot partition."""
    drive = f"{image}@@{BOOT_START * SECTOR_BYTES}"
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull}
    done = subprocess.run(
        [program, "-i", drive, *arguments], input=data, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_file(image: Path, name: str) -> bytes:
    """A file of the image's boot partition."""
    return mtools(image, "mtype", f"::{name}")
