"""LiteRT with XNNPACK: the successor of TensorFlow Lite, at its fastest on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.tflite.quiet import quiet_stderr
from headgate.profiling.peers.base import Peer

if TYPE_CHECKING:
    import torch


class LiteRT(Peer):
    """A ``.tflite`` file; the XNNPACK delegate is LiteRT's default on CPUs."""

    name = "litert"
    title = "LiteRT"
    suffix = ".tflite"
    packages = ("ai-edge-litert",)
    converters = ("torch", "tensorflow")
    modules = ("ai_edge_litert",)

    @classmethod
    def _convert(cls, module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
        from headgate.compile.tflite import convert
        from headgate.device.files import atomic_write

        with atomic_write(path) as file:
            file.write(convert(module, example))

    def _load(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet_stderr():
            self._interpreter: Any = Interpreter(model_path=str(self.path), num_threads=1)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def _feed(self, image: NDArray[np.float32]) -> None:
        self._interpreter.set_tensor(self._input, image.transpose(0, 2, 3, 1))

    def _infer(self) -> Any:
        self._interpreter.invoke()

    def _fetch(self) -> NDArray[np.float32]:
        return np.array(self._interpreter.get_tensor(self._output))
