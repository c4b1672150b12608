"""Whole networks, compiled and run, against PyTorch in evaluation mode.

The largest error is 1e-4 of the output's scale and the top-1 is the same; executed MACs are
exactly those that ``count_macs`` finds in PyTorch.

All of resnet8, resnet20, mcifarnet, vgg16, resnet18 and a network of no family, dense and gated at
0.25, 0.5 and 0.75, on the host and under QEMU, take half an hour on two cores: HEADGATE_FULL=1.
Without it the small networks run at every density on the host, mcifarnet and resnet18 dense and at
0.5, the others at 0.5; and under QEMU resnet8 and the foreign network dense and at 0.5, mcifarnet
and vgg16 at 0.5.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.device import Bundle, load, validate
from headgate.device.agent.settings import Plan
from headgate.device.validation import compare_outputs
from headgate.train.macs import count_macs
from tests.full import FULL
from tests.networks import FOREIGN, TwoScales, compiled, network, randomise
from tests.oracle import TOLERANCE, check_bundle, machine_of
from tests.session_cache import lowered_as_users_do

NAMES = ("branches", "resnet8", "mcifarnet", "resnet20", "vgg16", "resnet18")
SMALL = ("branches", "resnet8")
DENSITIES = (None, 0.25, 0.5, 0.75)
FEW: dict[str, dict[str, tuple[float | None, ...]]] = {
    "host": {
        **dict.fromkeys(SMALL, DENSITIES),
        **dict.fromkeys(("mcifarnet", "resnet18"), (None, 0.5)),
        **dict.fromkeys(("resnet20", "vgg16"), (0.5,)),
    },
    "qemu": {
        **dict.fromkeys(SMALL, (None, 0.5)),
        **dict.fromkeys(("mcifarnet", "vgg16"), (0.5,)),
    },
}
"""What of them runs in minutes."""
ALL_CLOSED, ONE_OPEN, ALL_OPEN = 0.0, 1e-9, 1.0


def matrix(machine: str) -> list[tuple[str, float | None]]:
    """The networks and densities of this run."""
    chosen = [(name, density) for name in NAMES for density in DENSITIES]
    return chosen if FULL else [one for one in chosen if one[1] in FEW[machine].get(one[0], ())]


def check(bundle: Bundle, name: str, density: float | None) -> None:
    """Outputs, those that the bundle holds as well, and executed MACs against PyTorch's."""
    assert bundle.manifest["tolerance"] == TOLERANCE
    (inputs,), (stored,) = bundle.vectors()
    module, _ = network(name, density)
    images = torch.from_numpy(inputs.copy())
    check_bundle(bundle, module, images)
    with torch.no_grad():
        assert compare_outputs([stored], [module(images).numpy()], 1e-5).passed


@pytest.mark.parametrize(("name", "density"), matrix("host"))
def test_on_the_host(name: str, density: float | None) -> None:
    check(compiled(name, density, "host"), name, density)


@pytest.mark.parametrize(("name", "density"), matrix("qemu"))
def test_under_qemu(name: str, density: float | None, qemu_aarch64: str) -> None:
    samples = 1 if name == "resnet18" else 2
    check(compiled(name, density, "rpi4", samples), name, density)


@pytest.mark.parametrize("target", ["host", "rpi4"])
@pytest.mark.parametrize("density", [ALL_CLOSED, ONE_OPEN, ALL_OPEN])
@pytest.mark.parametrize("name", SMALL)
def test_gates_at_their_limits(
    name: str, density: float, target: str, request: pytest.FixtureRequest
) -> None:
    """No channel, one channel and every channel of each gated layer active."""
    if target == "rpi4":
        request.getfixturevalue("qemu_aarch64")
    bundle = compiled(name, density, target)
    check(bundle, name, density)
    with load(bundle, machine_of(target)) as program:
        program.run(bundle.vectors()[0][0])
        counts = program.active_counts
    gated = {layer["out_gate"] for layer in program.layers if layer["operator"] == "gated_conv2d"}
    assert gated
    for index in gated:
        row = bundle.manifest["gates"][index]
        expected = {ALL_CLOSED: 0, ONE_OPEN: 1, ALL_OPEN: row["channels"]}[density]
        assert (counts[row["name"]] == expected).all(), row["name"]


# Architectures that users bring

# What these skip is not known channel by channel: TVM's own kernels read every plane, and a
# depthwise or grouped convolution multiplies inactive inputs of active outputs too.
AT_LEAST = {"inverted", "squeeze-excite", "padded-shortcut", "channel-split"}


@pytest.mark.parametrize("density", [None, 0.5])
@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - {"branches"}))
def test_other_architectures(name: str, density: float | None) -> None:
    bundle = compiled(name, density, "host")
    if density is None or name not in AT_LEAST:
        check(bundle, name, density)
        return
    result = validate(bundle)
    assert result.passed, result
    module, shape = network(name, density)
    inputs, _ = bundle.vectors()
    with load(bundle) as program:
        program.run(inputs[0])
        executed = program.executed_macs()
    found = count_macs(module, torch.zeros(1, *shape), torch.from_numpy(inputs[0].copy()))
    assert (executed >= found.executed_per_image.numpy()).all()
    assert (executed < program.dense_macs()).all()


def test_two_inputs_and_two_outputs() -> None:
    torch.manual_seed(0)
    module = randomise(TwoScales())
    examples = torch.zeros(1, 3, 6, 6), torch.zeros(1, 5)
    bundle = compile_module(module, examples, check=False)
    assert [tensor["shape"] for tensor in bundle.manifest["inputs"]] == [[1, 3, 6, 6], [1, 5]]
    assert [tensor["shape"] for tensor in bundle.manifest["outputs"]] == [[1, 4, 13, 13], [1, 6]]
    assert validate(bundle).passed


# What a bundle is


def test_a_module_of_ones_own_has_an_input_for_each_window_of_energy() -> None:
    module, shape = network("branches", None)
    bundle = compile_module(module, torch.zeros(1, *shape), check=False)
    (inputs,), (outputs,) = bundle.vectors()
    assert len(inputs) == len(outputs) >= Plan.windows
    assert len({row.tobytes() for row in inputs}) == len(inputs)


@pytest.mark.parametrize("density", [None, 0.5])
def test_same_input_same_bytes(density: float | None, tmp_path) -> None:
    paths = [tmp_path / "first.hgb", tmp_path / "second.hgb"]
    with lowered_as_users_do():
        for path in paths:
            module, shape = network("inverted", density)
            compile_module(module, torch.zeros(1, *shape), target="rpi4").save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_hash_follows_weights_and_density() -> None:
    hashes = {
        compiled("branches", density, "host").manifest["model_sha256"]
        for density in (None, 0.25, 0.5, 0.75)
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("density", [None, 0.5])
def test_small(density: float | None) -> None:
    bundle = compiled("resnet8", density, "rpi4")
    assert bundle.manifest["arena_bytes"] < 150_000
    members = bundle.members
    assert len(members["code/runner"]) + len(members["weights.safetensors"]) < 1_000_000
