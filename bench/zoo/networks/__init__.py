"""The networks of the sweep: one file for each zoo, each with its ``NETWORKS``.

A file imports the package it is named for; it is imported only when a network of it is wanted.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from bench.zoo.network import Network
from headgate.errors import UsageError, suggest

ZOOS = (
    *("torchvision", "timm", "pytorchcv", "smp", "ultralytics", "geffnet", "efficientnet_pytorch"),
    *("facenet", "super_image", "torchaudio", "monai", "vit_pytorch"),
)


def networks(only: Sequence[str] = ()) -> list[Network]:
    """The networks whose names begin with one of ``only`` (``timm:resnet``); all without any.

    Raises:
        UsageError: a beginning that no network has.
    """
    wanted = only or [f"{zoo}:" for zoo in ZOOS]
    found: dict[str, Network] = {}
    for beginning in wanted:
        zoo, _, _ = beginning.partition(":")
        if zoo not in ZOOS:
            raise UsageError(f"no zoo {zoo!r} in {beginning!r}.{suggest(zoo, ZOOS)}")
        listed = importlib.import_module(f"{__name__}.{zoo}").NETWORKS
        chosen = {one.name: one for one in listed if one.name.startswith(beginning)}
        if not chosen:
            names = [one.name for one in listed]
            raise UsageError(f"no network begins with {beginning!r}.{suggest(beginning, names)}")
        found |= chosen
    return list(found.values())
