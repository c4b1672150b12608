"""`headgate compile`: a network to a bundle, or to the file of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.compiled import checked_in_words, digest, figures_of, share_in_words
from headgate.cli.options import Json
from headgate.cli.output import next_step, on_machine, print_json, print_line, working
from headgate.cli.project import (
    check_layout,
    choose_project,
    describe_project,
    following_project,
)
from headgate.errors import BundleError, DeviceError, UsageError, suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headgate.compile.export import Exporter
    from headgate.device import Bundle
    from headgate.device.microcontrollers import Microcontroller
    from headgate.networks import Network

QUANTIZATIONS = ("int8",)
DTYPES = ("float32", "float16", "int8")


def compile_(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A checkpoint of `headgate checkpoints`, a .safetensors file that `headgate "
            "train` wrote, or, with --random-weights, a name of `headgate models`.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="One of `headgate targets`; host by default."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="headgate makes a bundle; tflite, onnx and ncnn make files for LiteRT, ONNX "
            "Runtime and ncnn, which know no gates and run on every target."
        ),
    ] = "headgate",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="What the bundle computes with, gates included: float32, int8, or float16 on "
            "targets that have its arithmetic (rpi5, jetson-orin).",
        ),
    ] = "float32",
    quantize: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="With --backend tflite or onnx: int8; fp32 by default."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Real images to find int8's ranges on: 'sample' (the default) for the 200 "
            "CIFAR-10 test images of the package, 'cifar10' for 1,000 training images, a folder "
            "of images, or a .npy array as for --images.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; named after MODEL by default. For a microcontroller, a name "
            "without .hgb is a folder.",
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With a microcontroller: also write NAME, a whole firmware project, into the "
            "folder of --output. It runs the test vectors and prints cycles.",
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="BOARD",
            help="What the project is for, such as nucleo-l4r5zi or pico2; QEMU's by default.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT",
            help="With a microcontroller: make the folder also an Arduino library (arduino) or a "
            "Zephyr module (zephyr).",
        ),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained: for timing, not for predictions.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="Put untrained gates of this method on, such as fbs.")
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="Share of the channels that are active, 0 to 1."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Run the bundle on its own test vectors, here or under QEMU, and compare with "
            "PyTorch before it is written.",
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Compile a network for headgate's own runtime, or for LiteRT, ONNX Runtime or ncnn."""
    # What can be wrong is looked at first: loading TVM or TensorFlow takes seconds.
    if dtype == "int8":
        calibrate = calibrate or "sample"
    exporter = _check(backend, target, dtype, quantize, calibrate)
    made_for = target if exporter is None else backend
    chosen = choose_project(project, board, made_for, output)
    check_layout(layout, made_for)
    if exporter is not None and not check:
        raise UsageError("--no-check is for --backend headgate; of other files nothing is checked")
    from headgate.networks import find_network

    network = find_network(model, random_weights=random_weights, method=method, density=density)
    if exporter is None:
        figures, following = _bundle(
            network,
            target or "host",
            output,
            check,
            dtype,
            calibrate if dtype == "int8" else None,
            chosen,
            layout,
        )
    else:
        _refuse_gates(network, model, backend)
        figures = _file(network, exporter, quantize, calibrate or "sample", output)
        following = f"headgate compare {network.name}-host.hgb {figures['file']}"
        if backend == "tflite" and not random_weights:
            following = f"headgate validate {figures['file']}"
            following += "" if model == network.name else f" --model {model}"
    if json:
        print_json(figures)
        return
    if "float_time" in figures:
        figures["float_time"] = share_in_words(figures["float_time"])
    if "checked" in figures:
        figures["checked"] = checked_in_words(figures["checked"])
    for name, value in figures.items():
        print_line(f"{name:14} {value:,}" if isinstance(value, int) else f"{name:14} {value}")
    next_step(following)


def _check(
    backend: str, target: str | None, dtype: str, quantize: str | None, calibrate: str | None
) -> Exporter | None:
    """What writes the file, None for a bundle."""
    from headgate.compile.export import get_exporter
    from headgate.device.targets import get_target

    if dtype not in DTYPES:
        raise UsageError(f"unknown --dtype {dtype!r}.{suggest(dtype, DTYPES)}")
    if backend != "headgate" and dtype != "float32":
        raise UsageError(f"--dtype is for --backend headgate; --backend {backend} has its own")
    if backend == "headgate":
        if quantize:
            raise UsageError("--quantize is for --backend tflite or onnx; here it is --dtype int8")
        if calibrate and dtype != "int8":
            raise UsageError(f"--calibrate is for --dtype int8; {dtype} needs no ranges")
        get_target(target or "host")
        return None
    exporter = get_exporter(backend)
    if target is not None:
        raise UsageError(
            f"a {exporter.suffix} file is the same for every target; leave --target {target} away"
        )
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise UsageError(f"unknown --quantize {quantize!r}.{suggest(quantize, QUANTIZATIONS)}")
    if calibrate and not quantize:
        raise UsageError("--calibrate is for --quantize int8; fp32 needs no ranges")
    if quantize:
        exporter.check_quantizes()
    exporter.check()
    return exporter


def _refuse_gates(network: Network, model: str, backend: str) -> None:
    from headgate.train.gates import gates

    if gates(network.module):
        raise UsageError(
            f"{model} has gates that decide per image, which {backend} cannot express; give the "
            "dense or a statically pruned network, or compile this one with --backend headgate"
        )


def _bundle(
    network: Network,
    target: str,
    output: Path | None,
    check: bool,
    dtype: str,
    calibrate: str | None,
    project: tuple[str, Microcontroller] | None,
    layout: str | None,
) -> tuple[dict[str, Any], str]:
    from headgate.calibration import calibration_images
    from headgate.compile.firmware.layouts import add_layout
    from headgate.compile.firmware.project import make_project
    from headgate.device.targets import get_target
    from headgate.networks import compile_network

    kind = target if dtype == "float32" else f"{target}-{dtype}"
    path = output or Path(f"{network.name}-{kind}.hgb")
    with working(f"compiling {network.name} for {target}"):
        images = calibration_images(network, calibrate) if calibrate else None
        bundle = compile_network(network, target, check=check, dtype=dtype, calibration=images)
        bundle = bundle if layout is None else add_layout(bundle, layout)
        written = None if project is None else make_project(bundle, *project)
    if path.suffix != ".hgb" and get_target(target).os == "none":
        bundle.save_folder(path, written)
    else:
        bundle.save(path)
    machine = "host" if target == "host" else f"qemu:{target}"
    figures = figures_of(path, bundle.manifest)
    if written is not None:
        figures |= describe_project(path, written)
        return figures, following_project(path, written)
    if "float_layers" in figures:
        figures["float_time"] = _float_time(bundle) if target == "host" else None
    return figures, on_machine(f"headgate validate {path}", machine)


def _float_time(bundle: Bundle) -> float | None:
    """The share of the time that goes into layers which stay float32; None: it cannot run here."""
    import numpy as np

    from headgate.device import load

    inputs, _ = bundle.vectors()
    try:
        with load(bundle, "host") as program:
            times = program.profile([array[:1] for array in inputs], repeat=30, warmup=3)
            single = [bool(layer.get("in_float")) for layer in program.layers]
    except (BundleError, DeviceError):
        return None
    layers = np.median(times, axis=0)
    return float(layers[single].sum() / layers.sum())


def _file(
    network: Network, exporter: Exporter, quantize: str | None, calibrate: str, output: Path | None
) -> dict[str, Any]:
    """Writes the file of another program; its figures."""
    from headgate.calibration import calibration_images

    stem = f"{network.name}-{quantize}" if quantize else network.name
    path = output or Path(stem + exporter.suffix)
    if not path.name.endswith(exporter.suffix):
        path = path.with_name(path.name + exporter.suffix)
    with working(f"compiling {network.name} for {exporter.title}"):
        images = calibration_images(network, calibrate) if quantize else None
        if exporter.backend == "tflite":
            _write_tflite(network, images, calibrate, path)
        else:
            base = path.with_name(path.name.removesuffix(exporter.suffix))
            exporter.write(network.module, network.example(), base, images)
    figures = {"file": path, "file_bytes": path.stat().st_size, "sha256": digest(path)}
    return figures | ({"quantization": quantize, "calibrated_on": calibrate} if quantize else {})


def _write_tflite(
    network: Network, images: NDArray[np.float32] | None, calibrate: str, path: Path
) -> None:
    from headgate.device.files import atomic_write
    from headgate.networks import convert_to_tflite

    model = convert_to_tflite(network, images, calibrate)
    with atomic_write(path) as file:
        file.write(model)
