"""PyTorch Image Models, timm."""

from __future__ import annotations

from functools import partial

import timm

from bench.zoo.network import Network, image

# family: networks, with the side of the image where it is not 64
_FAMILIES: dict[str, dict[str, int]] = {
    "ResNet": dict.fromkeys(("test_resnet", "resnet10t", "resnetblur18", "resnetv2_50"), 64),
    "attention on channels": dict.fromkeys(
        ("legacy_seresnet18", "ecaresnet26t", "gcresnext26ts", "seresnext26d_32x4d", "skresnet18"),
        64,
    ),
    "split convolutions": dict.fromkeys(("res2net50_14w_8s", "resnest14d", "resnext26ts"), 64),
    "MobileNet": {
        **dict.fromkeys(("mobilenetv1_100", "mobilenetv3_small_050", "mobilenetv4_conv_small"), 64),
        **dict.fromkeys(("mobilenet_edgetpu_v2_xs", "mobileone_s0", "lcnet_050"), 64),
    },
    "EfficientNet": dict.fromkeys(
        (
            *("test_efficientnet", "efficientnet_lite0", "efficientnet_b0", "tf_efficientnet_b0"),
            *("efficientnet_em", "tinynet_e"),
        ),
        64,
    ),
    "searched": dict.fromkeys(
        ("mixnet_s", "fbnetc_100", "hardcorenas_a", "semnasnet_075", "rexnet_100"), 64
    ),
    "GhostNet": dict.fromkeys(
        ("ghostnet_050", "ghostnetv2_100", "ghostnetv3_050", "repghostnet_050"), 64
    ),
    "RegNet": dict.fromkeys(("regnety_002", "nf_regnet_b0", "gernet_s"), 64),
    "RepVGG": dict.fromkeys(("test_byobnet", "repvgg_a0"), 64),
    "DenseNet": {"densenetblur121d": 64},
    "aggregation": dict.fromkeys(("dla34", "hrnet_w18_small", "dpn48b"), 64),
    "VoVNet": dict.fromkeys(
        ("ese_vovnet19b_slim_dw", "vovnet39a", "selecsls42b", "hgnetv2_b0"), 64
    ),
    "DarkNet": dict.fromkeys(("cspdarknet53", "cs3darknet_s"), 64),
    "Xception": {"xception41": 96},
    "without norms": {"nfnet_l0": 64},
    "ConvNeXt": dict.fromkeys(
        (
            *("convnext_atto", "convnextv2_atto", "inception_next_atto", "convmixer_768_32"),
            *("mambaout_femto", "poolformer_s12", "caformer_s18"),
        ),
        64,
    ),
    "mobile with attention": {
        **dict.fromkeys(("edgenext_xx_small", "efficientvit_b0", "repvit_m0_9", "starnet_s1"), 64),
        **dict.fromkeys(("shvit_s1", "mobilevitv2_050"), 64),
        **dict.fromkeys(("mobilevit_xxs", "fastvit_t8"), 128),
        **dict.fromkeys(("efficientformer_l1", "fasternet_t0", "swiftformer_xs"), 224),
        "mobilenetv4_hybrid_medium": 224,
    },
    "convolution and attention": {
        **dict.fromkeys(("lambda_resnet26t", "botnet26t_256"), 256),
        **dict.fromkeys(
            ("haloregnetz_b", "nextvit_small", "visformer_tiny", "tiny_vit_5m_224"), 224
        ),
        "focalnet_tiny_srf": 224,
    },
    "vision transformer": {
        **dict.fromkeys(("vit_tiny_patch16_224", "pit_ti_224", "xcit_nano_12_p16_224"), 224),
        "crossvit_9_240": 240,
        **dict.fromkeys(("pvt_v2_b0", "swin_tiny_patch4_window7_224"), 224),
    },
    "recurrent": {"sequencer2d_s": 64},
}

NETWORKS = [
    Network(f"timm:{name}", family, partial(timm.create_model, name, pretrained=False), image(side))
    for family, names in _FAMILIES.items()
    for name, side in names.items()
]
