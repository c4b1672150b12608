"""What range each tensor of a network has: PyTorch runs it on real images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.front.graph import Graph, Value
from headgate.errors import InputError
from headgate.train.quantization.ranges import Range


def find_ranges(graph: Graph, samples: list[np.ndarray]) -> dict[Value, Range]:
    """The range of every value that stands for a node of PyTorch's graph.

    Args:
        graph: after fusing; its ``module`` is what it was read from.
        samples: calibration inputs (N, ...) float32, an array for each input.

    Raises:
        InputError: the network makes NaN or infinity of a sample.
    """
    left = {value for node in graph.nodes for value in (*node.inputs, node.output)}
    wanted = {node: value for value, node in graph.origins.items() if value in left}
    runner = _Recorder(graph.module, set(wanted))
    for index in range(len(samples[0])):
        runner.run(*(torch.from_numpy(array[index : index + 1].copy()) for array in samples))
    return {value: runner.ranges[node] for node, value in wanted.items() if node in runner.ranges}


def check_varied(samples: list[np.ndarray]) -> None:
    """Refuses samples that are one number throughout, with an InputError."""
    if all(array.min() == array.max() for array in samples):
        raise InputError(
            f"Calibration images are {samples[0].flat[0]:g} throughout, which shows no range; "
            "give real ones."
        )


class _Recorder(fx.Interpreter):
    """Notes how the numbers of each node are distributed."""

    def __init__(self, module: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(module)
        self._wanted = wanted
        self.ranges: dict[fx.Node, Range] = {}

    @torch.no_grad()
    def run(self, *inputs: Tensor) -> Any:  # type: ignore[override]
        return super().run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._wanted and isinstance(result, Tensor) and result.is_floating_point():
            try:
                self.ranges.setdefault(n, Range()).add(result)
            except ValueError as error:
                raise InputError(
                    f"A calibration image makes {n.name!r} of the network NaN or infinite; "
                    "give others, or look at the network's weights."
                ) from error
        return result
