"""Convolutional networks with standard names, one family a file."""

from headgate.train.models.registry import create_model, input_shape, list_models

__all__ = ["create_model", "input_shape", "list_models"]
