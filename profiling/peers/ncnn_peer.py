"""ncnn in fp32, with its Winograd and GEMM kernels and pooled memory, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.errors import CompileError, MissingFile
from headgate.profiling.peers.base import Peer

_INPUT, _OUTPUT = "in0", "out0"  # pnnx's names


class Ncnn(Peer):
    """A ``.ncnn.param`` file with its weights in ``.ncnn.bin`` beside it, written by pnnx."""

    name = "ncnn"
    backend = "ncnn"
    title = "ncnn"
    suffix = ".ncnn.param"
    packages = ("ncnn",)
    modules = ("ncnn",)

    def _load(self) -> None:
        import ncnn

        weights = _weights_of(self.path)
        if not weights.is_file():
            raise MissingFile(f"{self.path} has no weights beside it: {weights} is missing")
        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = 1
        options.lightmode = True
        options.use_vulkan_compute = False
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(options, f"use_{half}", False)
        self._blobs = ncnn.UnlockedPoolAllocator()
        self._workspace = ncnn.PoolAllocator()
        options.blob_allocator = self._blobs
        options.workspace_allocator = self._workspace
        if self._net.load_param(str(self.path)) or self._net.load_model(str(weights)):
            raise CompileError(f"ncnn cannot load {self.path}")

    def _feed(self, image: NDArray[np.float32]) -> None:
        self._mat = self._ncnn.Mat(image[0]).clone()

    def _infer(self) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(_INPUT, self._mat)
        _, self._result = extractor.extract(_OUTPUT)

    def _fetch(self) -> NDArray[np.float32]:
        return np.array(self._result)[None]


def _weights_of(param: Path) -> Path:
    return param.with_name(param.name.removesuffix(".param") + ".bin")
