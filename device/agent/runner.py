"""Running a network: the bundle's static runner as a process on chosen CPUs.

All times are taken by the C code inside it; nothing of Python's is in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from ..protocol import COUNTS, LAYERS, RUNNER, TIMES, WEIGHTS, Request
from .bundle import Bundle
from .cpus import Queue, cpu_share, pinned
from .errors import AgentError, describe, last_words
from .watch import Watch

_ONCE = Request()
_CALIBRATION_RUNS = 5
_CODES: dict[str, Literal["i", "Q"]] = {"int32": "i", "uint64": "Q"}  # of the module struct


@dataclass(frozen=True)
class Execution:
    """What one process of the runner brought back, for S samples; times only if asked for.

    ``counts`` are (S, gates) active channels, ``times_ns`` (S, repeat), ``layer_times_ns`` (S,
    repeat, layers).
    """

    outputs: list[bytes]
    counts: list[list[int]]
    times_ns: list[list[int]]
    layer_times_ns: list[list[list[int]]]
    ended_ns: int
    """After the process had gone, by the board's monotonic clock."""
    cpu_s: float
    waited_share: float | None
    """Of the time in which its threads could run; None for one thread, or where it is not known."""


class Network:
    """A bundle's runner and weights in a temporary folder; use it in a ``with`` statement.

    It runs on ``cpus``, everywhere if there are none, behind the words of ``emulator``.
    """

    def __init__(
        self,
        bundle: Bundle,
        cpus: Collection[int] = (),
        threads: int = 1,
        emulator: Sequence[str] = (),
    ) -> None:
        self.bundle = bundle
        self.cpus = frozenset(cpus)
        self.threads = threads
        self.emulator = list(emulator)
        self.gates: list[dict[str, Any]] = bundle.manifest["gates"]
        self.layers: list[dict[str, Any]] = bundle.manifest["layers"]
        self._folder = _new_folder(_roomy_folder())
        try:
            bundle.extract(RUNNER, self._folder / "runner")
            bundle.extract(WEIGHTS, self._folder / "weights")
            (self._folder / "runner").chmod(0o700)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, request: Request = _ONCE, samples: Sequence[int] | None = None) -> Execution:
        """Run some of the bundle's samples, by number; all if None.

        Request times of the whole apart from those of layers, whose clocks disturb the whole.
        """
        with self.start(request, samples) as run:
            return run.result()

    def start(self, request: Request, samples: Sequence[int] | None = None) -> Running:
        chosen = list(range(self.bundle.samples)) if samples is None else list(samples)
        folder = _new_folder(self._folder)
        request = request.of(self.bundle.manifest, self.threads)
        sizes = self.bundle.sample_bytes("inputs")
        for name, data, size in zip(request.given, self.bundle.inputs, sizes):
            path = folder / name
            try:
                path.write_bytes(
                    b"".join(data[size * sample : size * (sample + 1)] for sample in chosen)
                )
            except OSError as error:
                raise AgentError(f"cannot write {path}: {describe(error)}") from error
        runner, weights = str(self._folder / "runner"), str(self._folder / "weights")
        command = self.emulator + request.command(runner, weights, f"{folder}/", f"{folder}/")
        return Running(self, request, command, folder, len(chosen))


class Running:
    """A runner at work, ended with its ``with`` statement."""

    def __init__(
        self, network: Network, request: Request, command: list[str], folder: Path, samples: int
    ) -> None:
        self._network = network
        self._folder = folder
        self._request = request
        self._results = request.results(network.bundle.manifest, samples)
        self._over = threading.Event()
        self._ended_ns = 0
        self._cpu_s = 0.0
        try:
            with open(folder / "stderr", "wb") as complaints, pinned(network.cpus):
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    # The size of the environment moves the stack, and with it the times.
                    env={},
                )
        except OSError as error:
            target = network.bundle.manifest["target"]["name"]
            raise AgentError(
                f"cannot start the runner of {network.bundle.path}: {describe(error)}; is it "
                f"compiled for this board (its target is {target})? If {self._folder.parent} "
                "forbids execution, set TMPDIR"
            ) from error
        self._queue = Queue(self._process.pid)
        self._watchers = [threading.Thread(target=self._wait, name="runner-end", daemon=True)]
        if network.threads > 1:
            looks = threading.Thread(target=self._queue.watch, args=(self._over,), daemon=True)
            self._watchers.append(looks)
        for thread in self._watchers:
            thread.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._over.is_set():
            # Not Popen.kill(), which would wait for the process where another thread does.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def wait(self, seconds: float) -> bool:
        """Sleep so long, or until the runner ends; True if it has ended."""
        return self._over.wait(seconds)

    def result(self) -> Execution:
        self._join()
        if self._process.returncode:
            raise AgentError(self._complaint(self._process.returncode))
        return Execution(
            outputs=[self._read(name) for name in self._request.found],
            counts=self._numbers(COUNTS),
            times_ns=self._numbers(TIMES),
            layer_times_ns=self._numbers(LAYERS),
            ended_ns=self._ended_ns,
            cpu_s=self._cpu_s,
            waited_share=self._queue.waited_share(),
        )

    def _join(self) -> None:
        for thread in self._watchers:
            thread.join()

    def _wait(self) -> None:
        _, status, used = os.wait4(self._process.pid, 0)
        # So that Popen knows, too. The name in os for this came with Python 3.9.
        ended_by_signal = os.WIFSIGNALED(status)
        self._process.returncode = (
            -os.WTERMSIG(status) if ended_by_signal else os.WEXITSTATUS(status)
        )
        self._cpu_s = used.ru_utime + used.ru_stime
        self._ended_ns = time.monotonic_ns()
        self._over.set()

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise AgentError(f"the runner's {name} cannot be read: {describe(error)}") from error

    def _numbers(self, name: str) -> Any:
        """The numbers of a result, in lists as its shape says; none if it was not asked for."""
        if name not in self._results:
            return []
        kind, shape = self._results[name]
        code, data = _CODES[kind], self._read(name)
        wanted = prod(shape) * struct.calcsize(code)
        if len(data) != wanted:
            raise AgentError(
                f"the runner wrote {len(data)} bytes of {name}, not {wanted}: it does not fit its "
                "manifest; compile it again"
            )
        if not data:
            return [[] for _ in range(shape[0])]  # which a view cannot have: no gates
        return memoryview(data).cast(code, shape).tolist()

    def _complaint(self, code: int) -> str:
        bundle = self._network.bundle
        if code == -signal.SIGILL:
            return (
                f"{bundle.path} uses an instruction that this CPU lacks (its target is "
                f"{bundle.manifest['target']['name']}); compile it for this board"
            )
        stderr = self._read("stderr")
        said = "" if stderr.strip() else "the runner failed: "
        return f"{bundle.path}: {said}{last_words(code, stderr)}"


@dataclass(frozen=True)
class Burst:
    """Inferences that were done back to back."""

    start_ns: int
    end_ns: int
    inferences: int
    inference_s: float  # all of them together, by the C runner's clock
    cpu_share: float = 1.0
    """Of that time, how much the runner held a CPU."""


class NetworkLoad:
    """Bursts of inferences of one of the bundle's test vectors, one process each."""

    def __init__(self, network: Network, watch: Watch) -> None:
        self._network = network
        self._watch = watch

    def inference_s(self, sample: int) -> float:
        request = Request(warmup=1, repeat=_CALIBRATION_RUNS, times=True)
        done = self._network.run(request, [sample])
        return statistics.median(done.times_ns[0]) / 1e9

    def burst(
        self, sample: int, inferences: int, during: Callable[[Callable[[float], bool]], None]
    ) -> Burst:
        """Infer so often, while ``during`` is called with a function that waits for the end."""
        request = Request(warmup=1, repeat=inferences, times=True)
        running = self._network.start(request, [sample])
        with self._watch.watch() as ended, running:
            during(running.wait)
            done = running.result()
            ended(done.ended_ns)
        total_ns = sum(done.times_ns[0])
        # The process ends right after the last inference, and loading lies before the first.
        inference_s = total_ns / 1e9
        share = cpu_share(done.cpu_s, inference_s, [done.waited_share])
        return Burst(done.ended_ns - total_ns, done.ended_ns, inferences, inference_s, share)


def _roomy_folder() -> str | None:
    """Where TMPDIR says; else /var/tmp, because /tmp is often memory, and weights can be large."""
    usable = os.access("/var/tmp", os.W_OK | os.X_OK)
    return "/var/tmp" if usable and "TMPDIR" not in os.environ else None


def _new_folder(inside: str | Path | None) -> Path:
    """A temporary folder; None leaves the place to TMPDIR and ``tempfile``."""
    try:
        return Path(tempfile.mkdtemp(prefix="headgate-", dir=inside))
    except OSError as error:
        place = "" if inside is None else f" in {inside}"
        raise AgentError(
            f"cannot make a temporary folder{place}: {describe(error)}; set TMPDIR to a folder "
            "with room"
        ) from error
