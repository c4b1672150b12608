"""What every peer does: say whether it can run, load a file, run it, time it."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError, MissingFile, ToolMissing, not_installed


class Peer(ABC):
    """A program that a user would pick instead, at its best settings, on one thread.

    ``run`` and ``time`` take (N,C,H,W) float32 whatever the peer's own layout is; converting it
    happens outside the clock. The clock is read in Python around the one call that infers, which
    counts the peer's binding (a few microseconds) against it.
    """

    name: ClassVar[str]
    backend: ClassVar[str]
    """What `headgate compile --backend` calls the kind of file it runs."""
    title: ClassVar[str]
    suffix: ClassVar[str]
    """How the names of its files end."""
    packages: tuple[str, ...]
    """Distributions that run it, whose versions are reported."""
    extra: ClassVar[str] = "peers"
    """The extra of headgate that brings them all."""
    modules: ClassVar[tuple[str, ...]]
    """Importable modules needed to run."""

    def __init__(self, path: Path) -> None:
        """Load a file.

        Raises:
            ToolMissing: The peer is not installed.
            MissingFile: There is no such file.
        """
        if reason := self.available():
            raise ToolMissing(reason)
        if not path.is_file():
            raise MissingFile(f"no {self.title} network {path}; prepare it first")
        self.path = path
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._load()

    @classmethod
    def available(cls) -> str | None:
        """None when the peer can run here, else one line that says how to get it."""
        return not_installed(cls.modules, f"run {cls.title}", cls.extra)

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (N, ...) of inputs (N,C,H,W)."""
        outputs = []
        for image in _checked(array):
            self._feed(image)
            self._infer()
            outputs.append(self._fetch())
        return np.concatenate(outputs)

    def time(self, array: NDArray[np.float32], repeat: int, warmup: int = 0) -> NDArray[np.float64]:
        """Latencies in microseconds (N, repeat), each image after its own warm-up."""
        clock = time.perf_counter_ns
        latencies = []
        for image in _checked(array):
            self._feed(image)
            for _ in range(warmup):
                self._infer()
            for _ in range(repeat):
                start = clock()
                self._infer()
                latencies.append(clock() - start)
        return np.array(latencies, dtype=np.float64).reshape(-1, repeat) / 1000

    @property
    def dense_macs(self) -> int | None:
        """MACs per image, where the file tells."""
        return None

    @property
    def dtype(self) -> str:
        """What the file makes it compute with: float32 or int8."""
        return "float32"

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _feed(self, image: NDArray[np.float32]) -> None:
        """Make one image (1,C,H,W) the next input."""

    @abstractmethod
    def _infer(self) -> Any:
        """The timed call."""

    @abstractmethod
    def _fetch(self) -> NDArray[np.float32]:
        """The output (1, ...) of the last inference, as a copy."""


def _checked(array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    if array.ndim != 4 or array.dtype != np.float32:
        raise InputError(
            f"expected float32 images (N,C,H,W), got {array.dtype} {tuple(array.shape)}"
        )
    return [np.ascontiguousarray(array[index : index + 1]) for index in range(len(array))]
