"""Work by hardness: a layer opens more channels for images that are hard to classify.

Ours. An image's hardness is its loss in the teacher, or without one in the network itself. The
share of a layer's channels that an image opens is regressed on the rank of its hardness within the
batch: the easiest image is drawn to few channels, the hardest to many, so a gate comes to predict
from the channel means how hard the image will be. It cannot be sure, so it predicts something in
the middle, and shares spread less than ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headgate.errors import UsageError


def effort_distance(margins: Tensor, hardness: Tensor, density: float) -> Tensor:
    """How far the images' open shares are from what their hardness asks for, a scalar.

    The mean of squares of (share - wanted share). Wanted are shares spread evenly around
    ``density``, as wide as 0 and 1 allow. A share counts channels that are open; its gradient is
    that of the sigmoids of the margins (Bengio et al., 2013, arXiv 1308.3432).

    Args:
        margins: (N, C), above 0 where the image opens the channel.
        hardness: (N,), of which only the order matters; equals have the same rank.
        density: share of the channels that are open on average.

    Raises:
        UsageError: hardness of another number of images, or that is not finite.
    """
    if hardness.shape != margins.shape[:1] or not bool(hardness.isfinite().all()):
        raise UsageError(
            f"hardness is one finite number for each of {len(margins)} images, "
            f"but got {tuple(hardness.shape)} of {hardness.min():g} to {hardness.max():g}"
        )
    # How many images are easier, less how many are harder: -(N - 1) to N - 1.
    lead = torch.sign(hardness[:, None] - hardness).sum(1).to(margins)
    wanted = density + lead / max(len(hardness) - 1, 1) * min(density, 1 - density)
    soft = torch.sigmoid(margins)
    opened = (margins > 0).to(soft)
    share = (opened + soft - soft.detach()).mean(1)
    return (share - wanted).square().mean()
