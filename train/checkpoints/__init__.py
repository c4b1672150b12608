"""Trained networks: weights as safetensors, everything else as JSON beside them."""

from headgate.train.checkpoints.store import (
    Loaded,
    add_gates,
    build,
    describe,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)

__all__ = [
    "Loaded",
    "add_gates",
    "build",
    "describe",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
]
