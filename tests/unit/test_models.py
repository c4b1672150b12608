"""Networks: their sizes against the references, their names, their shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headgate.errors import UsageError
from headgate.train.macs import count_macs
from headgate.train.models import create_model, input_shape, list_models

# (name, options, thousand weights of convolutions and linear layers, MMACs): Headgate's notes on
# the papers; MLPerf Tiny for resnet8, whose folded batch norms give one bias per channel.
REFERENCE = [
    ("resnet8", {}, 77.4, 12.50),
    ("resnet20", {"shortcut": "A"}, 268, 40.55),
    ("resnet20", {}, 271, 40.81),
    ("resnet32", {"shortcut": "A"}, 462, 68.86),
    ("resnet56", {"shortcut": "A"}, 849, 125.5),
    ("resnet56", {}, 852, 125.7),
    ("resnet110", {"shortcut": "A"}, 1720, 252.9),
    ("resnet110", {}, 1722, 253.1),
    ("mcifarnet", {}, 1294, 174.30),
    ("vgg16", {}, 14980, 313.5),
    ("mobilenetv1-0.25", {}, 208.1, 7.490),
    ("ds-cnn", {}, 22.0, 2.657),
    ("resnet18", {}, 11679, 1814),
    ("resnet18_cifar", {}, 11164, 555.4),
]


def weights(module: nn.Module) -> int:
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


@pytest.mark.parametrize(("name", "options", "thousands", "mmacs"), REFERENCE)
def test_size_is_the_published_one(
    name: str, options: dict[str, str], thousands: float, mmacs: float
) -> None:
    module = create_model(name, **options)
    assert weights(module) / 1e3 == pytest.approx(thousands, rel=2e-3)
    count = count_macs(module, torch.zeros(1, *input_shape(name)))
    assert count.dense / 1e6 == pytest.approx(mmacs, rel=4e-4)
    assert count.unsupported() == {}


def test_resnet8_deploys_with_mlperf_tinys_parameters() -> None:
    module = create_model("resnet8")
    biases = sum(m.num_features for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    biases += sum(
        m.bias.numel()
        for m in module.modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None
    )
    assert weights(module) + biases == 77_706


@pytest.mark.parametrize(("name", "count"), [("mobilenetv1-0.25", 221_794), ("ds-cnn", 24_908)])
def test_keras_counts_as_many_parameters_of_mlperf_tinys(name: str, count: int) -> None:
    module = create_model(name)
    # There convolutions have a bias, and norms two statistics, among the parameters.
    norms = sum(m.num_features for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in module.parameters()) + 3 * norms == count


def test_vgg16_imagenet_has_its_parameters() -> None:
    with torch.device("meta"):
        module = create_model("vgg16_imagenet")
        logits = module.eval()(torch.zeros(1, *input_shape("vgg16_imagenet")))
    norms = sum(2 * m.num_features for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in module.parameters()) - norms == 138_357_544
    assert logits.shape == (1, 1000)


def test_mcifarnet_is_the_papers_table() -> None:
    shapes: list[tuple[int, ...]] = []
    module = create_model("mcifarnet").eval()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda m, args, out: shapes.append(tuple(out.shape[1:])))
    module(torch.zeros(1, 3, 32, 32))
    expected = [(64, 30), (64, 30), (128, 15), (128, 15), (128, 15), (192, 8), (192, 8), (192, 8)]
    assert shapes == [(c, size, size) for c, size in expected]
    dropped = [name for name, m in module.features.named_children() if isinstance(m, nn.Dropout)]
    assert dropped == ["dropout3", "dropout6"]


@pytest.mark.parametrize(
    ("name", "some_names"),
    [
        ("resnet18", {"conv1.weight", "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias"}),
        ("resnet50", {"layer1.0.conv3.weight", "layer1.0.downsample.0.weight", "fc.bias"}),
        ("vgg16_imagenet", {"features.40.bias", "features.41.running_mean", "classifier.6.weight"}),
    ],
)
def test_published_weights_would_load(name: str, some_names: set[str]) -> None:
    with torch.device("meta"):
        state = create_model(name).state_dict()
    assert some_names <= set(state)
    # torchvision's own numbers of entries
    assert len(state) == {"resnet18": 122, "resnet50": 320, "vgg16_imagenet": 97}[name]


@pytest.mark.parametrize("name", [n for n in list_models() if input_shape(n)[1] < 224])
def test_signal_neither_dies_nor_explodes_at_the_start(name: str) -> None:
    torch.manual_seed(0)
    module = create_model(name, num_classes=7).train()
    logits = module(torch.randn(8, *input_shape(name)))
    assert logits.shape == (8, 7)
    assert 0.01 < logits.std().item() < 10
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet20'"):
        create_model("resnet_20")
    with pytest.raises(UsageError, match="Did you mean 'shortcut'"):
        create_model("resnet20", shortcuts="A")
    with pytest.raises(UsageError, match="It has none"):
        create_model("resnet18", dropout=0.1)
    with pytest.raises(UsageError, match="unknown shortcut 'C'"):
        create_model("resnet20", shortcut="C")
    with pytest.raises(UsageError, match="Did you mean 'vgg16'"):
        input_shape("vgg-16")
