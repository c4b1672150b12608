"""segmentation_models_pytorch: decoders on encoders that have modules under two names."""

from __future__ import annotations

from functools import partial

import segmentation_models_pytorch as smp

from bench.zoo.network import Network, image

# decoder, encoder, family, side of the image
_ROWS = (
    ("Unet", "resnet18", "U-Net", 64),
    ("Unet", "tu-mobilenetv3_small_050", "U-Net", 64),
    ("UnetPlusPlus", "mobilenet_v2", "U-Net", 64),
    ("MAnet", "mobilenet_v2", "U-Net", 64),
    ("Linknet", "mobilenet_v2", "U-Net", 64),
    ("FPN", "resnet18", "feature pyramid", 64),
    ("PAN", "resnet18", "feature pyramid", 128),
    ("UPerNet", "mobilenet_v2", "feature pyramid", 128),
    ("PSPNet", "mobilenet_v2", "feature pyramid", 128),
    ("DeepLabV3", "mobilenet_v2", "DeepLab", 128),
    ("DeepLabV3Plus", "mobilenet_v2", "DeepLab", 96),
    ("Segformer", "resnet18", "feature pyramid", 64),
)

NETWORKS = [
    Network(
        f"smp:{decoder.lower()}-{encoder}",
        family,
        partial(getattr(smp, decoder), encoder, encoder_weights=None),
        image(side),
    )
    for decoder, encoder, family, side in _ROWS
]
