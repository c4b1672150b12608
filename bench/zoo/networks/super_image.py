"""super_image: super-resolution, without batch norms for the most part."""

from __future__ import annotations

from functools import partial
from typing import Any

import super_image
from torch import nn

from bench.zoo.network import Network, image

# name: the class before Model and Config, and what its configuration is given beside the scale
_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "edsr": ("Edsr", {"n_resblocks": 4, "n_feats": 32}),
    "carn": ("Carn", {}),
    "msrn": ("Msrn", {}),
    "pan": ("Pan", {}),
    "awsrn": ("Awsrn", {}),
    "rcan": ("Rcan", {"n_resgroups": 2, "n_resblocks": 4}),
    "a2n": ("A2n", {}),
    "mdsr": ("Mdsr", {"n_resblocks": 4}),
    "ddbpn": ("Ddbpn", {}),
}


def _build(stem: str, options: dict[str, Any]) -> nn.Module:
    config = getattr(super_image, f"{stem}Config")(scale=2, **options)
    network: nn.Module = getattr(super_image, f"{stem}Model")(config)
    return network


NETWORKS = [
    Network(f"super_image:{name}", "super-resolution", partial(_build, stem, options), image(24))
    for name, (stem, options) in _ROWS.items()
]
