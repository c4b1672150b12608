"""ONNX files: float32 by torch's own exporter, int8 by ONNX Runtime's static quantisation."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.export.exporter import Exporter
from headgate.device.files import atomic_write
from headgate.device.quiet import quiet_stderr
from headgate.device.targets import host, host_architecture
from headgate.errors import CompileError, missing_package, why

if TYPE_CHECKING:
    import torch


def _convert(
    module: torch.nn.Module,
    example: torch.Tensor,
    path: Path,
    calibration: NDArray[np.float32] | None,
) -> None:
    program = _export(module, example)
    if calibration is None:
        program.save(str(path), external_data=False)
        return
    with tempfile.TemporaryDirectory() as name:
        source, quantized = Path(name) / "float32.onnx", Path(name) / "int8.onnx"
        program.save(str(source), external_data=False)
        _quantize(source, quantized, calibration)
        with quantized.open("rb") as file, atomic_write(path) as written:
            shutil.copyfileobj(file, written)


def _export(module: torch.nn.Module, example: torch.Tensor) -> torch.onnx.ONNXProgram:
    import torch

    from headgate.compile.export.placed import without_placing

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision aloud
    placed = without_placing(module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(
                placed, (example,), dynamo=True, optimize=True, verbose=False
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__  # the outer ones say which step of how many it was
        raise CompileError(f"torch.onnx cannot translate the network: {why(cause)}") from error
    assert program is not None  # a program comes back whenever no file is named
    return program


def _quantize(source: Path, target: Path, images: NDArray[np.float32]) -> None:
    """Weights int8 per output channel, activations uint8 per tensor, quantised where they are read.

    On resnet8 and resnet20 int8 activations and ranges by percentile or entropy give the same
    accuracy to 0.2 points; with int8 activations ONNX Runtime takes two to three times as long on
    x86.
    """
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError as error:
        raise missing_package("Writing int8 ONNX files", error) from error
    prepared = source.with_name("prepared.onnx")
    try:
        with quiet_stderr():
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _Reader(source, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Without VNNI its products of bytes saturate, unless weights have seven bits.
                reduce_range=host_architecture() == "x86_64" and not host().has("avx512vnni"),
            )
    except Exception as error:
        raise CompileError(f"ONNX Runtime cannot quantise the network: {why(error)}") from error


class _Reader:
    """Gives ONNX Runtime's calibration one image at a time, and None at the end."""

    def __init__(self, model: Path, images: NDArray[np.float32]) -> None:
        import onnx

        self._name = onnx.load(model).graph.input[0].name
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


ONNX = Exporter("onnx", "ONNX Runtime", ".onnx", ("torch", "onnx", "onnxscript"), _convert)
