"""Tells gates that flip by rounding from errors.

A gate keeps the channels of highest score. Two scores that differ by less than float32 resolves
are exchanged by any other order of summation, and then the output moves by far more than
rounding. PyTorch does the same to itself: in float64, or for inputs moved by a millionth. Gates
that are constant cannot flip, so a network that is right must be right with those.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.zoo.agreement import Arrays, errors, run_torch, worst
from headgate.train.gates.layer import gates

_CALM = 1e-5
"""How far outputs may move for inputs moved by a millionth: a tenth of the error that is right."""
_MOST_HALVINGS = 4
_BY_A_MILLIONTH = (1 + 1e-6, 1 - 1e-6)
# A near tie falls otherwise for about every other of them.
_NUDGES = (*_BY_A_MILLIONTH, 1 + 3e-7, 1 - 3e-7, 1 + 3e-6, 1 - 3e-6)


def calm(network: nn.Module, inputs: Arrays) -> int:
    """Halves the factors of all batch norms until a network no longer amplifies rounding.

    Random weights can make each layer amplify what the one before it rounded, until nothing of
    the result is certain. Trained ones do not.

    Returns:
        How often they were halved; 0, and the factors as they were, where that does not help.
    """
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.affine]
    for halved in range(_MOST_HALVINGS + 1):
        if _moved(network, inputs) <= _CALM:
            return halved
        _scale(norms, 0.5)
    _scale(norms, 2.0 ** (_MOST_HALVINGS + 1))
    return 0


def _moved(network: nn.Module, inputs: Arrays) -> float:
    found = _nudged(network, inputs, run_torch(network, inputs), _BY_A_MILLIONTH)
    return float("inf") if found is None else found


def _scale(norms: Sequence[_BatchNorm], factor: float) -> None:
    for norm in norms:
        norm.weight.mul_(factor)


def self_agreement(network: nn.Module, inputs: Arrays) -> dict[str, float | None]:
    """How far PyTorch moves from itself: ``double`` in float64, ``nudged`` for inputs moved."""
    base = run_torch(network, inputs)
    double = copy.deepcopy(network).double()
    exact = run_torch(double, [one.astype(np.float64) for one in inputs])
    return {"nudged": _nudged(network, inputs, base, _NUDGES), "double": worst(errors(exact, base))}


def _nudged(
    network: nn.Module, inputs: Arrays, base: Arrays, nudges: Sequence[float]
) -> float | None:
    moved = [
        errors(run_torch(network, [one * np.float32(nudge) for one in inputs]), base)
        for nudge in nudges
    ]
    return worst(np.array(moved))


def steady(network: nn.Module) -> nn.Module:
    """A copy of a network with FBS gates whose scores are constant and far apart."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    for layer in gates(network).values():
        predictor = layer.predictor
        assert isinstance(predictor, nn.Linear)
        count = predictor.bias.numel()
        predictor.weight.zero_()
        predictor.bias.copy_(0.5 + torch.randperm(count, generator=generator) / count)
    return network
