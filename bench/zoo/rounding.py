"""Tells gates that flip by rounding from errors.

A gate keeps the channels of highest score. Two scores that differ by less than float32 resolves
are exchanged by any other order of summation, and then the output moves by far more than
rounding. PyTorch does the same to itself: in float64, or for inputs moved by a millionth. Gates
that are constant cannot flip, so a network that is right must be right with those.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from bench.zoo.agreement import Arrays, errors, run_torch, worst
from headgate.train.gates.layer import gates

_NUDGES = (1 + 1e-6, 1 - 1e-6)


def self_agreement(network: nn.Module, inputs: Arrays) -> dict[str, float | None]:
    """How far PyTorch moves from itself: ``double`` in float64, ``nudged`` for inputs moved."""
    base = run_torch(network, inputs)
    nudged = [
        errors(run_torch(network, [one * np.float32(nudge) for one in inputs]), base)
        for nudge in _NUDGES
    ]
    double = copy.deepcopy(network).double()
    exact = run_torch(double, [one.astype(np.float64) for one in inputs])
    return {"nudged": worst(np.array(nudged)), "double": worst(errors(exact, base))}


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
