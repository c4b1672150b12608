"""Initial weights, one rule for every network of ours."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module) -> None:
    """He-initialise the convolutions of ``module`` in place; batch norms start as the identity.

    As He et al., "Delving Deep into Rectifiers", ICCV 2015, Eq. 14: the backward case. Linear
    layers keep torch's own uniform initialisation, with a zero bias.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
