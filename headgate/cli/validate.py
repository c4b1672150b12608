"""`headgate validate`: a bundle against what PyTorch computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.machines import machines_of, work_on
from headgate.cli.options import BundleFile, Images, Json, Machines
from headgate.cli.output import BAD_RESULT, next_step, on_machine, print_line
from headgate.device import Bundle, Validation, compare_outputs, load
from headgate.device import validate as check
from headgate.errors import InputError, UsageError
from headgate.images import read_images
from headgate.networks import find_network, pytorch_outputs, test_vectors
from headgate.profiling.peers import open_tflite

TFLITE_TOLERANCE = 1e-4
"""For fp32, as a bundle's."""
INT8_BOUNDS = 0.1, 0.9
"""Error and least share of equal top-1: room for rounding to 8 bits, none for another network. How
good one is its accuracy says: `headgate run FILE --images WHAT`."""


def validate(
    bundle: BundleFile,
    machines: Machines = "host",
    images: Images = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="With --images, or of a .tflite file: the checkpoint it was compiled from, for "
            "PyTorch to run; by default the one that has the network's name.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a bundle's outputs with PyTorch's: on the test vectors it carries, or on images."""
    if model is not None and not images and bundle.suffix != ".tflite":
        raise UsageError("--model needs --images: the bundle's own vectors carry the answers")

    def work(machine: str) -> Validation:
        if bundle.suffix == ".tflite":
            return _tflite(bundle, machine, images, model)
        if images:
            return _on_images(bundle, machine, images, model)
        return check(bundle, machine)

    names = list(machines_of(machines))
    known = {"bundle": bundle, "machine": names[0]} if len(names) == 1 else {}

    def figures(result: Validation) -> dict[str, Any]:
        # JSON has no word for NaN and infinity, which outputs that are not finite lead to.
        error = result.max_error if math.isfinite(result.max_error) else None
        return known | {"passed": result.passed} | vars(result) | {"max_error": error}

    def show(result: Validation) -> None:
        error = "the outputs are not finite"
        if math.isfinite(result.max_error):
            error = f"largest error {result.max_error:.2g} of the output's scale"
        print_line(
            f"{bundle} on {names[0]}: {_word(result)}; {error} (allowed {result.tolerance:g}), "
            f"same top-1 on {result.top1_agreement:.1%} of {result.samples}"
        )
        if result.passed:
            next_step(on_machine(f"headgate profile {bundle}", names[0]))

    done = work_on(names, work, show, _COLUMNS, _row, figures, json)
    if not all(result.passed for result in done):
        raise typer.Exit(BAD_RESULT)


_COLUMNS = ["", "largest error", "allowed", "same top-1", "samples"]


def _row(result: Validation) -> tuple[object, ...]:
    return (
        _word(result),
        f"{result.max_error:.2g}" if math.isfinite(result.max_error) else "not finite",
        f"{result.tolerance:g}",
        f"{result.top1_agreement:.1%}",
        result.samples,
    )


def _word(result: Validation) -> str:
    return "passed" if result.passed else "FAILED"


def _on_images(path: Path, machine: str, images: list[str], model: str | None) -> Validation:
    bundle = Bundle.open(path)
    outputs = bundle.manifest["outputs"]
    if len(outputs) > 1:
        raise InputError(
            f"{path} has {len(outputs)} outputs, and networks that answer for images have one; "
            "leave --images out: the bundle's own vectors have the answers for all"
        )
    array = read_images(images, bundle.manifest).array
    expected = pytorch_outputs(find_network(model or bundle.name), array)
    with load(bundle, machine) as program:
        scores = program.scores(array)
    tolerance, scales = float(bundle.manifest["tolerance"]), bundle.scales
    return compare_outputs([scores], [expected], tolerance, scales=scales)


def _tflite(path: Path, machine: str, images: list[str] | None, model: str | None) -> Validation:
    """A ``.tflite`` file carries no vectors: PyTorch computes the answers here."""
    opened = open_tflite(path, machine)
    network = find_network(model or opened.manifest["name"])
    array = read_images(images, opened.manifest).array if images else test_vectors(network)
    tolerance, agreement = (
        (TFLITE_TOLERANCE, 1.0) if opened.manifest["quantization"] is None else INT8_BOUNDS
    )
    outputs = opened.run(array)
    return compare_outputs([outputs], [pytorch_outputs(network, array)], tolerance, agreement)
