"""Images as networks take them; augmented, by tensor operations on whole batches on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from headgate.device.pictures.preprocess import Preprocess

# Rec. 601 luma and the two chroma axes: rotating in their plane turns the hue.
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def to_network_input(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W), as :class:`Preprocess` does it."""
    return _normalised(images.float() / 255.0, preprocess).permute(0, 3, 1, 2)


def _normalised(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    mean, std = (
        _constant(tuple(values), pixels.device) for values in (preprocess.mean, preprocess.std)
    )
    return (pixels - mean) / std


@cache
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Made once: on a GPU each making waits for a copy."""
    return torch.tensor(values, device=device)


@dataclass(frozen=True)
class Augmentation:
    """The distortions of a training batch, as a recipe's options of these names; 0 is none.

    ``cutout`` is DeVries and Taylor's (2017), a square of mean grey. Contrast and saturation are
    factors in 1 - c .. 1 + c; hue turns in the YIQ plane. FBS's own recipe has brightness 32/255,
    contrast and saturation 0.5 and hue 0.2 (in HSV).
    """

    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __call__(
        self, images: Tensor, preprocess: Preprocess, generator: torch.Generator
    ) -> Tensor:
        """uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W) in channels-last memory.

        Every random number comes from ``generator``, which lives on the device of ``images``.
        """
        pixels = self._crop_and_flip(images, generator).float().div_(255.0)
        pixels = self._distort_colour(pixels, generator)
        pixels = _normalised(pixels, preprocess)
        if self.cutout:
            pixels = self._cut_out(pixels, generator)
        return pixels.permute(0, 3, 1, 2)

    def _crop_and_flip(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, height, width = images.shape[:3]
        device, pad = images.device, self.crop_padding
        rows = torch.arange(height, device=device).expand(count, height)
        columns = torch.arange(width, device=device).expand(count, width)
        if self.flip:
            mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if pad:
            images = functional.pad(images, (0, 0, pad, pad, pad, pad))
            shifts = torch.randint(
                0, 2 * pad + 1, (2, count, 1), generator=generator, device=device
            )
            rows, columns = rows + shifts[0], columns + shifts[1]
        batch = torch.arange(count, device=device)[:, None, None]
        return images[batch, rows[:, :, None], columns[:, None, :]]

    def _distort_colour(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        def uniform(reach: float) -> Tensor:
            shape = (pixels.shape[0], 1, 1, 1)
            unit = torch.rand(shape, generator=generator, device=pixels.device)
            return (2.0 * unit - 1.0) * reach

        if self.brightness:
            pixels = pixels + uniform(self.brightness)
        if self.contrast:
            level = pixels.mean(dim=(1, 2), keepdim=True)
            pixels = level + (pixels - level) * (1.0 + uniform(self.contrast))
        if self.saturation or self.hue:
            pixels = _turn_colour(
                pixels, 1.0 + uniform(self.saturation), uniform(self.hue) * (2.0 * torch.pi)
            )
        if self.brightness or self.contrast or self.saturation or self.hue:
            pixels = pixels.clamp(0.0, 1.0)
        return pixels

    def _cut_out(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        count, height, width = pixels.shape[:3]
        device = pixels.device
        row = torch.randint(0, height, (count, 1), generator=generator, device=device)
        column = torch.randint(0, width, (count, 1), generator=generator, device=device)
        # A window of `cutout` pixels around the centre, cut by the border as in the paper.
        top, left = row - self.cutout // 2, column - self.cutout // 2
        rows = torch.arange(height, device=device)[None]
        columns = torch.arange(width, device=device)[None]
        in_rows = (rows >= top) & (rows < top + self.cutout)
        in_columns = (columns >= left) & (columns < left + self.cutout)
        hole = in_rows[:, :, None] & in_columns[:, None, :]
        return pixels.masked_fill(hole[..., None], 0.0)


def _turn_colour(pixels: Tensor, saturation: Tensor, angle: Tensor) -> Tensor:
    """Scales the chroma of (N, H, W, 3) by ``saturation`` and turns it by ``angle`` radians."""
    to_yiq = _constant(_RGB_TO_YIQ, pixels.device)
    luma, first, second = (pixels @ to_yiq.T).unbind(dim=-1)
    cosine = (torch.cos(angle) * saturation)[..., 0]
    sine = (torch.sin(angle) * saturation)[..., 0]
    turned = torch.stack(
        (luma, cosine * first - sine * second, sine * first + cosine * second), dim=-1
    )
    return turned @ torch.linalg.inv(to_yiq).T
