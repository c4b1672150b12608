"""A board that boots an SD image: QEMU's ``virt`` machine with the CPU of a Raspberry Pi 4.

What its firmware does is done here: kernel, initial RAM disk and command line are read from the
boot partition, at every start.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import sd_images

INSTALL = "sudo apt install qemu-system-arm mtools openssh-client"
BOOT_OFFSET = 8192 * sd_images.SECTOR_BYTES
_MEMORY = "1024"


class EmulatedBoard:
    """A board with an SD card, which is a file; not running yet."""

    def __init__(self, card: Path, folder: Path) -> None:
        for program in ("qemu-system-aarch64", "mcopy", "ssh", "ssh-keyscan"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: {INSTALL}")
        self.card = card
        self.folder = folder
        self.log = folder / "serial.log"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def file(self, name: str) -> bytes | None:
        """A file of the boot partition as it is now on the card, None if there is none."""
        done = subprocess.run(
            ["mtype", "-i", f"{self.card}@@{BOOT_OFFSET}", f"::{name}"],
            capture_output=True,
            env=os.environ | {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull},
        )
        return done.stdout if done.returncode == 0 else None

    def start(self) -> None:
        """Switch it on."""
        for name in ("vmlinuz", "initrd.img"):
            (self.folder / name).write_bytes(self.file(name) or b"")
        line = (self.file("cmdline.txt") or b"").decode().strip()
        command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2"]
        command += ["-m", _MEMORY, "-display", "none", "-monitor", "none", "-no-reboot"]
        command += ["-kernel", str(self.folder / "vmlinuz")]
        command += ["-initrd", str(self.folder / "initrd.img")]
        # The last console is the one that services write to.
        command += ["-append", f"{line} console=ttyAMA0,115200 panic=-1 quiet cryptomgr.notests"]
        command += ["-drive", f"file={self.card},format=raw,if=none,id=card"]
        command += ["-device", "virtio-blk-pci,drive=card"]
        command += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        command += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
        command += ["-serial", "stdio"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float) -> float:
        """Seconds until ``condition`` holds; fails the test if it never does."""
        started_s = time.monotonic()
        while not condition():
            waited_s = time.monotonic() - started_s
            if waited_s > timeout_s or (self._ended() and not condition()):
                tail = self.log.read_text(errors="replace")[-6000:]
                pytest.fail(f"no {what} within {waited_s:.0f} s:\n{tail}")
            time.sleep(1)
        return time.monotonic() - started_s

    def wait_for_restart(self, timeout_s: float) -> float:
        """Seconds until it wants to start again; it is switched off then."""
        return self.wait_for(self._ended, "restart", timeout_s)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def said(self, pattern: str) -> bool:
        """Whether its serial line showed that."""
        return re.search(pattern, self.log.read_text(errors="replace")) is not None

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def emulated_board(card: Path, folder: Path) -> Iterator[EmulatedBoard]:
    """A board that is switched off in the end; skips the test where QEMU is not installed."""
    board = EmulatedBoard(card, folder)
    try:
        yield board
    finally:
        board.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
