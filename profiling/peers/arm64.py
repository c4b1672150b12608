"""An arm64 Linux beside this machine's own, just large enough to run LiteRT under QEMU.

Python and its libraries come from this machine's Debian by apt, whose own lists and state stay
as they are, so that root is not needed; LiteRT and NumPy are the wheels that a board would get
from pip. Nothing is installed: packages are unpacked into the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from headgate.device.files import storage_error
from headgate.device.machines.qemu_user import Qemu
from headgate.errors import DeviceError, StorageError, ToolMissing
from headgate.profiling.cache import cache_folder
from headgate.profiling.peers.emulated_cpu import describe_cpu

FETCH = "headgate fetch litert-arm64"
WHEELS = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_TARGET = "rpi4"

Say = Callable[[str], None]


def arm64_folder() -> Path:
    """Where it is kept: ``root`` is for qemu-aarch64's -L, ``site`` for PYTHONPATH."""
    digest = hashlib.sha256(repr((WHEELS, DEBIAN)).encode()).hexdigest()[:8]
    return cache_folder() / f"litert-arm64-{digest}"


def missing() -> str | None:
    """None when LiteRT can run on an emulated board, else one line that says how to get there.

    QEMU itself is another matter: :class:`headgate.device.machines.qemu_user.Qemu` looks for that.
    """
    if arm64_folder().is_dir():
        return None
    return f"LiteRT for arm64 is not here, which runs .tflite files on emulated boards; {FETCH}"


def fetch(say: Say) -> Path:
    """Brings everything (45 MB, unpacked 150 MB); does nothing when it is there.

    Args:
        say: called with a line before each piece of work.

    Raises:
        ToolMissing: apt, dpkg, pip or QEMU is missing, or apt has no arm64 packages.
        StorageError: There is no room for it.
        DeviceError: What was brought does not run.
    """
    folder = arm64_folder()
    if folder.is_dir():
        return folder
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ToolMissing(f"{program} is missing: arm64 packages are fetched on Debian only")
    emulator = Qemu(_TARGET).command()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".arm64-", dir=folder.parent) as name:
            new = Path(name) / "new"
            (new / "root").mkdir(parents=True)
            say("fetching Debian's Python for arm64")
            _debian(Path(name) / "apt", new / "root")
            python = find_python(new)
            say(f"fetching {' and '.join(WHEELS)} for arm64")
            _wheels(new / "site", python.name.removeprefix("python"))
            say("starting it once under QEMU")
            _start_once(emulator, new, python)
            # Somebody else may have been faster; then theirs is as good.
            if not folder.is_dir():
                new.rename(folder)
    except OSError as error:
        raise storage_error("write", folder, error) from error
    return folder


def find_python(folder: Path) -> Path:
    """The arm64 interpreter, such as ``root/usr/bin/python3.11``.

    Raises:
        DeviceError: There is none.
    """
    for path in sorted((folder / "root" / "usr" / "bin").glob("python3.*")):
        return path
    raise DeviceError(f"{folder} has no Python; remove it, then: {FETCH}")


def _debian(state: Path, root: Path) -> None:
    """Unpacks the packages and all they need, with lists and state of our own."""
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    options = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Log": state,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    # One source of several may fail to answer; what matters is whether the packages come.
    subprocess.run([*apt, "update"], capture_output=True, check=False)
    advice = "are arm64 packages among this machine's apt sources?"
    install = ["install", "-y", "--download-only", "--no-install-recommends", *DEBIAN]
    _call([*apt, *install], advice)
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        _call(["dpkg-deb", "-x", str(package), str(root)], "is the disk full?")
    # Where /lib belongs to /usr the link is a package's that is not needed otherwise.
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")


def _wheels(site: Path, version: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--target", str(site), "--python-version", version, "--only-binary=:all:"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    _call([*command, *WHEELS], "are there wheels for this version of Python?")


def _start_once(emulator: Sequence[str], folder: Path, python: Path) -> None:
    """Proves that it runs, and lets Python keep what it compiled."""
    with tempfile.TemporaryDirectory(prefix="headgate-arm64-") as name:
        root = describe_cpu(Path(name), folder / "root", emulator[-1])
        command = [*emulator, "-L", str(root), str(python), "-S", "-c"]
        command += ["import ai_edge_litert.interpreter"]
        done = subprocess.run(
            command, env={"PYTHONPATH": str(folder / "site")}, capture_output=True, text=True
        )
    if done.returncode:
        raise DeviceError(f"LiteRT does not start under {emulator[0]}: {_last_line(done.stderr)}")


def _call(command: Sequence[str], advice: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"{command[0]} is missing") from error
    if not done.returncode:
        return
    if "No space left on device" in done.stderr:
        raise StorageError(f"{Path(command[0]).name}: no space left on the disk; free some")
    raise ToolMissing(f"{Path(command[0]).name} failed: {_last_line(done.stderr)}; {advice}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
