"""facenet_pytorch: finding faces and telling them apart."""

from __future__ import annotations

from facenet_pytorch import InceptionResnetV1
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

from bench.zoo.network import Network, image

NETWORKS = [
    Network("facenet:pnet", "face", lambda: PNet(pretrained=False), image(48)),
    Network("facenet:rnet", "face", lambda: RNet(pretrained=False), image(24)),
    Network("facenet:onet", "face", lambda: ONet(pretrained=False), image(48)),
    Network(
        "facenet:inception_resnet_v1",
        "face",
        lambda: InceptionResnetV1(pretrained=None, classify=False),
        image(96),
    ),
]
