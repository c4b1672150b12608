"""Executed instructions of networks on an emulated Cortex-M, whole and layer by layer.

    python -m bench.cortex_m resnet8 resnet8-fbs-0.5 mobilenetv1-0.25 ds-cnn-fbs-0.5

A network that no checkpoint comes of has random weights, and gates that keep a share of its
channels; how many instructions it takes does not depend on the values. QEMU counts a
nanosecond for an instruction; the firmware's clock ticks every 40 of them.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from bench.settle import random_images, settle
from headgate.compile import compile_module
from headgate.device import Bundle, load
from headgate.device.protocol import Request
from headgate.train.checkpoints import list_checkpoints, load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.gates import gate
from headgate.train.models import create_model, input_shape

CALIBRATION = 64
FBS = "-fbs-"


def network(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A checkpoint of CIFAR-10, or a model of ours with random weights, and images for it."""
    if name in list_checkpoints():
        images = torch.from_numpy(PREPROCESS(sample_images()[0][:CALIBRATION]))
        return load_checkpoint(name).module.eval(), images
    model, gated, density = name.partition(FBS)
    images = random_images(CALIBRATION, input_shape(model))
    torch.manual_seed(0)
    module = settle(create_model(model), images)
    return settle(gate(module, density=float(density)), images) if gated else module, images


def build(name: str, target: str) -> Bundle:
    """A network in int8."""
    module, images = network(name)
    return compile_module(
        module,
        images[:1],
        target=target,
        vectors=images[:2],
        dtype="int8",
        calibration=images,
        check=False,
    )


def count(bundle: Bundle, target: str) -> tuple[int, list[int]]:
    """Instructions of one image: of a run, and of each layer of a run that looks at its clock."""
    inputs, expected = bundle.vectors()
    request = Request(
        inputs=len(inputs), outputs=len(expected), counts=True, times=True, layers=True
    )
    with load(bundle, f"qemu:{target}") as program:
        found = program._execute([array[:1] for array in inputs], request)
    for one, other in zip(found.outputs, expected, strict=True):
        np.testing.assert_array_equal(one, other[:1])
    assert found.times_ns is not None
    assert found.layer_times_ns is not None
    return int(found.times_ns[0, 0]), found.layer_times_ns[0, 0].tolist()


def main() -> None:
    """Prints a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--target", default="cortex-m4")
    options = parser.parse_args()
    for name in options.names:
        bundle = build(name, options.target)
        total, layers = count(bundle, options.target)
        print(f"{name} on {options.target}: {total / 1e6:.2f} M instructions")
        for row, instructions in zip(bundle.manifest["layers"], layers, strict=True):
            macs = row["dense_macs"]
            each = f"{instructions / macs:8.3f}" if macs else " " * 8
            print(f"{row['name']:36s} {row['operator']:18s} {macs:9d} {instructions:9d} {each}")


if __name__ == "__main__":
    main()
