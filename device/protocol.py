"""What a runner is asked for, and what it answers: its command line and files are known here only.

A runner is a bundle's network as a program (``runtime/linux/runner.c``). Files hold raw
little-endian numbers in C order. Boards run this too: Python 3.8, the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

RUNNER, WEIGHTS = "code/runner", "weights.safetensors"
"""Members of a bundle: the program, and what it is given with ``--weights``."""
COUNTS, TIMES, LAYERS = "counts", "times", "layers"


def vector_names(key: str, count: int) -> list[str]:
    """Of a bundle's test vectors, which are its ``inputs`` and ``outputs``."""
    return [key] if count == 1 else [f"{key[:-1]}{index}" for index in range(count)]


@dataclass(frozen=True)
class Request:
    """One call of a runner."""

    inputs: int = 1
    """How many inputs the network has; ``outputs`` likewise."""
    outputs: int = 1
    repeat: int = 1
    """Measured runs of each sample, after ``warmup`` that are not."""
    warmup: int = 0
    threads: int = 1
    counts: bool = False
    """Whether active counts are wanted; ``times`` and ``layers`` likewise."""
    times: bool = False
    layers: bool = False

    @property
    def given(self) -> list[str]:
        """Names of the input files, in the order of the network's inputs."""
        return [f"input{index}" for index in range(self.inputs)]

    @property
    def found(self) -> list[str]:
        """Likewise of the output files."""
        return [f"output{index}" for index in range(self.outputs)]

    @property
    def wanted(self) -> list[str]:
        """Names of the other results, which are the runner's options for them as well."""
        chosen = {COUNTS: self.counts, TIMES: self.times, LAYERS: self.layers}
        return [name for name, wanted in chosen.items() if wanted]

    def of(self, manifest: Mapping[str, Any], threads: int) -> Request:
        """The same of a bundle's network, with its active counts."""
        inputs, outputs = len(manifest["inputs"]), len(manifest["outputs"])
        return replace(self, inputs=inputs, outputs=outputs, threads=threads, counts=True)

    def command(self, runner: str, weights: str, given: str = "", found: str = "") -> list[str]:
        """The command line, of the paths of the runner and its weights.

        ``given`` and ``found`` are what the names of inputs and results begin with: ``"folder/"``.
        """
        options = [("weights", weights)]
        options += [("input", given + name) for name in self.given]
        options += [("output", found + name) for name in self.found]
        options += [(name, found + name) for name in self.wanted]
        options += [("repeat", str(self.repeat)), ("warmup", str(self.warmup))]
        # Runners of older bundles know no threads.
        options += [("threads", str(self.threads))] if self.threads > 1 else []
        return [runner, *(word for name, value in options for word in (f"--{name}", value))]

    def results(
        self, manifest: Mapping[str, Any], samples: int
    ) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name of each result's file -> NumPy's name of its numbers' type, and its shape."""
        gates, layers = len(manifest["gates"]), len(manifest["layers"])
        others = {
            COUNTS: ("int32", (samples, gates)),
            TIMES: ("uint64", (samples, self.repeat)),
            LAYERS: ("uint64", (samples, self.repeat, layers)),
        }
        outputs = zip(self.found, manifest["outputs"])
        found = {name: (item["dtype"], (samples, *item["shape"][1:])) for name, item in outputs}
        return {**found, **{name: others[name] for name in self.wanted}}
