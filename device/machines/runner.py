"""A bundle's runner as another process, with files in between."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np

from headgate.device.agent.errors import last_words
from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.program import Execution, Program, little_endian
from headgate.device.protocol import RUNNER, WEIGHTS, Request
from headgate.errors import BundleError, DeviceError, why


class RunnerProgram(Program):
    """A network in a process of its own.

    ``command`` goes before the runner, such as an emulator with its options; ``env`` is the
    process's environment, None: this one's.
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

    def command(self, request: Request, given: str = "", found: str = "") -> list[str]:
        """As :meth:`Request.command`, of the files here."""
        runner, weights = str(self.folder / "runner"), str(self.folder / "weights")
        return [*self._command, *request.command(runner, weights, given, found)]

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            for file, array in zip(request.given, inputs, strict=True):
                try:
                    little_endian(array).tofile(folder / file)
                except OSError as error:
                    raise storage_error("write", folder / file, error) from error
            self._call(self.command(request, f"{folder}/", f"{folder}/"))
            return Execution.read(
                request,
                self.bundle.manifest,
                len(inputs[0]),
                lambda result: (folder / result).read_bytes(),
                self.machine,
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
        detail = last_words(done.returncode, done.stderr)
        # The runner sets no locale, so that these are always a C library's words.
        if detail.endswith("No space left on device"):
            full = OSError(errno.ENOSPC, "")
            raise storage_error("write", f"the results of {self.name!r}", full)
        raise DeviceError(f"{self.name!r} failed on {self.machine}: {detail}")

    def _free(self) -> None:
        self._remove_folder()
