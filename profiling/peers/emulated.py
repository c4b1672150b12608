"""LiteRT on an emulated board: right results and instruction counts, no times."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.machines.find import find_machine
from headgate.device.machines.qemu_user import Qemu
from headgate.device.tflite_file import Description
from headgate.errors import DeviceError, MissingFile, ToolMissing, UsageError
from headgate.profiling.instructions import Totals, count_totals
from headgate.profiling.peers import interpreter
from headgate.profiling.peers.arm64 import arm64_folder, find_python, missing
from headgate.profiling.peers.emulated_cpu import describe_cpu

WARMUP = 2


class EmulatedLiteRT:
    """A ``.tflite`` file in LiteRT's arm64 build, under qemu-aarch64 as a board's CPU.

    Args:
        path: the file.
        machine: such as ``qemu:rpi4``.

    Raises:
        UsageError: no machine of that name, not an emulated one, or not a file of ours.
        ToolMissing: QEMU or LiteRT for arm64 is not here.
        MissingFile: there is no such file.
    """

    title = "LiteRT"

    def __init__(self, path: Path, machine: str) -> None:
        board = find_machine(machine)
        if not isinstance(board, Qemu):
            raise UsageError(f"{machine} is not an emulated board; see --on")
        self._emulator = board.command()
        if reason := missing():
            raise ToolMissing(reason)
        if not path.is_file():
            raise MissingFile(f"no LiteRT network {path}; check the path")
        self.path = path
        self.machine = machine
        self.cpu = self._emulator[-1]
        description = Description.read(path)
        if description is None:
            raise UsageError(
                f"{path} does not say how its input has to be, as files of `headgate compile "
                "--backend tflite` do; only those run on emulated boards"
            )
        self.manifest: Mapping[str, Any] = description.manifest
        """What the file says about itself."""
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (N, ...) of inputs (N,C,H,W).

        Raises:
            DeviceError: LiteRT failed.
        """
        with tempfile.TemporaryDirectory(prefix="headgate-litert-") as name:
            folder = Path(name)
            command, environment = self._prepare(folder, array)
            command += ["0", "1"]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                raise DeviceError(f"LiteRT failed on {self.machine}: {lines[-1]}")
            outputs: NDArray[np.float32] = np.load(folder / "output.npy")
        return outputs

    def count(self, image: NDArray[np.float32]) -> Totals:
        """Instructions of one inference of one image (1,C,H,W), Python's call included.

        Raises:
            ToolMissing: this QEMU takes no plugins.
            DeviceError: LiteRT failed.
        """
        with tempfile.TemporaryDirectory(prefix="headgate-litert-") as name:
            folder = Path(name)
            command, environment = self._prepare(folder, image[:1])
            # A fixed seed for what the kernel gives programs to draw random numbers from.
            emulator = [*self._emulator, "-seed", "1"]
            program = [*command[len(self._emulator) :], str(WARMUP)]
            return count_totals(emulator, lambda n: [*program, str(n)], folder, environment)

    def _prepare(
        self, folder: Path, array: NDArray[np.float32]
    ) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of a run in ``folder``, but for warm-up and repeats."""
        np.save(folder / "input.npy", array)
        (folder / "model.tflite").write_bytes(self.path.read_bytes())
        program = Path(interpreter.__file__).read_bytes()
        (folder / "interpreter.py").write_bytes(program)
        home = arm64_folder()
        describe_cpu(folder, home / "root", self.cpu)
        command = [*self._emulator, "-L", "root", str(find_python(home)), "-S"]
        command += ["interpreter.py", "model.tflite", "input.npy", "output.npy"]
        environment = {
            "PYTHONPATH": str(home / "site"),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        return command, environment
