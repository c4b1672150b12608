"""Trained networks: weights as safetensors, everything else as JSON beside them; no pickle."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from headgate.device.files import atomic_write
from headgate.device.pictures.preprocess import Preprocess
from headgate.errors import MissingFile, ModelError, suggest, why
from headgate.train.gates import gate
from headgate.train.gates.attach import BLOCK_INNER
from headgate.train.models import create_model
from headgate.train.pruning import remove_channels

SCHEMA = 1


class Loaded(NamedTuple):
    """A network ready for inference, its accuracy on the whole test set in 0..1, its input."""

    module: nn.Module
    test_accuracy: float
    preprocess: Preprocess


def _shipped() -> Path:
    return Path(str(resources.files(__package__)))


def list_checkpoints() -> list[str]:
    """Names of the trained networks that come with the package, sorted."""
    return sorted(path.stem for path in _shipped().glob("*.json"))


def _find(name: str | Path) -> Path:
    """Path of a checkpoint's JSON, from a shipped name, a file or the folder of a run."""
    path = Path(name)
    if path.is_dir():
        path = path / "model.json"
    if path.suffix in (".json", ".safetensors"):
        path = path.with_suffix(".json")
        if path.exists():
            return path
        raise MissingFile(f"checkpoint {path} does not exist")
    shipped = _shipped() / f"{name}.json"
    if str(name) in list_checkpoints():
        return shipped
    raise MissingFile(
        f"there is no checkpoint {str(name)!r}.{suggest(str(name), list_checkpoints())} "
        "A path to a .safetensors file or to a run's folder works too."
    )


def describe(name: str | Path) -> dict[str, Any]:
    """The JSON of a checkpoint: architecture, gates, pruning, accuracy, MACs, recipe, hours, ...

    Raises:
        MissingFile: no such checkpoint, with a suggestion.
        ModelError: the JSON is damaged or of another schema.
    """
    path = _find(name)
    try:
        described = json.loads(path.read_bytes())
        schema = described["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a checkpoint's description: {why(error)}") from error
    if schema != SCHEMA:
        raise ModelError(f"{path} has schema {schema!r}, this version reads {SCHEMA}")
    return described


def build(described: dict[str, Any]) -> nn.Module:
    """The network of a description, with fresh weights: shrunk first, then gated."""
    module = create_model(
        described["architecture"], described["num_classes"], **described["model_options"]
    )
    if pruning := described.get("pruning"):
        module = remove_channels(module, pruning["channels"])
    return add_gates(module, described["gate"]) if described["gate"] else module


def add_gates(module: nn.Module, gating: dict[str, Any]) -> nn.Module:
    """Gates ``module`` as a description's "gate" says: method, density, layers, options."""
    layers = gating["layers"]
    return gate(
        module,
        method=gating["method"],
        density=gating["density"],
        layers=BLOCK_INNER if layers == [BLOCK_INNER] else layers or None,
        **gating["options"],
    )


def load_checkpoint(name: str | Path) -> Loaded:
    """A trained network in evaluation mode, its test accuracy and its preprocessing.

    Args:
        name: one of :func:`list_checkpoints`, or the path of a checkpoint or of a run's folder.

    Raises:
        MissingFile: no such checkpoint, with a suggestion.
        ModelError: weights that are damaged, altered or do not fit the network.

    Example:
        >>> module, test_accuracy, preprocess = load_checkpoint("resnet8")
        >>> logits = module(torch.from_numpy(preprocess(images)))
    """
    path = _find(name)
    described = describe(path)
    weights = path.with_suffix(".safetensors")
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise MissingFile(f"{weights} cannot be read: {why(error)}") from error
    try:
        if hashlib.sha256(content).hexdigest() != described["sha256"]:
            raise ModelError(f"{weights} does not match the SHA-256 in {path.name}: copy it again")
        module = build(described)
        module.load_state_dict(safetensors.torch.load(content))
        preprocess = Preprocess(**described["preprocess"])
        test_accuracy = float(described["test_accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{weights} does not fit {path.name}: {why(error)}") from error
    return Loaded(module.eval(), test_accuracy, preprocess)


def save_checkpoint(
    path: Path, module: nn.Module, described: dict[str, Any], half: bool = False
) -> None:
    """Writes ``path`` (.safetensors) and the JSON beside it, each whole or not at all.

    Args:
        described: what :func:`describe` returns, but for schema and checksum.
        half: :func:`rounded` weights take half of the space; loaded, they are float32.

    Raises:
        StorageError: if a file cannot be written.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    if half:
        tensors = {name: rounded(tensor) for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors)
    full = described | {"schema": SCHEMA, "sha256": hashlib.sha256(content).hexdigest()}
    with atomic_write(path) as file:
        file.write(content)
    with atomic_write(path.with_suffix(".json")) as file:
        file.write((json.dumps(full, indent=1, sort_keys=True) + "\n").encode())


def rounded(tensor: Tensor) -> Tensor:
    """Kernels and matrices in half precision; what is per channel, and no float, as it is."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
