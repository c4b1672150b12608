"""geffnet: EfficientNets and their relatives, the older code that many projects carry."""

from __future__ import annotations

from functools import partial

import geffnet

from bench.zoo.network import Network, image

NETWORKS = [
    Network(
        f"geffnet:{name}", family, partial(geffnet.create_model, name, pretrained=False), image(64)
    )
    for name, family in (
        ("tf_efficientnet_lite0", "EfficientNet"),
        ("mobilenetv3_small_075", "MobileNet"),
        ("mixnet_s", "searched"),
    )
]
