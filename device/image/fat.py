"""Files of a FAT partition inside a disk image, by mtools: no root, no loop device, no mount.

Python's FAT libraries are young or depend on unmaintained ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from headgate.device.agent.errors import last_words
from headgate.device.flash.mbr import Entry
from headgate.errors import StorageError, ToolMissing

_DESCRIPTORS = Path("/proc/self/fd")
# Of an image that cannot be opened it says so too, but not of a file.
_MISSING = re.compile(rb'File ".*" not found', re.IGNORECASE)


def open_name(descriptor: int) -> Path:
    """A name of an open file of this process, for as long as it is open; Linux has such names."""
    if not _DESCRIPTORS.is_dir():
        raise ToolMissing(
            "headgate image needs Linux; elsewhere run it in the image container: docker/README.md"
        )
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


class BootPartition:
    """The FAT partition of a disk image, which is changed in place.

    ``descriptor`` is the image, open for reading and writing for as long as this is used. Every
    method raises a StorageError where the partition is full or damaged.
    """

    def __init__(self, descriptor: int, partition: Entry) -> None:
        if shutil.which("mcopy") is None:
            raise ToolMissing("changing an image needs mtools; install it: sudo apt install mtools")
        # Never the user's name for it: mtools has a shell expand names, and splits them at @@.
        self._drive = f"{open_name(descriptor)}@@{partition.start}"

    def read(self, name: str) -> bytes | None:
        """Contents of a file, None if there is none."""
        done = self._mtools("mtype", f"::{name}")
        if done.returncode == 0:
            return done.stdout
        if _MISSING.search(done.stderr):
            return None
        raise self._error("read", name, done)

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file, and read it back."""
        done = self._mtools("mcopy", "-D", "o", "-", f"::{name}", data=data)
        if done.returncode:
            raise self._error("write", name, done)
        if self.read(name) != data:
            raise StorageError(f"the boot partition is too small for {name} ({len(data):,} bytes)")

    def names(self) -> list[str]:
        """All files, with their folders."""
        done = self._mtools("mdir", "-/", "-b", "::")
        if done.returncode:
            raise self._error("read", "its folders", done)
        lines = done.stdout.decode(errors="replace").splitlines()
        return [line.removeprefix("::/") for line in lines if not line.endswith("/")]

    def make_folder(self, name: str) -> None:
        """Create a folder unless it is there."""
        done = self._mtools("mmd", "-D", "s", f"::{name}")
        listed = self._mtools("mdir", "-b", f"::{name}")
        if listed.returncode:
            raise self._error("create", name, done)

    def free_bytes(self) -> int:
        done = self._mtools("mdir", "::")
        found = re.search(rb"([\d\s,.]+) bytes free", done.stdout)
        if done.returncode or found is None:
            raise self._error("read", "its folder", done)
        return int(re.sub(rb"\D", b"", found[1]))

    def _mtools(
        self, program: str, *arguments: str, data: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        # The user's own configuration of mtools could change what is meant. SOURCE_DATE_EPOCH
        # dates the files, so that equal input gives an equal image.
        settings = {"MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [program, "-i", self._drive, *arguments],
            input=data,
            capture_output=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "SOURCE_DATE_EPOCH": "315532800"}
            | settings,
        )

    def _error(
        self, action: str, name: str, done: subprocess.CompletedProcess[bytes]
    ) -> StorageError:
        detail = last_words(done.returncode, done.stderr)
        return StorageError(f"cannot {action} {name} on the image's boot partition: {detail}")
