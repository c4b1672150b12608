"""Convolutional networks with standard names, one family a file."""

from headgate.train.models.registry import (
    create_model,
    input_shape,
    list_models,
    option_types,
)

__all__ = ["create_model", "input_shape", "list_models", "option_types"]
