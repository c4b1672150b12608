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


def validate(
    bundle: BundleFile,
    machine: Machine = "host",
    images: Images = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="With --images: the checkpoint the bundle was compiled from, for PyTorch to run; "
            "by default the one that has the bundle's name.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a bundle's outputs with PyTorch's: on the test vectors it carries, or on images."""
    from headgate.device import validate as check

    if model is not None and not images:
        raise UsageError("--model needs --images: the bundle's own vectors carry the answers")
    result = _on_images(bundle, machine, images, model) if images else check(bundle, machine)
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
