"""The machine that is measured: its files, programs, devices and clock.

Everything is below ``root``, which stands for ``/``: recorded trees are measured like boards.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from .absent import NotMeasured
from .errors import AgentError, describe, last_words

_PROGRAM_FOLDERS = ("usr/local/bin", "usr/bin", "bin", "usr/sbin", "sbin")


class System:
    """The machine whose ``/`` is ``root``. File names are given without the leading slash."""

    def __init__(self, root: str | Path = "/") -> None:
        self.root = Path(root)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def read(self, name: str) -> str:
        """Contents of a file without the white space and NULs around them; may raise OSError."""
        data = (self.root / name).read_bytes()
        return data.decode(errors="replace").strip("\0 \t\r\n")

    def text(self, name: str) -> str | NotMeasured:
        """Contents of a file, or why there are none."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return NotMeasured(f"no /{name}")
        except OSError as error:
            return NotMeasured(f"cannot read /{name}: {describe(error)}")

    def number(self, name: str) -> int | NotMeasured:
        """The whole number in a file, or why there is none."""
        text = self.text(name)
        if isinstance(text, NotMeasured):
            return text
        try:
            return int(text)
        except ValueError:
            return NotMeasured(f"/{name} holds no number: {text[:40]!r}")

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def glob(self, pattern: str) -> list[str]:
        """Names that match, hwmon2 before hwmon10."""
        found = glob.glob(os.path.join(glob.escape(str(self.root)), pattern))
        return sorted((os.path.relpath(path, self.root) for path in found), key=_natural)

    def real_name(self, name: str) -> str:
        """Where a link leads, as a name; the name itself if that is outside the root."""
        real = os.path.relpath(os.path.realpath(self.root / name), os.path.realpath(self.root))
        return name if real.startswith("..") else real

    def find_program(self, name: str) -> str | None:
        if self.root != Path("/"):
            folders = os.pathsep.join(str(self.root / folder) for folder in _PROGRAM_FOLDERS)
            return shutil.which(name, path=folders)
        # The folders of administrators are not in everybody's PATH.
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")

    def run(self, *command: str, timeout_s: float = 5.0) -> str:
        """What a program prints, whether it succeeds or not: vcgencmd's errors are on stdout."""
        program = self.find_program(command[0])
        if program is None:
            raise AgentError(f"{command[0]} is not installed")
        try:
            done = subprocess.run(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AgentError(f"{command[0]} did not answer within {timeout_s:g} s") from error
        except OSError as error:
            raise AgentError(f"cannot start {command[0]}: {describe(error)}") from error
        output = done.stdout.decode(errors="replace").strip()
        if done.returncode and not output:
            raise AgentError(f"{command[0]} failed: {last_words(done.returncode, done.stderr)}")
        return output

    def clock_error_us(self) -> int | NotMeasured:
        """How wrong the kernel takes its clock to be at most; 16 s where nobody sets it."""
        if self.root != Path("/"):
            return NotMeasured("a recorded tree has no clock")
        try:
            import ctypes  # absent from some small Pythons

            class Timex(ctypes.Structure):
                _fields_ = [
                    ("modes", ctypes.c_uint),  # 0: only tell
                    ("offset", ctypes.c_long),
                    ("freq", ctypes.c_long),
                    ("maxerror", ctypes.c_long),
                    ("rest", ctypes.c_byte * 512),
                ]

            found = Timex()
            library = ctypes.CDLL(None, use_errno=True)
            if library.adjtimex(ctypes.byref(found)) < 0:
                return NotMeasured(f"adjtimex: {os.strerror(ctypes.get_errno())}")
        except (ImportError, OSError, AttributeError) as error:
            return NotMeasured(f"adjtimex cannot be asked: {describe(error)}")
        return int(found.maxerror)

    def ioctl(self, name: str, request: int, buffer: bytearray) -> None:
        """Exchange ``buffer`` with a device; an OSError if that cannot be done."""
        import fcntl  # absent on Windows, where context.py is read as well

        descriptor = os.open(self.root / name, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, request, buffer, True)
        finally:
            os.close(descriptor)


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
