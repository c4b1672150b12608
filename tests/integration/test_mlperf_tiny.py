"""MLPerf Tiny's networks of depthwise convolutions in int8: the reference's bytes on every core."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from bench.cortex_m import network
from headgate.compile import compile_module
from headgate.device import load
from headgate.device.machines.qemu_system import BOARDS
from tests.full import FULL
from tests.oracle import machine_of

# M7 and M33 have the kernels of M4.
CORES = tuple(BOARDS) if FULL else ("cortex-m4", "cortex-m55")
NETWORKS = ("ds-cnn", "ds-cnn-fbs-0.5", "mobilenetv1-0.25-fbs-0.5")


@pytest.mark.usefixtures("qemu_system_arm", "qemu_aarch64")
@pytest.mark.parametrize("name", (*NETWORKS, "mobilenetv1-0.25") if FULL else NETWORKS)
def test_every_core_gives_the_same_bytes(name: str) -> None:
    module, images = network(name)
    # The larger one takes the other machines a minute to compile.
    targets = ("host", "rpi4", *CORES) if FULL or name.startswith("ds") else CORES
    first = None
    for target in targets:
        bundle = compile_module(
            module,
            images[:1],
            target=target,
            vectors=images[:2],
            dtype="int8",
            calibration=images[:4],
            check=False,
        )
        inputs, expected = bundle.vectors()
        with load(bundle, machine_of(target)) as program:
            (scores,) = program.outputs([array[:1] for array in inputs])
            counts = program.active_counts
        assert scores.tobytes() == expected[0][:1].tobytes(), target
        assert scores.std() > 0
        first = first or counts
        assert counts.keys() == first.keys()
        for gate, active in counts.items():
            np.testing.assert_array_equal(active, first[gate])
    macs = [layer["dense_macs"] for layer in bundle.manifest["layers"]]
    executed = int(program.executed_macs()[0])
    # A channel that is not there saves its depthwise convolution and the next layer's sums too.
    assert executed < 0.4 * sum(macs) if "fbs" in name else executed == sum(macs)
