"""MONAI: U-Nets and their relatives for medical images, of two and three dimensions."""

from __future__ import annotations

from monai.networks import nets

from bench.zoo.network import Network, image

_CHANNELS = (8, 16, 32, 64)

NETWORKS = [
    Network(
        "monai:unet",
        "medical U-Net",
        lambda: nets.UNet(2, 1, 2, channels=_CHANNELS, strides=(2, 2, 2), num_res_units=2),
        image(64, 1),
    ),
    Network(
        "monai:unet-batchnorm",
        "medical U-Net",
        lambda: nets.UNet(2, 1, 2, channels=_CHANNELS, strides=(2, 2, 2), norm="batch"),
        image(64, 1),
    ),
    Network(
        "monai:unet-3d",
        "medical U-Net",
        lambda: nets.UNet(3, 1, 2, channels=_CHANNELS[:3], strides=(2, 2), num_res_units=1),
        ((1, 16, 16, 16),),
    ),
    Network(
        "monai:basicunet",
        "medical U-Net",
        lambda: nets.BasicUNet(2, 1, 2, features=(8, 8, 16, 32, 64, 8)),
        image(64, 1),
    ),
    Network(
        "monai:attentionunet",
        "medical U-Net",
        lambda: nets.AttentionUnet(2, 1, 2, channels=_CHANNELS, strides=(2, 2, 2)),
        image(64, 1),
    ),
    Network(
        "monai:segresnet",
        "medical U-Net",
        lambda: nets.SegResNet(2, init_filters=8, in_channels=1, out_channels=2),
        image(64, 1),
    ),
    Network(
        "monai:dynunet",
        "medical U-Net",
        lambda: nets.DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32]),
        image(64, 1),
    ),
    Network("monai:vnet", "medical U-Net", lambda: nets.VNet(2, 1, 2), image(64, 1)),
]
