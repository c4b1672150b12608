"""TensorFlow Lite's interpreter from whichever package this machine has.

ai-edge-litert is what LiteRT is called on PyPI; older boards' images have tflite-runtime, the
same interpreter under the name it had before. Needs NumPy and one of the two, nothing of
headgate: on emulated boards this file runs as a program of its own,
``interpreter.py MODEL INPUT.npy OUTPUT.npy WARMUP REPEAT``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# module, distribution; the first that is installed is taken
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


def runtime() -> tuple[str, str] | None:
    """Module and distribution of the interpreter that is installed, if one is."""
    for module, distribution in RUNTIMES:
        if importlib.util.find_spec(module) is not None:
            return module, distribution
    return None


class TFLiteNetwork:
    """A network with one input and one output on one thread, with XNNPACK where it is built in.

    Where the file's input or output are integers they are converted from and to float32 in
    :meth:`feed` and :meth:`fetch`, by the scales in the file.
    """

    def __init__(self, path: str, module: str) -> None:
        """Load ``path`` into the interpreter of the package ``module``.

        Raises:
            ValueError, RuntimeError: It refuses the file.
        """
        interpreters = importlib.import_module(f"{module}.interpreter")
        self._interpreter: Any = interpreters.Interpreter(model_path=path, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.infer = self._interpreter.invoke
        """Computes the output of what was fed."""

    @property
    def input_shape(self) -> list[int]:
        """As the file has it: (1,H,W,C) for images."""
        return [int(size) for size in self._input["shape"]]

    @property
    def input_name(self) -> str:
        return str(self._input["name"])

    @property
    def is_quantized(self) -> bool:
        """Whether weights or activations are 8-bit integers."""
        details = self._interpreter.get_tensor_details()
        return any(np.dtype(tensor["dtype"]) in (np.int8, np.uint8) for tensor in details)

    def feed(self, image: NDArray[np.float32]) -> None:
        """Makes one image (1,C,H,W) the input."""
        array = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        self._interpreter.set_tensor(self._input["index"], _quantize(array, self._input))

    def fetch(self) -> NDArray[np.float32]:
        """The output (1, ...) of the last inference, a copy."""
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


def main(arguments: Sequence[str]) -> int:
    """Runs every image of a file, each ``WARMUP`` + ``REPEAT`` times; writes the outputs."""
    model, source, target, warmup, repeat = arguments
    found = runtime()
    if found is None:
        print("no TFLite interpreter is installed", file=sys.stderr)
        return 1
    network = TFLiteNetwork(model, found[0])
    outputs = []
    for image in np.load(source):
        network.feed(image[None])
        for _ in range(int(warmup) + int(repeat)):
            network.infer()
        outputs.append(network.fetch())
    np.save(target, np.concatenate(outputs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
