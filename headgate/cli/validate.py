"""`headgate validate`: a bundle against the outputs that PyTorch gave."""

from __future__ import annotations

import typer

from headgate.cli.options import BundleFile, Json, Machine
from headgate.cli.output import next_step, on_machine, print_json, print_line

FAILED = 3


def validate(bundle: BundleFile, machine: Machine = "host", json: Json = False) -> None:
    """Compare a bundle's outputs with PyTorch's, on the test vectors that it carries."""
    from headgate.device import validate as check

    result = check(bundle, machine)
    if json:
        print_json({"bundle": bundle, "machine": machine, "passed": result.passed} | vars(result))
    else:
        print_line(
            f"{bundle} on {machine}: {'passed' if result.passed else 'FAILED'}; largest error "
            f"{result.max_error:.2g} of the output's scale (allowed {result.tolerance:g}), "
            f"same top-1 on {result.top1_agreement:.1%}"
        )
        if result.passed:
            next_step(on_machine(f"headgate profile {bundle}", machine))
    if not result.passed:
        raise typer.Exit(FAILED)
