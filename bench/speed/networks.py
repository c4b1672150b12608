"""The networks of `make bench`, compiled by headgate and converted for every peer.

Shipped checkpoints are taken where there is one. Other networks get random weights, with batch
norms that have seen random data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.settle import random_images, settle
from headgate.compile.export import get_exporter
from headgate.device.files import atomic_write
from headgate.profiling.peers import PEERS
from headgate.train.data import PREPROCESS, sample_images

if TYPE_CHECKING:
    import torch

DENSITY = 0.5
RANDOM_IMAGES = 8  # that int8's ranges are found on where pictures do not fit


@dataclass(frozen=True)
class Entry:
    """One line of a table: how much of it is timed, and where instructions are counted."""

    network: str
    images: int
    rounds: int
    counted_on: tuple[str, ...] = ()
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """``resnet8``, ``resnet8-int8``; its programs' names begin so, too."""
        return self.network if self.dtype == "float32" else f"{self.network}-{self.dtype}"

    @property
    def gated(self) -> str:
        return f"{self.name}-fbs-{DENSITY}"


ENTRIES = (
    Entry("resnet8", images=8, rounds=80),
    Entry("resnet20", images=8, rounds=60),
    Entry("mcifarnet", images=8, rounds=40, counted_on=("rpi4",)),
    Entry("vgg16", images=4, rounds=40),
    Entry("resnet18", images=2, rounds=30),
    Entry("mobilenet_v2", images=2, rounds=40),
    Entry("vgg16_imagenet", images=2, rounds=15),
    Entry("resnet8", images=8, rounds=200, dtype="int8"),
    Entry("resnet20", images=8, rounds=120, dtype="int8"),
    Entry("mcifarnet", images=8, rounds=80, counted_on=("rpi4", "rpi5"), dtype="int8"),
    Entry("vgg16", images=4, rounds=60, dtype="int8"),
    Entry("resnet18", images=2, rounds=40, dtype="int8"),
    Entry("mobilenet_v2", images=2, rounds=60, dtype="int8"),
)
DTYPES = tuple(dict.fromkeys(entry.dtype for entry in ENTRIES))


def named(names: Sequence[str]) -> list[str]:
    """Names of entries, each dtype among them spelled out as all that are of it."""
    found = []
    for name in names:
        found += [one.name for one in ENTRIES if one.dtype == name] if name in DTYPES else [name]
    return found


def prepare(entry: Entry, folder: Path, say: Callable[[str], None]) -> None:
    """Write everything that one entry needs into ``folder``, and ``plan.json`` to name it.

    Raises:
        HeadgateError: As compiling and converting do; peers that are missing are named in the
            plan instead.
    """
    from headgate.compile import compile_module

    folder.mkdir(parents=True, exist_ok=True)
    dense, gated, accuracies = _modules(entry.network)
    seen = _images(entry.network)
    images = seen[: entry.images]
    with atomic_write(folder / "images.npy") as file:
        np.save(file, images)
    example = _tensor(images[:1])
    calibration = None if entry.dtype == "float32" else seen
    plan: dict[str, Any] = {"bundles": {}, "peers": {}, "counted": {}, "missing": {}}
    for target in ("host", *entry.counted_on):
        files = {}
        for name, module in ((entry.name, dense), (entry.gated, gated)):
            say(f"compiling {name} for {target}")
            bundle = compile_module(
                *(module, (example,)),
                target=target,
                name=name,
                vectors=images,
                dtype=entry.dtype,
                calibration=calibration,
            )
            files[name] = f"{name}-{target}.hgb"
            bundle.save(folder / files[name])
        if target == "host":
            plan["bundles"] = files
        else:
            plan["counted"][target] = files
    for peer in PEERS.values():
        exporter = get_exporter(peer.backend)
        if calibration is not None and not exporter.quantizes:
            continue
        if missing := peer.available() or exporter.missing():
            plan["missing"][peer.title] = missing
            continue
        say(f"converting {entry.name} for {peer.title}")
        path = exporter.write(dense, example, folder / entry.name, calibration)
        plan["peers"][peer.title] = path.name
    plan["accuracies"] = accuracies if entry.dtype == "float32" else {}
    with atomic_write(folder / "plan.json") as file:
        file.write(json.dumps(plan, indent=1).encode())


def _modules(name: str) -> tuple[torch.nn.Module, torch.nn.Module, dict[str, float]]:
    """The dense network, the gated one, and test accuracies (0..1) of trained ones by name."""
    import torch

    from headgate.train.checkpoints import list_checkpoints, load_checkpoint
    from headgate.train.gates import gate

    trained, accuracies = {}, {}
    for one in (name, f"{name}-fbs-{DENSITY}"):
        if one in list_checkpoints():
            module, accuracies[one], _ = load_checkpoint(one)
            trained[one] = module.eval()
    if len(trained) == 2:
        dense, gated = trained.values()
        return dense, gated, accuracies
    torch.manual_seed(0)
    seen = random_images(8, _shape(name))
    dense = trained.get(name) or settle(_create(name), seen)
    return dense, settle(gate(dense, density=DENSITY), seen), accuracies


def _create(name: str) -> torch.nn.Module:
    from bench.speed import mobilenet
    from headgate.train.models import create_model

    return mobilenet.MobileNetV2() if name == "mobilenet_v2" else create_model(name)


def _shape(name: str) -> tuple[int, int, int]:
    from bench.speed import mobilenet
    from headgate.train.models import input_shape

    return mobilenet.IMAGE if name == "mobilenet_v2" else input_shape(name)


def _images(network: str) -> NDArray[np.float32]:
    """The package's pictures (200, 3, 32, 32) for networks that take such, else random numbers."""
    pixels = sample_images()[0]
    shape = _shape(network)
    if shape == (3, *pixels.shape[1:3]):
        return PREPROCESS(pixels)
    return np.asarray(random_images(RANDOM_IMAGES, shape).numpy())


def _tensor(images: NDArray[np.float32]) -> torch.Tensor:
    import torch

    return torch.from_numpy(images)
