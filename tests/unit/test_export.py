"""What exporters refuse before they convert, and what they do to pruned networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headgate.compile.export import EXPORTERS, Exporter
from headgate.compile.export.placed import without_placing
from headgate.errors import InputError, UsageError
from headgate.train.pruning import PlaceChannels, remove_channels
from tests.networks import randomise

EXAMPLE = torch.zeros(1, 3, 8, 8)
IMAGES = np.zeros((2, 3, 8, 8), np.float32)


@pytest.fixture
def given() -> list[Any]:
    return []


@pytest.fixture
def exporter(given: list[Any]) -> Exporter:
    return Exporter("any", "Any", ".any", (), lambda *arguments: given.append(arguments))


def test_calibration_images_reach_the_converter(
    exporter: Exporter, given: list[Any], tmp_path: Path
) -> None:
    network = nn.Conv2d(3, 4, 1).train()
    assert exporter.write(network, EXAMPLE, tmp_path / "a") == tmp_path / "a.any"
    exporter.write(network, EXAMPLE, tmp_path / "a", IMAGES)
    assert [arguments[3] for arguments in given] == [None, IMAGES]
    assert network.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], "N of 1 or more"),
        (IMAGES[:, :, :4], r"float32 \(2, 3, 4, 8\), the network takes float32 \(N, 3, 8, 8\)"),
        (IMAGES.astype(np.float64), "calibration images are float64"),
        (np.full_like(IMAGES, np.nan), "not finite"),
    ],
)
def test_calibration_images_that_do_not_fit(
    exporter: Exporter, given: list[Any], images: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        exporter.write(nn.Conv2d(3, 4, 1), EXAMPLE, tmp_path / "a", images)
    assert given == []


def test_ncnn_is_float32_only() -> None:
    assert [name for name, one in EXPORTERS.items() if not one.quantizes] == ["ncnn"]
    with pytest.raises(UsageError, match="files are float32 here"):
        EXPORTERS["ncnn"].check_quantizes()


class Residual(nn.Module):
    """A sum that a pruned convolution feeds."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=bias), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + self.norm(self.conv(x))


@pytest.mark.parametrize("bias", [True, False])
def test_placed_channels_become_filters_of_zeros(bias: bool) -> None:
    torch.manual_seed(0)
    pruned = remove_channels(randomise(Residual(bias)), {"conv": [1, 4, 5]})
    assert any(isinstance(part, PlaceChannels) for part in pruned.modules())
    plain = without_placing(pruned)
    assert not any(isinstance(part, PlaceChannels) for part in plain.modules())
    images = torch.randn(2, 3, 8, 8)
    assert torch.allclose(plain(images), pruned.eval()(images), atol=1e-6)
    assert pruned.conv.out_channels == 3 and plain.conv.out_channels == 8
    assert without_placing(plain) is plain
