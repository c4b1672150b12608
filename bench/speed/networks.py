"""The networks of `make bench`, compiled by headgate and converted for every peer.

Shipped checkpoints are taken where there is one. Other networks get random weights, with batch
norms that have seen random data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.settle import random_images, settle
from headgate.compile.export import get_exporter
from headgate.device.files import atomic_write
from headgate.profiling.peers import PEERS

if TYPE_CHECKING:
    import torch

DENSITY = 0.5


@dataclass(frozen=True)
class Entry:
    """One line of the table: how much of it is timed, and whether instructions are counted."""

    network: str
    images: int
    rounds: int
    counted_on: str | None = None


ENTRIES = (
    Entry("resnet8", images=8, rounds=80),
    Entry("mcifarnet", images=8, rounds=40, counted_on="rpi4"),
    Entry("vgg16", images=4, rounds=40),
    Entry("resnet18", images=2, rounds=30),
    Entry("vgg16_imagenet", images=2, rounds=15),
)


def prepare(entry: Entry, folder: Path, say: Callable[[str], None]) -> None:
    """Write everything that one entry needs into ``folder``, and ``plan.json`` to name it.

    Raises:
        HeadgateError: As compiling and converting do; peers that are missing are named in the
            plan instead.
    """
    from headgate.compile import compile_module

    folder.mkdir(parents=True, exist_ok=True)
    dense, gated, accuracies = _modules(entry.network)
    images = _images(entry)
    with atomic_write(folder / "images.npy") as file:
        np.save(file, images)
    example = _tensor(images[:1])
    modules = {entry.network: dense, f"{entry.network}-fbs-{DENSITY}": gated}
    plan: dict[str, Any] = {"bundles": {}, "peers": {}, "counted": {}, "missing": {}}
    for target in ("host", entry.counted_on):
        for name, module in modules.items():
            if target is None:
                continue
            say(f"compiling {name} for {target}")
            bundle = compile_module(module, (example,), target=target, name=name, vectors=images)
            path = folder / f"{name}-{target}.hgb"
            bundle.save(path)
            plan["bundles" if target == "host" else "counted"][name] = path.name
    for peer in PEERS.values():
        if missing := peer.available():
            plan["missing"][peer.title] = missing
            continue
        say(f"converting {entry.network} for {peer.title}")
        exporter = get_exporter(peer.backend)
        plan["peers"][peer.title] = exporter.write(dense, example, folder / entry.network).name
    plan["accuracies"] = accuracies
    with atomic_write(folder / "plan.json") as file:
        file.write(json.dumps(plan, indent=1).encode())


def _modules(name: str) -> tuple[torch.nn.Module, torch.nn.Module, dict[str, float]]:
    """The dense network, the gated one, and test accuracies (0..1) of trained ones by name."""
    import torch

    from headgate.train.checkpoints import list_checkpoints, load_checkpoint
    from headgate.train.gates import gate
    from headgate.train.models import create_model, input_shape

    trained, accuracies = {}, {}
    for one in (name, f"{name}-fbs-{DENSITY}"):
        if one in list_checkpoints():
            module, accuracies[one], _ = load_checkpoint(one)
            trained[one] = module.eval()
    if len(trained) == 2:
        dense, gated = trained.values()
        return dense, gated, accuracies
    torch.manual_seed(0)
    seen = random_images(8, input_shape(name))
    dense = trained.get(name) or settle(create_model(name), seen)
    return dense, settle(gate(dense, density=DENSITY), seen), accuracies


def _images(entry: Entry) -> NDArray[np.float32]:
    from headgate.train.models import input_shape

    shape = (entry.images, *input_shape(entry.network))
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _tensor(images: NDArray[np.float32]) -> torch.Tensor:
    import torch

    return torch.from_numpy(images)
