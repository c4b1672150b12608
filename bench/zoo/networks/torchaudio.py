"""torchaudio: speech recognition, separation and vocoders, with one-dimensional convolutions."""

from __future__ import annotations

from torchaudio import models

from bench.zoo.adapters import Flat, WholeLength
from bench.zoo.network import Network


def _conv_tasnet() -> models.ConvTasNet:
    return models.ConvTasNet(
        num_sources=2,
        enc_kernel_size=16,
        enc_num_feats=32,
        msk_num_feats=16,
        msk_num_hidden_feats=32,
        msk_num_layers=2,
        msk_num_stacks=1,
    )


def _conformer() -> models.Conformer:
    return models.Conformer(16, 2, 32, 1, 7)


NETWORKS = [
    Network(
        "torchaudio:wav2letter",
        "audio",
        lambda: models.Wav2Letter(num_classes=10, input_type="mfcc", num_features=13),
        ((13, 200),),
    ),
    Network(
        "torchaudio:upsample",
        "audio",
        lambda: Flat(models.wavernn.UpsampleNetwork([2, 2], 8, 4, 16, 5)),
        ((4, 30),),
    ),
    Network("torchaudio:melresnet", "audio", lambda: models.wavernn.MelResNet(), ((128, 24),)),
    Network("torchaudio:conv_tasnet", "audio", _conv_tasnet, ((1, 256),)),
    Network(
        "torchaudio:deepspeech", "audio", lambda: models.DeepSpeech(32, 64, 10), ((1, 20, 32),)
    ),
    Network("torchaudio:conformer", "audio", lambda: WholeLength(_conformer()), ((16, 16),)),
]
