"""What is compared: the shipped checkpoints of an architecture, compiled and converted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.publish import write_text
from headgate.device.files import atomic_write, storage_error
from headgate.errors import DataError, HeadgateError, UsageError, suggest

if TYPE_CHECKING:
    from headgate.networks import Network

HEADGATE, HEADGATE_INT8 = "headgate", "headgate int8"
TFLITE_FP32, TFLITE_INT8 = "TFLite fp32", "TFLite int8"
ONNX_FP32, ONNX_INT8 = "ONNX Runtime fp32", "ONNX Runtime int8"
PLAN = "plan.json"
_ORDER = ("dense", "frs", "fbs", "dcp", "cgnet")


@dataclass(frozen=True)
class Entry:
    """One program to time."""

    name: str
    checkpoint: str
    method: str
    program: str
    file: str
    test_accuracy: float | None
    """Recorded by training, on ``test_images`` images."""
    test_images: int
    counted_macs: int | None
    """Mean per image, recorded by training: pixel gates counted number by number."""

    @property
    def is_bundle(self) -> bool:
        return self.program in (HEADGATE, HEADGATE_INT8)


def find_checkpoints(network: str) -> dict[str, Mapping[str, Any]]:
    """Descriptions of the shipped checkpoints of an architecture by name: the dense one first.

    Raises:
        UsageError: The architecture is unknown, or its dense network is not among them.
    """
    from headgate.train.checkpoints import describe, list_checkpoints
    from headgate.train.models import list_models

    if network not in list_models():
        raise UsageError(f"no network {network!r}.{suggest(network, list_models())}")
    described = {name: describe(name) for name in list_checkpoints()}
    found = {
        name: one
        for name, one in described.items()
        if one["architecture"] == network and one["recipe"]["dataset"] == "cifar10"
    }
    order = sorted(found, key=lambda name: _place(found[name]))
    if not order or method_of(found[order[0]]) != "dense":
        trained = sorted({one["architecture"] for one in described.values()})
        raise UsageError(
            f"no dense {network} comes with the package to compare with; there is "
            f"{', '.join(trained)}"
        )
    options = found[order[0]]["model_options"]  # of another width there is no dense one
    return {name: found[name] for name in order if found[name]["model_options"] == options}


def _place(described: Mapping[str, Any]) -> tuple[int, float]:
    """Dense first, then method by method, each from much arithmetic to little."""
    method = method_of(described)
    rank = _ORDER.index(method) if method in _ORDER else len(_ORDER)
    return rank, -float(described["macs"]["executed"])


def method_of(described: Mapping[str, Any]) -> str:
    """dense, or the method that a checkpoint was gated or pruned with."""
    chosen = described.get("gate") or described.get("pruning")
    return str(chosen["method"]) if chosen else "dense"


def prepare(network: str, folder: Path, say: Callable[[str], None]) -> None:
    """Compile and convert everything into ``folder``, and write ``plan.json`` to name it.

    A checkpoint that cannot be compiled, or a program that is not installed, is named in the plan
    with the reason.

    Raises:
        UsageError: As :func:`find_checkpoints`.
        HeadgateError: The dense network cannot be compiled.
        StorageError: A file cannot be written.
    """
    from headgate.networks import find_network

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", folder, error) from error
    entries: list[Entry] = []
    missing: dict[str, str] = {}
    for name, described in find_checkpoints(network).items():
        for program, make in _programs(described).items():
            title = name if program == HEADGATE else f"{name} ({program})"
            say(f"compiling {name} for {program}")
            try:
                file = make(find_network(name), folder)
            except HeadgateError as error:
                if not entries:
                    raise  # the dense network, which everything is held against
                say(f"without {title}: {error}")
                missing[title] = str(error)
                if program == HEADGATE:
                    break  # whose bundle counts the work for the other programs, too
                continue
            method, accuracy = method_of(described), described["test_accuracy"]
            images = int(described.get("test_images", 10_000))
            counted = int(described["macs"]["executed"])
            entries.append(Entry(title, name, method, program, file, accuracy, images, counted))
    plan = {"network": network, "entries": [asdict(one) for one in entries], "missing": missing}
    write_text(folder / PLAN, json.dumps(plan, indent=1) + "\n")


def read_plan(folder: Path) -> tuple[list[Entry], dict[str, str]]:
    """What :func:`prepare` wrote: entries in order, and what is missing with the reason."""
    plan = json.loads((folder / PLAN).read_text())
    return [Entry(**one) for one in plan["entries"]], plan["missing"]


def _programs(described: Mapping[str, Any]) -> dict[str, Callable[[Network, Path], str]]:
    """Writers of a checkpoint's files by program; peers have no gates."""
    bundles: dict[str, Callable[[Network, Path], str]]
    bundles = {HEADGATE: _bundle, HEADGATE_INT8: _bundle_int8}
    if described["gate"]:
        return bundles
    tflite = {TFLITE_FP32: _tflite, TFLITE_INT8: _tflite_int8}
    return bundles | tflite | {ONNX_FP32: _onnx, ONNX_INT8: _onnx_int8}


def _bundle(network: Network, folder: Path) -> str:
    from headgate.networks import compile_network

    path = folder / f"{network.name}.hgb"
    compile_network(network, "host").save(path)
    return path.name


def _bundle_int8(network: Network, folder: Path) -> str:
    from headgate.networks import compile_network

    path = folder / f"{network.name}-int8.hgb"
    compile_network(network, "host", calibration=_calibration(network)[0]).save(path)
    return path.name


def _tflite(network: Network, folder: Path) -> str:
    from headgate.networks import convert_to_tflite

    return _write(folder / f"{network.name}.tflite", convert_to_tflite(network))


def _tflite_int8(network: Network, folder: Path) -> str:
    from headgate.networks import convert_to_tflite

    content = convert_to_tflite(network, *_calibration(network))
    return _write(folder / f"{network.name}-int8.tflite", content)


def _onnx(network: Network, folder: Path) -> str:
    from headgate.compile.export import get_exporter

    path = folder / network.name
    return get_exporter("onnx").write(network.module, network.example(), path).name


def _onnx_int8(network: Network, folder: Path) -> str:
    from headgate.compile.export import get_exporter

    path, images = folder / f"{network.name}-int8", _calibration(network)[0]
    return get_exporter("onnx").write(network.module, network.example(), path, images).name


def _calibration(network: Network) -> tuple[NDArray[np.float32], str]:
    """The same images for every program in int8, and where they are from."""
    from headgate.calibration import calibration_images

    try:
        return calibration_images(network, "cifar10"), "cifar10"
    except DataError:  # CIFAR-10 absent: calibrate on the 200 packaged test images
        return calibration_images(network, "sample"), "sample"


def _write(path: Path, content: bytes) -> str:
    with atomic_write(path) as file:
        file.write(content)
    return path.name
