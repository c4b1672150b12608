"""vit_pytorch: transformers written with einops."""

from __future__ import annotations

from vit_pytorch import SimpleViT, ViT
from vit_pytorch.cct import CCT

from bench.zoo.network import Network, image

NETWORKS = [
    Network(
        "vit_pytorch:vit",
        "vision transformer",
        lambda: ViT(
            image_size=32, patch_size=8, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128
        ),
        image(32),
    ),
    Network(
        "vit_pytorch:simple_vit",
        "vision transformer",
        lambda: SimpleViT(
            image_size=32, patch_size=8, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128
        ),
        image(32),
    ),
    Network(
        "vit_pytorch:cct",
        "convolution and attention",
        lambda: CCT(
            img_size=32,
            embedding_dim=64,
            n_conv_layers=2,
            num_layers=2,
            num_heads=4,
            mlp_ratio=2,
            num_classes=10,
        ),
        image(32),
    ),
]
