"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from torch import nn

from headgate.errors import UsageError, suggest, why
from headgate.train.models import cifar_resnet, ds_cnn, mcifarnet, mobilenetv1, resnet, vgg


@dataclass(frozen=True)
class Architecture:
    """How to build a network, and the (C, H, W) of the images it takes."""

    build: Callable[..., nn.Module]
    input_shape: tuple[int, int, int]


CIFAR = (3, 32, 32)
IMAGENET = (3, 224, 224)
KEYWORDS = (1, 49, 10)
WAKE_WORDS = (3, 96, 96)

ARCHITECTURES: dict[str, Architecture] = {
    "ds-cnn": Architecture(ds_cnn.ds_cnn, KEYWORDS),
    "mcifarnet": Architecture(mcifarnet.mcifarnet, CIFAR),
    "mobilenetv1-0.25": Architecture(mobilenetv1.mobilenetv1_quarter, WAKE_WORDS),
    "resnet8": Architecture(cifar_resnet.resnet8, CIFAR),
    "resnet20": Architecture(cifar_resnet.resnet20, CIFAR),
    "resnet32": Architecture(cifar_resnet.resnet32, CIFAR),
    "resnet56": Architecture(cifar_resnet.resnet56, CIFAR),
    "resnet110": Architecture(cifar_resnet.resnet110, CIFAR),
    "resnet18": Architecture(resnet.resnet18, IMAGENET),
    "resnet18_cifar": Architecture(resnet.resnet18_cifar, CIFAR),
    "resnet34": Architecture(resnet.resnet34, IMAGENET),
    "resnet50": Architecture(resnet.resnet50, IMAGENET),
    "vgg16": Architecture(vgg.vgg16, CIFAR),
    "vgg16_imagenet": Architecture(vgg.vgg16_imagenet, IMAGENET),
}


def _find(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise UsageError(f"unknown model {name!r}.{suggest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def create_model(name: str, num_classes: int | None = None, **options: Any) -> nn.Module:
    """A freshly initialised network in training mode.

    Args:
        name: one of :func:`list_models`.
        num_classes: number of logits; by default 10 for CIFAR networks, 1000 for ImageNet's, and
            as many as the task of MLPerf Tiny's others has.
        **options: the network's own, for example ``shortcut="A"`` or ``dropout=0.2``.

    Raises:
        UsageError: an unknown name or option, with a suggestion; a value that cannot be used.

    Example:
        >>> create_model("resnet20", num_classes=100, shortcut="A")
    """
    build = _find(name).build
    known = set(inspect.signature(build).parameters) - {"num_classes"}
    for option in options:
        if option not in known:
            hint = suggest(option, known) if known else " It has none."
            raise UsageError(f"model {name!r} has no option {option!r}.{hint}")
    if num_classes is not None:
        options["num_classes"] = num_classes
    try:
        return build(**options)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's own, of a value it cannot use
        written = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise UsageError(f"model {name!r} cannot be made with {written}: {why(error)}") from error


def option_types(name: str) -> dict[str, Any]:
    """The type of each option of network ``name``."""
    return get_type_hints(_find(name).build)


def list_models() -> list[str]:
    """The names :func:`create_model` knows, sorted."""
    return sorted(ARCHITECTURES)


def input_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that network ``name`` takes.

    Raises:
        UsageError: an unknown name, with a suggestion.
    """
    return _find(name).input_shape
