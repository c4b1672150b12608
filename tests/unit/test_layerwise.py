"""Layers held against PyTorch one by one, on arrays that stand for what a program made."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402

from headgate.compile.capture import _export  # noqa: E402
from headgate.compile.graph import Graph, Node, Value  # noqa: E402
from headgate.compile.layerwise import layer_differences  # noqa: E402
