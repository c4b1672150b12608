"""`headgate convert`: a network for a program that users would pick instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json, print_line
from headgate.errors import UsageError


def convert(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="As for `headgate compile`, without gates.")
    ],
    peer: Annotated[str, typer.Option("--to", metavar="PEER", help="litert, onnxruntime or ncnn.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to, without the ending; MODEL by default."),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained: for timing, not for predictions.")
    ] = False,
    json: Json = False,
) -> None:
    """Convert a dense network for LiteRT, ONNX Runtime or ncnn, to compare with."""
    from headgate.profiling.peers import get_peer

    converter = get_peer(peer)
    from headgate.networks import find_network
    from headgate.train.gates import gates

    network = find_network(model, random_weights=random_weights)
    if gates(network.module):
        raise UsageError(f"{model} has gates, which {peer} does not know; convert the dense one")
    path = converter.prepare(network.module, network.example(), output or Path(network.name))
    if json:
        print_json({"path": path, "bytes": path.stat().st_size})
        return
    print_line(f"{path}: {path.stat().st_size:,} bytes")
    next_step(f"headgate compare {network.name}-host.hgb {path}")
