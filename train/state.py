"""The state of a run that is not finished: safetensors for tensors, JSON for the rest.

``state.json`` names the tensor file that belongs to it and its SHA-256, and is replaced last, so
that whenever the run is killed it belongs to a whole one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from headgate.device.files import atomic_write
from headgate.errors import DataError, RecipeError, StorageError, why
from headgate.train.data.fingerprint import Fingerprint, differences
from headgate.train.history import Row
from headgate.train.recipe import Recipe

JSON_NAME = "state.json"
SCHEMA = 1


@dataclass
class Position:
    """Where a run stands: the next batch of an epoch, and what the epoch has summed up so far."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    kept_sum: float = 0.0
    epoch_seconds: float = 0.0
    total_seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)  # of the gradients, in fp16


@dataclass
class Origin:
    """What a run was started with: recipe, data set, and the SHA-256 of the teacher's weights.

    The last two are None where there is none, and in states from before they were kept.
    """

    recipe: dict[str, Any]
    data: Fingerprint | None = None
    teacher: str | None = None

    def demand_same(self, before: Origin, folder: Path) -> None:
        """Refuses to go on with something else than what the run in ``folder`` began with."""
        # An option that is newer than the run had its default's effect.
        had = asdict(Recipe()) | before.recipe
        changed = [key for key, wanted in self.recipe.items() if had[key] != wanted]
        if before.teacher not in (None, self.teacher):
            changed.append("teacher (its weights)")
        if changed:
            raise RecipeError(
                f"the run in {folder} was started with another {', '.join(changed)}: "
                "resume it with the same recipe, or choose another folder"
            )
        if before.data and self.data and (altered := differences(before.data, self.data)):
            raise DataError(
                f"the data set has changed since the run in {folder} was started: "
                f"{'; '.join(altered)}. Put it back as it was, or choose another folder"
            )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's buffers under flat names ``index.name``."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def part(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part of a saved state."""
    start = f"{name}."
    return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def save_state(
    folder: Path, position: Position, parts: dict[str, dict[str, Tensor]], origin: Origin
) -> None:
    """Writes tensors, as ``part.name``, then the JSON that names them; removes older tensor files.

    If something cannot be written, the former state is still whole.
    """
    tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
    # Copies, as tensors of a state dict may share memory.
    tensors = {key: tensor.cpu().contiguous().clone() for key, tensor in tensors.items()}
    content = safetensors.torch.save(tensors)
    name = f"state-{position.epoch:04d}-{position.batch:06d}.safetensors"
    with atomic_write(folder / name) as file:
        file.write(content)
    described = {
        "schema": SCHEMA,
        "tensors": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "position": asdict(position),
        **asdict(origin),
    }
    with atomic_write(folder / JSON_NAME) as file:
        file.write(json.dumps(described, indent=1, sort_keys=True).encode())
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Removes the state of an earlier run, so that nobody resumes it by mistake."""
    for old in (folder / JSON_NAME, *folder.glob("state-*.safetensors")):
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[Position, dict[str, Tensor], Origin] | None:
    """Position, tensors and origin of the run in ``folder``; None if it has no state.

    Raises:
        StorageError: if the state is damaged, or cannot be read.
    """
    path = folder / JSON_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(path, error) from error
    try:
        described = json.loads(text)
        tensors = folder / Path(described["tensors"]).name
        content = tensors.read_bytes()
        if hashlib.sha256(content).hexdigest() != described["sha256"]:
            raise ValueError(f"{tensors.name} does not match its checksum")
        origin = Origin(described["recipe"], described.get("data"), described.get("teacher"))
        return Position(**described["position"]), safetensors.torch.load(content), origin
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, reason: Exception) -> StorageError:
    """The error for a state that nobody can go on from."""
    return StorageError(
        f"{path} cannot be used ({why(reason)}): start the run again without --resume, in "
        "another folder"
    )
