"""Where an image goes: a removable disk, or a plain file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from headgate.device.files import storage_error
from headgate.device.flash.disks import Disk, list_disks
from headgate.errors import DeviceError, StorageError, UsageError

_BLKDISCARD = 0x1277
_BLKFLSBUF = 0x1261


@dataclass(frozen=True)
class Target:
    """A place that an image may be written to. ``disk`` is None for a plain file."""

    path: Path
    disk: Disk | None

    @property
    def name(self) -> str:
        """What a user has to type before anything is overwritten."""
        return self.disk.name if self.disk else self.path.name

    @property
    def size_bytes(self) -> int | None:
        """Room for an image; None for a file, which grows."""
        return self.disk.size_bytes if self.disk else None

    def overwrites(self) -> bool:
        """Whether something is lost by writing here."""
        return self.disk is not None or self.path.exists()

    def open(self) -> int:
        """Open it for reading and writing; a disk for nobody else at the same time.

        Raises:
            DeviceError: the disk is in use by now, or gone.
            StorageError: it cannot be written.
        """
        flags = os.O_RDWR | os.O_CLOEXEC
        # Without O_CREAT, O_EXCL means on a disk: fail if it is mounted or part of a volume.
        flags |= os.O_EXCL if self._is_block() else os.O_CREAT
        try:
            descriptor = os.open(self.path, flags, 0o666)
        except PermissionError as error:
            if self.disk is None:
                raise storage_error("write", self.path, error) from error
            raise StorageError(
                f"no permission to write {self.path}: repeat this command with sudo in front"
            ) from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DeviceError(f"{self.path} is in use; unmount it, and try again") from error
            raise storage_error("write", self.path, error) from error
        try:
            self._recheck(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_block(self) -> bool:
        try:
            return stat.S_ISBLK(self.path.stat().st_mode)
        except OSError:
            return False

    def _recheck(self, descriptor: int) -> None:
        """What was opened is what was looked at: names move when disks are pulled."""
        status = os.fstat(descriptor)
        if stat.S_ISBLK(status.st_mode):
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            if self.disk is None or number != self.disk.device_number:
                raise DeviceError(f"{self.path} is another disk than a moment ago; try again")
        elif not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self.path} is neither a disk nor a plain file")

    def clear(self, descriptor: int) -> None:
        """Forget the contents as far as that is quick; what reads as zero need not be written.

        Raises:
            OSError: a file cannot be emptied.
        """
        if self._is_block():
            # Many card readers cannot; then zeros are written where the disk has none.
            with contextlib.suppress(OSError):
                length = (self.size_bytes or 0).to_bytes(8, "little")
                fcntl.ioctl(descriptor, _BLKDISCARD, bytes(8) + length)
        elif self.disk is None:
            os.ftruncate(descriptor, 0)

    def drop_cache(self, descriptor: int) -> None:
        """Make the next reads come from the medium, not from this machine's memory."""
        if self._is_block():
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def find_target(path: Path, root: Path = Path("/")) -> Target:
    """The disk or plain file that ``path`` names.

    ``root`` stands for ``/``: below it are ``dev``, ``sys`` and ``proc``.

    Raises:
        UsageError: it is a partition, a folder, or something else below /dev that is no disk.
        DeviceError: the disk must not be written to; the message says why.
    """
    real, devices = Path(os.path.realpath(path)), Path(os.path.realpath(root / "dev"))
    if not real.is_relative_to(devices):
        if real.is_dir():
            raise UsageError(f"{path} is a folder; name a disk such as /dev/sdb, or a file")
        if real.exists() and not real.is_file():
            raise UsageError(f"{path} is neither a disk nor a plain file")
        return Target(real, None)
    disks = {disk.name: disk for disk in list_disks(root)}
    name = real.relative_to(devices).as_posix()
    if name not in disks:
        for disk in disks.values():
            if (root / "sys/block" / disk.name / name).is_dir():
                raise UsageError(f"{path} is a partition; an image takes the disk: {disk.path}")
        known = ", ".join(str(disk.path) for disk in disks.values() if disk.refusal is None)
        raise UsageError(f"{path} is no disk of this machine; removable disks: {known or 'none'}")
    disk = disks[name]
    if disk.refusal is not None:
        raise DeviceError(f"{path} is not written to: {disk.refusal}")
    return Target(real, disk)
