"""Windows of images, (left, top, right, bottom) in pixels.

Random ones are Szegedy et al.'s (2015, "Going deeper with convolutions", section 6), as everybody
trains on ImageNet: a share of the area, an aspect ratio, a place; what does not fit is drawn again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FloatArray = NDArray[np.float64]

TRIES = 10
RATIOS = (3 / 4, 4 / 3)  # width over height
CENTRE = 0.875  # share of the shorter side that testing looks at: 224 of 256 pixels


def draw(count: int, seed: list[int]) -> FloatArray:
    """Uniform numbers (count, tries, 4) that become windows once an image's size is known."""
    return np.random.default_rng(seed).random((count, TRIES, 4))


def random_windows(
    width: int, height: int, draws: FloatArray, smallest: float
) -> NDArray[np.int64]:
    """Windows (N, 4) in images of ``width`` x ``height``, from ``draws`` (N, tries, 4).

    Their share of the area lies in ``smallest`` .. 1.
    """
    area = (smallest + (1.0 - smallest) * draws[..., 0]) * width * height
    low, high = np.log(RATIOS)
    ratio = np.exp(low + (high - low) * draws[..., 1])
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    chosen = np.arange(len(draws)), fits.argmax(axis=1)
    # Where nothing fits: the largest window in the middle whose ratio is allowed.
    largest = min(width, round(height * RATIOS[1])), min(height, round(width / RATIOS[0]))
    found = fits.any(axis=1)
    columns = np.where(found, widths[chosen], largest[0])
    rows = np.where(found, heights[chosen], largest[1])
    place = np.where(found[:, None], draws[chosen][:, 2:], 0.5)
    left = np.floor(place[:, 0] * (width - columns + 1)).astype(np.int64)
    top = np.floor(place[:, 1] * (height - rows + 1)).astype(np.int64)
    return np.stack([left, top, left + columns, top + rows], axis=1)


def centre_window(width: int, height: int) -> tuple[float, float, float, float]:
    """The middle square that testing looks at."""
    side = CENTRE * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def crop_and_resize(images: Tensor, windows: NDArray[np.int64]) -> Tensor:
    """The windows (N, 4) of uint8 images (N, H, W, 3), each scaled bilinearly to H x W again."""
    _, height, width, _ = images.shape
    edges = torch.from_numpy(windows).to(images.device, torch.float32)
    scale = torch.tensor([width, height, width, height], device=images.device)
    left, top, right, bottom = (edges / scale).unbind(dim=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = right - left, left + right - 1.0
    theta[:, 1, 1], theta[:, 1, 2] = bottom - top, top + bottom - 1.0
    planes = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    cut = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return cut.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
