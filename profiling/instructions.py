"""Executed instructions per inference: exact under QEMU user mode, by a board's clock under its
system mode, where an instruction is a nanosecond.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.device import load
from headgate.device.agent import definitions
from headgate.device.agent.report import InstructionCount
from headgate.device.bundle import Bundle
from headgate.device.machines.qemu_system import QemuSystem
from headgate.device.machines.qemu_user import Qemu
from headgate.device.protocol import RUNNER, WEIGHTS, Request
from headgate.device.targets import GLIBC, host_architecture
from headgate.errors import BundleError, DeviceError, ToolMissing
from headgate.profiling.cache import cache_folder

TIMEOUT_S = 900
_ADDR_NO_RANDOMIZE = 0x0040000
_INSTALL = "install Debian's or Ubuntu's dynamic one: apt-get install qemu-user"


def count_instructions(
    bundle: Bundle | str | Path,
    image: NDArray[np.float32] | None = None,
    *,
    machine: str = "qemu:rpi4",
) -> InstructionCount:
    """Count the instructions of one inference under QEMU.

    Args:
        bundle: A bundle for an aarch64 target or a microcontroller, or its path.
        image: One preprocessed input (1,C,H,W); the first test vector when None.

    Raises:
        ToolMissing: QEMU or its plugin support is not there.
        BundleError: The bundle has no aarch64 runner.
        DeviceError: The runner failed under QEMU.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if (board := QemuSystem.named(machine)) is not None:
        return _by_clock(board, opened, image)
    if opened.target["arch"] != "aarch64" or RUNNER not in opened.members:
        raise BundleError(
            f"instructions are counted for aarch64 bundles with a runner, {opened.name!r} is for "
            f"{opened.target['name']!r}; compile it with --target rpi4"
        )
    chosen = opened.vectors()[0][0][:1] if image is None else image[:1]
    with load(opened, machine) as program:
        program.run(chosen)
        executed_macs = int(program.executed_macs()[0])
    emulator = Qemu(machine.removeprefix("qemu:")).command()
    with tempfile.TemporaryDirectory(prefix="headgate-count-") as name:
        folder = Path(name)
        for member, file in ((RUNNER, "runner"), (WEIGHTS, "weights")):
            (folder / file).write_bytes(opened.members[member])
        (folder / "runner").chmod(0o755)
        (name,) = Request().given
        np.ascontiguousarray(chosen, dtype="<f4").tofile(folder / name)
        totals = count_totals(
            emulator, lambda n: Request(repeat=n).command("./runner", "weights"), folder, {}
        )
    return InstructionCount(
        **vars(totals),
        executed_macs=executed_macs,
        dense_macs=definitions.dense_macs(opened.manifest["layers"]),
        machine=machine,
        cpu=emulator[emulator.index("-cpu") + 1],
    )


def _by_clock(
    board: QemuSystem, bundle: Bundle, image: NDArray[np.float32] | None
) -> InstructionCount:
    """The count of a microcontroller, to within the instructions of one tick of its clock."""
    chosen = bundle.vectors()[0][0][:1] if image is None else image[:1]
    with load(bundle, board.name) as program:
        first, second = np.rint(1e3 * program.time(chosen, repeat=2, warmup=0)).astype(int)
        executed_macs = int(program.executed_macs()[0])
    return InstructionCount(
        instructions=int(second),
        exact=bool(first == second),
        start_up=0,
        tool=_version(board.command("")[0]),
        executed_macs=executed_macs,
        dense_macs=definitions.dense_macs(bundle.manifest["layers"]),
        machine=board.name,
        cpu=bundle.target["cpu"],
    )


@dataclass(frozen=True)
class Totals:
    """What whole runs of a program with one, two and three repeats tell of one repeat."""

    instructions: int
    """Those that the third repeat added; ``exact`` if the second added as many."""
    exact: bool
    start_up: int
    """Instructions of everything but the repeats."""
    tool: str


def count_totals(
    emulator: Sequence[str],
    program: Callable[[int], Sequence[str]],
    folder: Path,
    environment: Mapping[str, str],
) -> Totals:
    """Count the instructions of one repeat of an aarch64 program.

    Args:
        emulator: qemu-aarch64 and its options.
        program: Gives its command line for a number of repeats.
        folder: Where it runs; gets the log.
        environment: All of it: its size changes how many instructions are executed.

    Raises:
        ToolMissing, DeviceError: As :func:`count_instructions`.
    """
    counting = [*emulator, "-plugin", str(build_plugin()), "-d", "plugin", "-D", "log"]
    totals = [_run([*counting, *program(n)], folder, environment) for n in (1, 2, 3)]
    first, second = np.diff(totals)
    start_up = int(totals[0] - second)
    return Totals(int(second), bool(first == second), start_up, _version(emulator[0]))


def build_plugin() -> Path:
    """The counting plugin, compiled for this machine once and kept in the user's cache."""
    source = files("headgate.profiling").joinpath("qemu/count.c").read_bytes()
    digest = hashlib.sha256(source).hexdigest()[:16]
    cache = cache_folder()
    plugin = cache / f"qemu-count-{digest}.so"
    if plugin.is_file():
        return plugin
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        (Path(name) / "count.c").write_bytes(source)
        built = Path(name) / "count.so"
        # As the compiler's: for another target or other flags zig would make its library anew.
        target = f"{host_architecture()}-linux-gnu.{GLIBC}"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target]
        command += ["-O2", "-g0", "-s", "-fno-sanitize=all", "-shared", "-fPIC"]
        command += ["-o", str(built), str(Path(name) / "count.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "No module named ziglang" in done.stderr:
            raise ToolMissing("ziglang is not installed; pip install 'headgate[compile]'")
        if done.returncode != 0 or not built.is_file():
            raise DeviceError(f"the QEMU plugin did not compile: {_last_line(done.stderr.strip())}")
        built.replace(plugin)
    return plugin


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    libc = ctypes.CDLL(None)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environment),
            # Random addresses change start-up by a few instructions. Where a container forbids
            # this call nothing happens, and a count that is not exact says so.
            preexec_fn=lambda: libc.personality(_ADDR_NO_RANDOMIZE),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"counting under QEMU took more than {TIMEOUT_S} s") from error
    log = folder / "log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    message = done.stderr.decode(errors="replace").strip()
    if "instructions:" not in text:
        if done.returncode < 0 or "uncaught target signal" in message:
            raise DeviceError(
                f"the program died under {' '.join(command[:3])}: {_last_line(message)}; "
                "is it for this machine?"
            )
        raise ToolMissing(f"{command[0]} takes no plugins ({_last_line(message)}); {_INSTALL}")
    if done.returncode != 0:
        raise DeviceError(f"the program failed under QEMU: {_last_line(message)}")
    return int(text.partition("instructions:")[2].split()[0])


def _last_line(message: str) -> str:
    return message.splitlines()[-1] if message else "no message"


def _version(qemu: str) -> str:
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
    # "qemu-aarch64 version 7.2.22 (...)", "QEMU emulator version 7.2.22 (...)"
    _, _, behind = done.stdout.partition(" version ")
    return " ".join([Path(qemu).name.removesuffix("-static"), *behind.split()[:1]])
