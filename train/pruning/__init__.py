"""Removing channels for good while a network trains.

A new method is a :class:`~headgate.train.procedure.Procedure` that sets the masks of
:mod:`headgate.train.pruning.masks`, and a row in ``METHODS``.
"""

from headgate.train.procedure import Procedure
from headgate.train.pruning.frs import FeatureRelevancePruning
from headgate.train.pruning.layers import PrunableLayer, choose_layers, find_prunable
from headgate.train.pruning.masks import add_masks
from headgate.train.pruning.operators import PlaceChannels, place_channels
from headgate.train.pruning.relevance import Relevance
from headgate.train.pruning.remove import kept_channels, remove_channels
from headgate.train.pruning.scores import feature_relevance_scores

METHODS: dict[str, type[Procedure]] = {"frs": FeatureRelevancePruning}

__all__ = [
    "METHODS",
    "FeatureRelevancePruning",
    "PlaceChannels",
    "PrunableLayer",
    "Relevance",
    "add_masks",
    "choose_layers",
    "feature_relevance_scores",
    "find_prunable",
    "kept_channels",
    "place_channels",
    "remove_channels",
]
