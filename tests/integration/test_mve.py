"""Kernels of Helium on an emulated Cortex-M55: the reference's bits, and few instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.mve import layout
from tests.cortex_m_calls import run_on_cortex_m
from tests.smlad_cases import case, drawn

pytestmark = pytest.mark.usefixtures("qemu_system_arm")
TARGET = "cortex-m55"


@pytest.mark.parametrize("tight", [False, True])
def test_convolutions_of_any_shape(
    tight: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tight:
        # In chunks of rows, as large images are computed.
        monkeypatch.setattr(layout, "MOST_PACKED_BYTES", 200)
        monkeypatch.setattr(layout, "MOST_PIXELS", 20)
    random = np.random.default_rng(4 + tight)
    cases = [case(random, drawn(random, False), TARGET) for _ in range(12)]
    found, _ = run_on_cortex_m([one.call for one in cases], tmp_path, TARGET)
    for wanted, arrays in zip(cases, found, strict=True):
        wanted.check(arrays)
