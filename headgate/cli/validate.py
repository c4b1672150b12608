"""`headgate validate`: a bundle against what PyTorch computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.options import BundleFile, Images, Json, Machine
from headgate.cli.output import next_step, on_machine, print_json, print_line
from headgate.errors import UsageError

if TYPE_CHECKING:
    from headgate.device import Validation

FAILED = 3
TFLITE_TOLERANCE = 1e-4
"""For fp32, as a bundle's."""
INT8_BOUNDS = 0.1, 0.9
"""Error and least share of equal top-1: room for rounding to 8 bits, none for another network. How
good one is its accuracy says: `headgate run FILE --images WHAT`."""


def validate(
    bundle: BundleFile,
    machine: Machine = "host",
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
    from headgate.device import validate as check

    if bundle.suffix == ".tflite":
        result = _tflite(bundle, machine, images, model)
    elif images:
        result = _on_images(bundle, machine, images, model)
    elif model is not None:
        raise UsageError("--model needs --images: the bundle's own vectors carry the answers")
    else:
        result = check(bundle, machine)
    if json:
        print_json({"bundle": bundle, "machine": machine, "passed": result.passed} | vars(result))
    else:
        print_line(
            f"{bundle} on {machine}: {'passed' if result.passed else 'FAILED'}; largest error "
            f"{result.max_error:.2g} of the output's scale (allowed {result.tolerance:g}), "
            f"same top-1 on {result.top1_agreement:.1%} of {result.samples}"
        )
        if result.passed:
            next_step(on_machine(f"headgate profile {bundle}", machine))
    if not result.passed:
        raise typer.Exit(FAILED)


def _on_images(path: Path, machine: str, images: list[str], model: str | None) -> Validation:
    from headgate.device import Bundle, compare_outputs, load
    from headgate.images import read_images
    from headgate.networks import find_network, pytorch_outputs

    bundle = Bundle.open(path)
    array = read_images(images, bundle).array
    expected = pytorch_outputs(find_network(model or bundle.name), array)
    with load(bundle, machine) as program:
        outputs = program.run(array)
    return compare_outputs([outputs], [expected], float(bundle.manifest["tolerance"]))


def _tflite(path: Path, machine: str, images: list[str] | None, model: str | None) -> Validation:
    """A ``.tflite`` file carries no vectors: PyTorch computes the answers here."""
    from headgate.device import compare_outputs
    from headgate.images import read_images
    from headgate.networks import find_network, pytorch_outputs, test_vectors
    from headgate.profiling.peers import open_tflite

    opened = open_tflite(path, machine)
    network = find_network(model or opened.manifest["name"])
    array = read_images(images, opened).array if images else test_vectors(network)
    tolerance, agreement = (
        (TFLITE_TOLERANCE, 1.0) if opened.manifest["quantization"] is None else INT8_BOUNDS
    )
    outputs = opened.run(array)
    return compare_outputs([outputs], [pytorch_outputs(network, array)], tolerance, agreement)
