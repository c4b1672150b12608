"""One network after the other, so that what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.zoo import verdict
from bench.zoo.child import examine_in_child
from bench.zoo.examine import examine
from bench.zoo.network import Network
from bench.zoo.record import append_line

EMULATED = (
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "timm:efficientnet_lite0",
    "timm:test_byobnet",
    "facenet:onet",
)
"""Networks that also run under QEMU, as a Raspberry Pi 4."""


def sweep(
    networks: Sequence[Network],
    lines: Path,
    limit_s: float,
    memory_gib: int,
    say: Callable[[str], None],
) -> None:
    """Examine each network in a child, and append what was found to ``lines``.

    Each has a folder of its own beside ``lines`` while it is examined.
    """
    for position, network in enumerate(networks, start=1):
        begin = {
            "name": network.name,
            "family": network.family,
            "input": [list(shape) for shape in network.shapes],
        }
        with TemporaryDirectory(prefix="network-", dir=lines.parent) as name:
            folder = Path(name)
            body = partial(examine, network, folder=folder, emulate=network.name in EMULATED)
            record = {**begin, **examine_in_child(body, folder, limit_s, memory_gib)}
        append_line(lines, record)
        say(f"{position} of {len(networks)}: {line(record)}")


def line(record: dict[str, Any]) -> str:
    """What came out, for the screen."""
    words = (verdict.at_one(record), verdict.dense(record), verdict.half(record))
    told = "; ".join(f"{stage}: {message}" for stage, message in verdict.faults(record).items())
    return f"{record['name']} {record['seconds']:.0f} s, {' / '.join(words)} {told}".rstrip()
