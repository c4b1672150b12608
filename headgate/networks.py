"""Finds the network that a name on the command line means, ready to be compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.device import Bundle
from headgate.device.pictures import Preprocess, sample_images
from headgate.device.tflite_file import SCHEMA, Description
from headgate.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


VECTORS = 8
SAMPLE_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Network:
    """A module in eval mode with what its bundle should carry beside the code.

    Attributes:
        input_shape: (C, H, W) of one image.
        vectors: [N, C, H, W] inputs whose outputs the bundle records, to be checked on a device;
            None for random ones.
        test_accuracy: in 0..1, None where the weights are random.
        dynamics: how much the gates depend on the image, for the bundle's manifest; None where
            there are none, or where nobody has measured it.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, int, int]
    vectors: NDArray[np.float32] | None = None
    preprocess: Preprocess | None = None
    classes: list[str] | None = None
    test_accuracy: float | None = None
    dynamics: Mapping[str, Any] | None = None

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The keys on input and output for the manifest of a file made of this network."""
        preprocess = self.preprocess
        return {
            "name": self.name,
            "inputs": [{"name": "input", "shape": [1, *self.input_shape], "dtype": "float32"}],
            "preprocess": preprocess and {"mean": preprocess.mean, "std": preprocess.std},
            "classes": self.classes,
        }

    def example(self) -> Tensor:
        """One input [1, C, H, W], to trace the module with."""
        import torch

        return torch.zeros(1, *self.input_shape)


def find_network(
    model: str,
    *,
    random_weights: bool = False,
    method: str | None = None,
    density: float | None = None,
) -> Network:
    """The network called ``model``.

    Args:
        model: a shipped checkpoint, a ``.safetensors`` file or run's folder that ``headgate
            train`` wrote, or, with ``random_weights``, the name of an architecture.
        random_weights: from seed 0: good for timing, useless for predictions.
        method: gate the convolutions with this method; the gates are untrained.
        density: share of the channels that are active; 0.5, or what was trained, if None.

    Raises:
        UsageError: an unknown name, with a suggestion, or a density where there are no gates.
        MissingFile: a path that is not there.
    """
    network = _random(model) if random_weights else _trained(model)
    module = network.module
    if method is not None:
        from headgate.train.gates import gate

        module = gate(module, method=method, density=0.5 if density is None else density)
    elif density is not None:
        from headgate.train.gates import gates, set_density

        if not gates(module):
            raise UsageError(
                f"{model} has no gates whose density could be {density:g}; add --method fbs"
            )
        set_density(module, density)
    changed = method is not None or density is not None
    return replace(
        network,
        module=module.eval(),
        # These were measured before the gates changed.
        test_accuracy=None if changed else network.test_accuracy,
        dynamics=None if changed else network.dynamics,
    )


def compile_network(
    network: Network,
    target: str,
    *,
    check: bool = True,
    dtype: str | None = None,
    calibration: NDArray[np.float32] | None = None,
) -> Bundle:
    """The bundle of ``network`` for ``target``; ``check`` and ``dtype`` as for ``compile_module``.

    Without ``dtype`` it is of int8 where there is ``calibration``, [N, C, H, W], else of float32.

    Raises:
        CompileError: it cannot be traced, lowered or linked; WrongResult: it is not right.
    """
    from headgate.compile import compile_module

    bundle = compile_module(
        network.module,
        network.example(),
        target=target,
        name=network.name,
        vectors=network.vectors,
        preprocess=network.preprocess,
        classes=network.classes,
        check=check,
        dtype=dtype or ("float32" if calibration is None else "int8"),
        calibration=calibration,
    )
    if network.dynamics is None:
        return bundle
    return Bundle({**bundle.manifest, "dynamics": dict(network.dynamics)}, bundle.members)


def convert_to_tflite(
    network: Network, calibration: NDArray[np.float32] | None = None, calibrated_on: str = ""
) -> bytes:
    """The ``.tflite`` file of ``network``, with its description.

    Args:
        network: dense or statically pruned.
        calibration: [N, C, H, W], for int8; fp32 without them.
        calibrated_on: where they are from, recorded in the file.

    Raises:
        ToolMissing: TensorFlow is not installed.
        CompileError: it cannot be translated; UnsupportedOperator names what, gates for one.
    """
    from headgate.compile.export.tflite import convert, tool_versions
    from headgate.train.macs import count_macs

    model = convert(network.module, network.example(), calibration)
    quantized = calibration is not None and {"images": len(calibration), "from": calibrated_on}
    manifest = {
        "schema": SCHEMA,
        **network.manifest,
        "quantization": "int8" if quantized else None,
        "calibration": quantized or None,
        "dense_macs": count_macs(network.module, network.example()).dense,
        "tools": tool_versions(),
    }
    return Description(manifest).attach(model)


def test_vectors(network: Network) -> NDArray[np.float32]:
    """Inputs [N, C, H, W] to check a file with: the network's own, or a few random ones."""
    if network.vectors is not None:
        return network.vectors
    shape = (VECTORS, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def pytorch_outputs(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """PyTorch's outputs for ``images`` [N, C, H, W], one at a time as on a device."""
    import torch

    with torch.no_grad():
        # Copies: forward() may change its input.
        rows = [
            network.module(torch.from_numpy(images[i : i + 1].copy())) for i in range(len(images))
        ]
    outputs: NDArray[np.float32] = torch.cat(rows).numpy()
    return outputs


def _random(model: str) -> Network:
    import torch

    from headgate.train.models import create_model, input_shape

    shape = input_shape(model)
    torch.manual_seed(0)
    return Network(model, create_model(model), shape)


def _trained(model: str) -> Network:
    from headgate.train.checkpoints import describe, list_checkpoints, load_checkpoint
    from headgate.train.models import input_shape, list_models

    if model in list_models() and model not in list_checkpoints():
        raise UsageError(
            f"no trained {model} comes with the package: add --random-weights, or train one with "
            "`headgate train` and give its checkpoint"
        )
    module, accuracy, preprocess = load_checkpoint(model)
    about = describe(model)
    shape = input_shape(about["architecture"])
    pixels, _ = sample_images()
    return Network(
        about["name"],
        module,
        shape,
        vectors=preprocess(pixels[:VECTORS]) if shape == SAMPLE_SHAPE else None,
        preprocess=preprocess,
        classes=about["classes"],
        test_accuracy=accuracy,
        dynamics=_dynamics(about),
    )


def _dynamics(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint's description says of how much its gates depend on the image."""
    if not about.get("dynamics"):
        return None
    executed = {share: about["macs"][f"executed_{share}"] for share in ("p5", "p50", "p95")}
    measured = {"test_accuracy": about["test_accuracy"], "executed_macs": executed}
    return {**about["dynamics"], **measured}
