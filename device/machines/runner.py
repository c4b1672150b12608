"""A bundle's static runner as another process, with files in between."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np

from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.manifest import RUNNER, WEIGHTS
from headgate.device.program import Execution, Program
from headgate.errors import BundleError, DeviceError, why


class RunnerProgram(Program):
    """A network in a process of its own.

    Args:
        bundle: what to run.
        machine: name of the machine, for messages.
        command: what to put before the runner, such as an emulator with its options.
        env: the process's environment; None for this process's own.
        threads: how many share the work.

    Raises:
        BundleError: the bundle has no runner.
        StorageError: there is no room for its files in the temporary folder.
    """

    def __init__(
        self,
        bundle: Bundle,
        machine: str,
        command: list[str],
        env: dict[str, str] | None,
        threads: int = 1,
    ) -> None:
        super().__init__(bundle, machine, threads)
        if RUNNER not in bundle.members:
            raise BundleError(f"{bundle.name!r} has no {RUNNER}; recompile it")
        self._command = command
        self._env = env
        self.folder = Path(tempfile.mkdtemp(prefix="headgate-"))
        # Called by close(), with the object's end, or at the interpreter's.
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self.folder, True)
        try:
            (self.folder / "runner").write_bytes(bundle.members[RUNNER])
            (self.folder / "runner").chmod(0o700)
            (self.folder / "weights").write_bytes(bundle.members[WEIGHTS])
        except OSError as error:
            self.close()
            raise storage_error("write", self.folder, error) from error

    def command(self, *options: str) -> list[str]:
        """The command line that runs this network with the runner's options."""
        weights = str(self.folder / "weights")
        team = ["--threads", str(self.threads)] if self.threads > 1 else []
        return [*self._command, str(self.folder / "runner"), "--weights", weights, *team, *options]

    def _execute(
        self, inputs: list[np.ndarray], repeat: int, warmup: int, times: bool, layers: bool
    ) -> Execution:
        manifest = self.bundle.manifest
        samples = len(inputs[0])
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            options = ["--repeat", str(repeat), "--warmup", str(warmup)]
            for index, array in enumerate(inputs):
                path = folder / f"input{index}"
                try:
                    array.astype("<f4", copy=False).tofile(path)
                except OSError as error:
                    raise storage_error("write", path, error) from error
                options += ["--input", str(path)]
            for index in range(len(manifest["outputs"])):
                options += ["--output", str(folder / f"output{index}")]
            options += ["--counts", str(folder / "counts")]
            options += ["--times", str(folder / "times")] if times else []
            options += ["--layers", str(folder / "layers")] if layers else []
            self._call(self.command(*options))
            shapes = [(samples, *tensor["shape"][1:]) for tensor in manifest["outputs"]]
            outputs = [
                _read(folder / f"output{index}", "<f4", shape) for index, shape in enumerate(shapes)
            ]
            counts = _read(folder / "counts", "<i4", (samples, len(manifest["gates"])))
            layers_shape = (samples, repeat, len(self.layers))
            return Execution(
                outputs,
                counts,
                _read(folder / "times", "<u8", (samples, repeat)) if times else None,
                _read(folder / "layers", "<u8", layers_shape) if layers else None,
            )

    def _call(self, command: list[str]) -> None:
        try:
            done = subprocess.run(command, env=self._env, capture_output=True, check=False)
        except OSError as error:
            raise DeviceError(
                f"cannot start {self.name!r} on {self.machine}: {why(error)}; "
                "set TMPDIR to a folder that allows execution"
            ) from error
        if done.returncode == 0:
            return
        if done.returncode == -signal.SIGILL:
            raise DeviceError(
                f"{self.name!r} uses an instruction that {self.machine} lacks; "
                f"recompile it for that target"
            )
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        detail = lines[-1] if lines else _ending(done.returncode)
        # The runner is linked with musl, whose words are always these.
        if detail.endswith("No space left on device"):
            full = OSError(errno.ENOSPC, "")
            raise storage_error("write", f"the results of {self.name!r}", full)
        raise DeviceError(f"{self.name!r} failed on {self.machine}: {detail}")

    def _free(self) -> None:
        self._remove_folder()


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"


def _read(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.fromfile(path, dtype)
        return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)
    except (OSError, ValueError) as error:
        raise DeviceError(f"the runner's {path.name} cannot be read: {why(error)}") from error
