"""efficientnet_pytorch: padding as in TensorFlow, computed from the image's size."""

from __future__ import annotations

from efficientnet_pytorch import EfficientNet

from bench.zoo.network import Network, image

NETWORKS = [
    Network(
        "efficientnet_pytorch:efficientnet-b0",
        "EfficientNet",
        lambda: EfficientNet.from_name("efficientnet-b0", image_size=64),
        image(64),
    )
]
