"""The networks that are timed, one row each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.methods.networks import HEADGATE, PLAN, TFLITE_FP32, Entry
from bench.publish import write_text
from bench.realised import networks
from headgate.device.files import atomic_write, storage_error
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Variant:
    """One way to make a network cheaper."""

    title: str
    method: str
    make: Callable[[nn.Module], nn.Module]
    tflite: bool = False
    """Whether TFLite can run it, too."""


@dataclass(frozen=True)
class Case:
    """One network in several variants."""

    network: str
    variants: tuple[Variant, ...]
    rounds: int


def _dcp(density: float) -> Variant:
    return Variant(f"DCP {density:g}", "dcp", partial(networks.dcp, density=density))


def _cgnet(fewer: float, partitions: int, block: tuple[int, int]) -> Variant:
    make = partial(networks.cgnet, fewer=fewer, partitions=partitions, block=block)
    title = f"CGNet {fewer:g}x, 1/{partitions} base, blocks of {block[0]}x{block[1]}"
    return Variant(title, "cgnet", make)


PRUNED = Variant("pruned to half", "frs", partial(networks.pruned, fewer=2.0), tflite=True)

CASES = (
    Case("mcifarnet", (PRUNED, _dcp(0.7), _dcp(0.5)), rounds=40),
    Case("vgg16", (PRUNED, _dcp(0.7), _dcp(0.5)), rounds=30),
    Case("resnet18_cifar", (PRUNED, _cgnet(3.0, 4, (16, 64)), _cgnet(3.0, 8, (8, 64))), rounds=25),
)


def prepare(case: Case, folder: Path, say: Callable[[str], None]) -> None:
    """Make, compile and convert every variant into ``folder``, and ``plan.json`` to name them.

    A variant that fails is named in the plan with the reason.

    Raises:
        HeadgateError: The dense network cannot be made or compiled.
        StorageError: A file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", folder, error) from error
    with atomic_write(folder / "images.npy") as file:
        np.save(file, networks.images())
    module = networks.dense(case.network)
    whole = Variant("dense", "dense", lambda one: one, tflite=True)
    entries: list[Entry] = []
    missing: dict[str, str] = {}
    for index, variant in enumerate((whole, *case.variants)):
        programs = [HEADGATE, *([TFLITE_FP32] if variant.tflite else [])]
        made: nn.Module | None = None
        for program in programs:
            title = f"{variant.title} ({program})"
            say(f"{case.network}: {title}")
            try:
                made = made if made is not None else variant.make(module)
                file_name = _write(made, folder / f"{index}-{variant.method}", program)
            except HeadgateError as error:
                if not entries:
                    raise  # the dense network, which everything is held against
                say(f"without {title}: {error}")
                missing[f"{case.network}, {title}"] = str(error)
                break
            name = variant.title if program == HEADGATE else title
            entry = Entry(name, variant.title, variant.method, program, file_name, None, 0, None)
            entries.append(entry)
    plan = {"network": case.network, "entries": [asdict(one) for one in entries]}
    write_text(folder / PLAN, json.dumps({**plan, "missing": missing}, indent=1) + "\n")


def _write(module: nn.Module, path: Path, program: str) -> str:
    import torch

    from headgate.compile import compile_module
    from headgate.compile.export import get_exporter

    example = torch.from_numpy(networks.images()[:1])
    if program == TFLITE_FP32:
        return get_exporter("tflite").write(module, example, path).name
    target = path.with_suffix(".hgb")
    compile_module(
        module, (example,), target="host", name=path.name, vectors=networks.images()
    ).save(target)
    return target.name
