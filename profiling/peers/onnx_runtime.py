"""ONNX Runtime's CPU provider, all graph optimisations, one thread."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.profiling.peers.base import Peer

# An operator's type as ONNX's files have it: the field's number and kind, a length, the name.
_QUANTIZES = re.compile(rb"\x22[\x0e\x15](Dynamic)?QuantizeLinear")


class OnnxRuntime(Peer):
    """A ``.onnx`` file; input and output stay bound in memory."""

    name = "onnxruntime"
    backend = "onnx"
    title = "ONNX Runtime"
    suffix = ".onnx"
    packages = ("onnxruntime",)
    modules = ("onnxruntime",)

    def _load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )
        self._value = onnxruntime.OrtValue
        self._binding = self._session.io_binding()
        self._input = self._session.get_inputs()[0].name
        self._binding.bind_output(self._session.get_outputs()[0].name, "cpu")
        self._quantizes = _QUANTIZES.search(self.path.read_bytes()) is not None

    @property
    def dtype(self) -> str:
        return "int8" if self._quantizes else "float32"

    def _feed(self, image: NDArray[np.float32]) -> None:
        self._bound = self._value.ortvalue_from_numpy(image, "cpu", 0)
        self._binding.bind_ortvalue_input(self._input, self._bound)

    def _infer(self) -> Any:
        self._session.run_with_iobinding(self._binding)

    def _fetch(self) -> NDArray[np.float32]:
        return np.array(self._binding.copy_outputs_to_cpu()[0])
