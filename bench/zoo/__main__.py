"""``make zoo``: networks of public model zoos through gate() and the compiler.

Every network is taken with random weights, in a process of its own. Leaves ``zoo.json`` and
``zoo.md`` in profiling/results/, and the table in bench/zoo/README.md. A sweep that was
interrupted goes on where it was; one that came to its end starts anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.publish import publish
from bench.zoo.extensions import make_importable
from bench.zoo.network import Network
from bench.zoo.networks import networks
from bench.zoo.record import read_lines, write_lines
from bench.zoo.sweep import sweep
from bench.zoo.table import render
from headgate.device.agent.absent import to_json
from headgate.device.files import storage_error
from headgate.errors import HeadgateError
from headgate.profiling.timing import read_context

BUILD = Path("build/zoo")
LINES = BUILD / "sweep.jsonl"
PAGE = Path("bench/zoo/README.md")
PACKAGES = (
    *("torch", "apache-tvm", "torchvision", "timm", "pytorchcv", "segmentation_models_pytorch"),
    *("ultralytics", "geffnet", "efficientnet_pytorch", "facenet-pytorch", "super-image"),
    *("torchaudio", "monai", "vit-pytorch"),
)
LIMIT_S = 600
MEMORY_GIB = 14


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.zoo", description=__doc__)
    parser.add_argument(
        "--only", help="beginnings of names with commas, such as timm:resnet; examined again"
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for a network")
    parser.add_argument("--memory", type=int, default=MEMORY_GIB, help="GiB for a network")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except HeadgateError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(options: argparse.Namespace) -> None:
    """Sweep, and publish what is known of all networks."""
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", BUILD, error) from error
    everything = networks()
    if not options.table:
        wanted = networks(options.only.split(",")) if options.only else _left(everything)
        sweep(wanted, LINES, options.limit, options.memory, say)
    known = read_lines(LINES)
    records = [known[one.name] for one in everything if one.name in known]
    context = to_json(read_context(packages=PACKAGES))
    text = render(records, context)
    publish("zoo", {"schema": 1, "networks": records, "context": context}, text, page=PAGE)


def _left(everything: Sequence[Network]) -> list[Network]:
    """Those that an interrupted sweep has not examined; all, if there was none."""
    known = read_lines(LINES)
    left = [one for one in everything if one.name not in known]
    if left:
        return left
    write_lines(LINES, [])
    return list(everything)


def _quiet() -> None:
    """The zoos warn of what is theirs, and look for updates of themselves."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(BUILD))
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def say(line: str) -> None:
    """One line of progress, kept apart from the results."""
    print(f"zoo: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _quiet()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no child is left behind
    torch.set_num_threads(1)
    make_importable()
    sys.exit(main())
