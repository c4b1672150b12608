"""ultralytics: YOLO for detection, segmentation, poses and classification."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, PoseModel, SegmentationModel

from bench.zoo.adapters import First
from bench.zoo.network import Network, image

_ROWS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("yolov3-tiny", DetectionModel),
    ("yolov8n", DetectionModel),
    ("yolo11n", DetectionModel),
    ("yolov8n-seg", SegmentationModel),
    ("yolov8n-pose", PoseModel),
    ("yolov8n-cls", ClassificationModel),
)


def _build(name: str, kind: Callable[..., Any]) -> nn.Module:
    return First(kind(f"{name}.yaml", verbose=False))


NETWORKS = [
    Network(f"ultralytics:{name}", "YOLO", partial(_build, name, kind), image(64))
    for name, kind in _ROWS
]
