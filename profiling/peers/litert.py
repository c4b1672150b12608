"""LiteRT with XNNPACK: the successor of TensorFlow Lite, at its fastest on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.tflite.description import Description
from headgate.profiling.peers.base import Peer
from headgate.profiling.peers.interpreter import MISSING, load_interpreter, runtime

if TYPE_CHECKING:
    import torch


class LiteRT(Peer):
    """A ``.tflite`` file; the XNNPACK delegate is LiteRT's default on CPUs.

    Files whose input and output are integers are fed and read in their own scale, outside the
    clock.
    """

    name = "litert"
    backend = "tflite"
    title = "LiteRT"
    suffix = ".tflite"
    packages = ("ai-edge-litert",)
    converters = ("torch", "tensorflow")
    extra = "compile,tflite"
    modules = ("ai_edge_litert",)

    @classmethod
    def available(cls) -> str | None:
        return None if runtime() else MISSING

    @classmethod
    def _convert(cls, module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
        from headgate.compile.tflite import convert
        from headgate.device.files import atomic_write

        with atomic_write(path) as file:
            file.write(convert(module, example))

    def _load(self) -> None:
        found = runtime()
        assert found is not None  # available() has said so
        self.packages = (found[1],)
        self._interpreter = load_interpreter(self.path)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.description = Description.read(self.path)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the file says about itself; of somebody else's file, what the interpreter knows."""
        if self.description is not None:
            return self.description.manifest
        batch, height, width, channels = (int(size) for size in self._input["shape"])
        shape = [batch, channels, height, width]
        return {
            "name": self.path.stem,
            "inputs": [{"name": self._input["name"], "shape": shape, "dtype": "float32"}],
            "preprocess": None,
            "classes": None,
            "quantization": None if self._input["dtype"] == np.float32 else "int8",
            "dense_macs": None,
        }

    def _feed(self, image: NDArray[np.float32]) -> None:
        array = image.transpose(0, 2, 3, 1)
        self._interpreter.set_tensor(self._input["index"], _quantize(array, self._input))

    def _infer(self) -> Any:
        self._interpreter.invoke()

    def _fetch(self) -> NDArray[np.float32]:
        return _dequantize(self._interpreter.get_tensor(self._output["index"]), self._output)


def _quantize(array: NDArray[np.float32], tensor: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return array
    scale, zero = tensor["quantization"]
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(dtype)


def _dequantize(array: NDArray[Any], tensor: Mapping[str, Any]) -> NDArray[np.float32]:
    if array.dtype.kind == "f":
        return np.array(array, np.float32)
    scale, zero = tensor["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale)
