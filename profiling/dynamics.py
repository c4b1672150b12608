"""How much a network's gates depend on the image, as its checkpoint was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.schema import NOT_NEGATIVE, SHARE, Mismatch, at_least, decode
from headgate.errors import BundleError

Count = Annotated[int, at_least(0)]


@dataclass(frozen=True)
class LayerDynamics:
    """One gated layer's masks over the images."""

    channels: Annotated[int, at_least(1)]
    """Entries of a mask: channels, or channels times pixels."""
    dynamic: Count
    """How many of them are open for 2 to 98 % of the images."""
    masks: Count
    """Different masks that the images have."""
    information: Annotated[float, NOT_NEGATIVE]
    """Mutual information between an entry's state and the class, in bits, mean over the entries."""


@dataclass(frozen=True)
class MacPercentiles:
    """Executed MACs that 5, 50 and 95 % of the images stay below."""

    p5: Count
    p50: Count
    p95: Count


@dataclass(frozen=True)
class Dynamics:
    """The same of all layers; ``images`` are test images, the first of the set.

    ``frozen_test_accuracy`` is with every mask fixed to its most frequent channels; None of gates
    on pixels, whose masks cannot be.
    """

    images: Annotated[int, at_least(1)]
    channels: Annotated[int, at_least(1)]
    dynamic: Count
    information: Annotated[float, NOT_NEGATIVE]
    layers: dict[str, LayerDynamics]
    test_accuracy: Annotated[float, SHARE]
    executed_macs: MacPercentiles
    frozen_test_accuracy: Annotated[float, SHARE] | None = None


def dynamics_of(manifest: Mapping[str, Any]) -> Dynamics | NotMeasured:
    """What a bundle's manifest carries of its checkpoint; a BundleError if that is damaged."""
    carried = manifest.get("dynamics")
    if carried is None:
        return NotMeasured("the bundle was not compiled from a trained checkpoint that says")
    try:
        return decode(Dynamics, carried, "dynamics")
    except Mismatch as error:
        raise BundleError(f"manifest.json: {error}; recompile the bundle") from error
