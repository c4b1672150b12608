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
from headgate.errors import DeviceError, StorageError, UsageError, why

_BLKDISCARD = 0x1277
_BLKFLSBUF = 0x1261

# What opening a disk says, as what somebody can do about it.
_GONE = "is gone; plug it in, and try again"
_DISK_ERRORS = {
    errno.EBUSY: "is in use; unmount it, and try again",
    errno.EROFS: "is write-protected; look for a switch on the card",
    errno.ENOENT: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    getattr(errno, "ENOMEDIUM", 123): "has no card in it any more; put it in, and try again",
}


@dataclass(frozen=True)
class Target:
    """A place that an image may be written to. ``disk`` is None for a plain file.

    Below ``root`` the disk was found, and is looked for again once it is open.
    """

    path: Path
    disk: Disk | None
    root: Path = Path("/")

    @property
    def name(self) -> str:
        """What a user has to type before anything is overwritten."""
        return self.disk.name if self.disk else self.path.name

    @property
    def size_bytes(self) -> int | None:
        """Room for an image; None for a file, which grows."""
        return self.disk.size_bytes if self.disk else None

    def overwrites(self) -> bool:
        return self.disk is not None or self.path.exists()

    def open(self) -> int:
        """Open it for reading and writing; a disk for nobody else at the same time.

        Raises:
            DeviceError: the disk is in use by now, gone, or another one.
            StorageError: it cannot be written.
            UsageError: a file's place was taken by something else.
        """
        flags = os.O_RDWR | os.O_CLOEXEC
        # Never O_CREAT with a disk: pulled a moment ago, it would become a file in /dev. Without
        # O_CREAT, O_EXCL means on a disk: fail if it is mounted or part of a volume.
        flags |= os.O_CREAT if self.disk is None else os.O_EXCL
        try:
            descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            if self.disk is None:
                raise storage_error("write", self.path, error) from error
            if isinstance(error, PermissionError):
                raise StorageError(
                    f"no permission to write {self.path}: repeat this command with sudo in front"
                ) from error
            reason = _DISK_ERRORS.get(error.errno or 0)
            reason = reason or f"cannot be opened: {why(error)}; plug it in again"
            raise DeviceError(f"{self.path} {reason}") from error
        try:
            if self.disk is not None:
                self.check_disk(descriptor, self.disk)
            elif not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{self.path} is neither a disk nor a plain file")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def check_disk(self, descriptor: int, disk: Disk) -> None:
        """What was opened is what was looked at, and may still be written to.

        While somebody reads a question, names move to other disks, and cards are exchanged in a
        reader that keeps its name and number. Opening makes Linux look at the medium again, so
        what it says after that is about this one.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISBLK(status.st_mode):
            raise DeviceError(f"{self.path} is no disk any more; plug it in again, and try again")
        now = next((one for one in list_disks(self.root) if one.name == disk.name), None)
        if now is None:
            raise DeviceError(f"{self.path} {_GONE}")
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        length = os.lseek(descriptor, 0, os.SEEK_END)
        for fact, before, after in (
            ("device number", disk.device_number, number),
            ("model", disk.model, now.model),
            ("serial number", disk.serial, now.serial),
            ("number of bytes", f"{disk.size_bytes:,}", f"{now.size_bytes:,}"),
            ("number of bytes", f"{disk.size_bytes:,}", f"{length:,}"),
            ("sequence number", disk.diskseq, now.diskseq),
        ):
            if before != after:
                raise DeviceError(
                    f"{self.path} is another disk or card than a moment ago: its {fact} was "
                    f"{before or 'none'}, and is {after or 'none'}; make sure that it is the "
                    "right one, and try again"
                )
        if now.refusal is not None:
            raise DeviceError(f"{self.path} is not written to: {now.refusal}")

    def clear(self, descriptor: int) -> None:
        """Forget the contents as far as that is quick; what reads as zero need not be written."""
        if self.disk is not None:
            # Many card readers cannot; then zeros are written where the disk has none.
            with contextlib.suppress(OSError):
                length = self.disk.size_bytes.to_bytes(8, "little")
                fcntl.ioctl(descriptor, _BLKDISCARD, bytes(8) + length)
        else:
            os.ftruncate(descriptor, 0)

    def drop_cache(self, descriptor: int) -> None:
        """Make the next reads come from the medium, not from this machine's memory."""
        if self.disk is not None:
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
    return Target(real, disk, root)
