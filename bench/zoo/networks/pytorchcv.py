"""pytorchcv: more than sixty architectures of classifiers, by one author."""

from __future__ import annotations

from functools import partial

from pytorchcv.model_provider import get_model

from bench.zoo.network import Network, image

_FAMILIES = {
    "ResNet": ("sepreresnet10", "ibnb_resnet50", "scnet50", "resattnet56", "diracnet18v2"),
    "AlexNet": ("alexnet", "zfnet"),
    "MobileNet": ("mobilenet_wd4", "fdmobilenet_wd4", "mobilenetb_wd4", "igcv3_wd4"),
    "SqueezeNet": ("squeezenet_v1_1", "sqnxt23_w1"),
    "ShuffleNet": ("shufflenet_g1_wd4", "menet108_8x1_g3"),
    "DenseNet": ("peleenet", "condensenet74_c4_g4", "xdensenet121_2", "hardnet39ds"),
    "Inception": ("bninception",),
    "searched": ("darts", "nasnet_4a1056", "spnasnet"),
    "several resolutions": ("octresnet10_ad2", "fishnet99", "msdnet22"),
    "efficient segmentation backbones": ("espnetv2_wd2", "dicenet_wd5"),
    "other blocks": (
        *("channelnet", "airnet50_1x64d_r2", "bagnet9", "isqrtcovresnet50"),
        *("irevnet301", "resdropresnet20_cifar10"),
    ),
}

NETWORKS = [
    Network(
        f"pytorchcv:{name}",
        family,
        partial(get_model, name, pretrained=False),
        image(32 if name.endswith("cifar10") else 224),
    )
    for family, names in _FAMILIES.items()
    for name in names
]
