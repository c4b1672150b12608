"""LiteRT with XNNPACK: the successor of TensorFlow Lite, at its fastest on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.quiet import quiet_stderr
from headgate.device.tflite_file import Description
from headgate.errors import BundleError, why
from headgate.profiling.peers.base import Peer
from headgate.profiling.peers.interpreter import TFLiteNetwork, runtime


class LiteRT(Peer):
    """A ``.tflite`` file; the XNNPACK delegate is LiteRT's default on CPUs."""

    name = "litert"
    backend = "tflite"
    title = "LiteRT"
    suffix = ".tflite"
    packages = ("ai-edge-litert",)
    extra = "compile,tflite"
    modules = ("ai_edge_litert",)

    @classmethod
    def available(cls) -> str | None:
        if runtime() is not None:
            return None
        return (
            "neither ai-edge-litert nor tflite-runtime is installed, one of which runs .tflite "
            "files; pip install 'headgate[tflite]'"
        )

    def _load(self) -> None:
        found = runtime()
        assert found is not None  # available() has said so
        package, distribution = found
        self.packages = (distribution,)
        try:
            with quiet_stderr():
                self._network = TFLiteNetwork(str(self.path), package)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{distribution} cannot load {self.path}: {why(error)}") from error
        self._description = Description.read(self.path)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the file says about itself; of somebody else's file, what the interpreter knows."""
        if self._description is not None:
            return self._description.manifest
        batch, *sides, channels = self._network.input_shape
        shape = [batch, channels, *sides]
        return {
            "name": self.path.stem,
            "inputs": [{"name": self._network.input_name, "shape": shape, "dtype": "float32"}],
            "preprocess": None,
            "classes": None,
            "quantization": "int8" if self._network.is_quantized else None,
            "dense_macs": None,
        }

    @property
    def dense_macs(self) -> int | None:
        return self.manifest["dense_macs"]

    @property
    def dtype(self) -> str:
        return "int8" if self._network.is_quantized else "float32"

    def _feed(self, image: NDArray[np.float32]) -> None:
        self._network.feed(image)

    def _infer(self) -> Any:
        self._network.infer()

    def _fetch(self) -> NDArray[np.float32]:
        return self._network.fetch()
