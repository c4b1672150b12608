"""torchvision's definitions: classification, segmentation, detection, video, optical flow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import detection, optical_flow, segmentation, video

from bench.zoo.adapters import BackboneAndHead, Flat
from bench.zoo.network import Network, image

_CLASSIFIERS = {
    "ResNet": ("resnet18", "resnext50_32x4d"),
    "MobileNet": ("mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"),
    "ShuffleNet": ("shufflenet_v2_x0_5",),
    "SqueezeNet": ("squeezenet1_1",),
    "DenseNet": ("densenet121",),
    "VGG": ("vgg11_bn", "vgg11"),
    "RegNet": ("regnet_x_400mf",),
    "EfficientNet": ("efficientnet_v2_s",),
    "ConvNeXt": ("convnext_tiny",),
    "vision transformer": ("swin_t",),
}
_INCEPTION = {"googlenet": 64, "inception_v3": 128}
_NO_WEIGHTS = {"weights": None, "weights_backbone": None}


def _network(
    name: str, family: str, build: Callable[[], nn.Module], *shapes: tuple[int, ...]
) -> Network:
    return Network(f"torchvision:{name}", family, build, shapes)


def _heads(build: Callable[..., Any]) -> Callable[[], nn.Module]:
    return lambda: BackboneAndHead(build(**_NO_WEIGHTS))


NETWORKS = [
    *(
        _network(name, family, partial(getattr(models, name), weights=None), *image(64))
        for family, names in _CLASSIFIERS.items()
        for name in names
    ),
    *(
        _network(
            name,
            "Inception",
            partial(getattr(models, name), weights=None, aux_logits=False, init_weights=False),
            *image(side),
        )
        for name, side in _INCEPTION.items()
    ),
    _network("alexnet", "AlexNet", partial(models.alexnet, weights=None), *image(128)),
    _network(
        "maxvit_t", "convolution and attention", partial(models.maxvit_t, weights=None), *image(224)
    ),
    *(
        _network(name, "DeepLab", partial(getattr(segmentation, name), **_NO_WEIGHTS), *image(64))
        for name in ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "fcn_resnet50")
    ),
    _network(
        "ssdlite320", "detection", _heads(detection.ssdlite320_mobilenet_v3_large), *image(160)
    ),
    _network("ssd300", "detection", _heads(detection.ssd300_vgg16), *image(300)),
    _network("retinanet", "detection", _heads(detection.retinanet_resnet50_fpn), *image(64)),
    _network("fcos", "detection", _heads(detection.fcos_resnet50_fpn), *image(64)),
    _network("r3d_18", "video", partial(video.r3d_18, weights=None), (3, 4, 32, 32)),
    _network("mc3_18", "video", partial(video.mc3_18, weights=None), (3, 4, 32, 32)),
    _network(
        "raft_small",
        "optical flow",
        lambda: Flat(optical_flow.raft_small(weights=None)),
        *image(128),
        *image(128),
    ),
]
