"""`headgate compile`: a network to a bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, on_machine, print_json, print_line, working


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
        str, typer.Option("--target", "-t", help="One of `headgate targets`.")
    ] = "host",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The bundle to write; MODEL-TARGET.hgb by default."),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained: for timing, not for predictions.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="Put untrained gates of this method on, such as fbs.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Share of the channels that each gate keeps, 0 to 1.")
    ] = None,
    json: Json = False,
) -> None:
    """Compile a network into a bundle for one target."""
    from headgate.compile.targets import get_target
    from headgate.networks import compile_network, find_network

    # What can be wrong is looked at first: loading TVM takes seconds.
    get_target(target)
    network = find_network(model, random_weights=random_weights, method=method, density=density)
    path = output or Path(f"{network.name}-{target}.hgb")
    with working(f"compiling {network.name} for {target}"):
        bundle = compile_network(network, target)
    bundle.save(path)
    figures = _figures(path, bundle.manifest)
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        print_line(f"{name:14} {value:,}" if isinstance(value, int) else f"{name:14} {value}")
    machine = "host" if target == "host" else f"qemu:{target}"
    next_step(on_machine(f"headgate validate {path}", machine))


def _figures(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    from headgate.profiling.layers import dense_macs

    sizes = {name: member["bytes"] for name, member in manifest["members"].items()}
    return {
        "bundle": path,
        "bundle_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "target": manifest["target"]["name"],
        "layers": len(manifest["layers"]),
        "gates": len(manifest["gates"]),
        "dense_macs": dense_macs(manifest),
        "arena_bytes": manifest["arena_bytes"],
        "weights_bytes": manifest["weights_bytes"],
        "runner_bytes": sizes.get("code/runner"),
    }
