"""What every peer does: say whether it can run, convert a network, load it, run it, time it."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError, MissingFile, ToolMissing

if TYPE_CHECKING:
    import torch


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
    """How the names of its prepared files end."""
    packages: tuple[str, ...]
    """Distributions that run it, whose versions are reported."""
    converters: ClassVar[tuple[str, ...]]
    """Importable modules needed to prepare a network."""
    extra: ClassVar[str] = "peers"
    """The extra of headgate that brings them all."""
    modules: ClassVar[tuple[str, ...]]
    """Importable modules needed to run."""

    def __init__(self, path: Path) -> None:
        """Load a prepared file.

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
        return cls._missing(cls.modules, "run")

    @classmethod
    def check_converters(cls) -> None:
        """Look for what :meth:`prepare` needs, without loading it.

        Raises:
            ToolMissing: A converter is not installed; the message says how to get it.
        """
        if reason := cls._missing(cls.converters, "compile a network for"):
            raise ToolMissing(reason)

    @classmethod
    def prepare(cls, module: torch.nn.Module, example: torch.Tensor, path: Path) -> Path:
        """Convert a dense CNN for this peer; returns the written file. Neither is changed.

        Args:
            module: The network.
            example: One input (1,C,H,W).
            path: Where to write, without the peer's suffix.

        Raises:
            ToolMissing: A converter is not installed.
            UnsupportedOperator: The network has an operator the converter cannot translate.
        """
        cls.check_converters()
        from headgate.train.evaluation_mode import evaluating

        target = path.with_name(path.name + cls.suffix)
        with evaluating(module):
            cls._convert(module, example.clone(), target)  # tracing may run it, in place
        return target

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

    @classmethod
    def _missing(cls, modules: tuple[str, ...], purpose: str) -> str | None:
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        return (
            f"{', '.join(absent)} is not installed, needed to {purpose} {cls.title}; "
            f"pip install 'headgate[{cls.extra}]'"
        )

    @property
    def dense_macs(self) -> int | None:
        """MACs per image, where the file tells."""
        return None

    @property
    def quantized(self) -> bool:
        """Whether it computes in integers."""
        return False

    @classmethod
    @abstractmethod
    def _convert(cls, module: torch.nn.Module, example: torch.Tensor, path: Path) -> None: ...

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
