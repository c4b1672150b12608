"""Threads change who computes a number, never the number."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

import headgate
from headgate.compile.kernels.convolution import ConvShape, Epilogue
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.tiling import choose_tiling
from headgate.compile.plan.steps import SHARED_MACS
from headgate.device import Bundle, load, runtime_sources
from headgate.device.targets import get_target
from headgate.errors import UsageError
from tests.kernel_calls import Call, isa, run_calls
from tests.kernel_cases import SENTINEL, active_list, numbers, one
from tests.networks import conv_bn, randomise


class EveryKernel(nn.Module):
    """Each kernel that threads share, large enough to be shared; no size is a round number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 36)
        self.inner, self.outer = conv_bn(36, 48), conv_bn(48, 36)
        self.grouped = nn.Conv2d(36, 36, 3, 1, 1, groups=3)
        self.depthwise = nn.Conv2d(36, 36, 3, 1, 1, groups=36)
        self.strided = nn.Conv2d(36, 28, 3, 2, 1)
        self.head = nn.Linear(28 * 9, 801)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.outer(self.inner(x).relu()) + x).relu()
        x = self.depthwise(self.grouped(x).relu()).relu()
        x = nn.functional.max_pool2d(x, 2)
        return self.head(nn.functional.adaptive_avg_pool2d(self.strided(x), 3).flatten(1))


IMAGES = np.random.default_rng(0).standard_normal((3, 3, 42, 30), dtype=np.float32)
GATES = {"dense": None, "fbs": {"density": 0.4}, "cgnet": {"partitions": 3, "block": (4, 16)}}


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    torch.manual_seed(0)
    network = randomise(EveryKernel())
    made = {}
    for method, options in GATES.items():
        module = network if options is None else headgate.gate(network, method, **options)
        made[method] = headgate.compile_module(module.eval(), torch.from_numpy(IMAGES), check=False)
    return made


@pytest.mark.parametrize("method", GATES)
def test_results_are_the_same_bits_for_any_number_of_threads(
    bundles: dict[str, Bundle], method: str
) -> None:
    bundle = bundles[method]
    shared = [layer for layer in bundle.manifest["layers"] if layer["dense_macs"] >= SHARED_MACS]
    assert len(shared) >= 6
    with load(bundle) as alone:
        expected, counts = alone.run(IMAGES), alone.active_counts
        executed = alone.executed_macs()
    assert (executed < alone.dense_macs()).all() == (method != "dense")
    for threads in (2, 3, 5):
        with load(bundle, threads=threads) as program:
            assert np.array_equal(program.run(IMAGES), expected), threads
            assert np.array_equal(program.executed_macs(), executed), threads
            for gate, count in program.active_counts.items():
                assert np.array_equal(count, counts[gate]), (threads, gate)


def test_the_runner_takes_threads(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    bundle = bundles["fbs"]
    without = Bundle(
        {k: v for k, v in bundle.manifest.items() if k != "members"},
        {name: data for name, data in bundle.members.items() if name != "code/network.so"},
    )
    with load(bundle) as alone, load(without, threads=3) as program:
        assert np.array_equal(program.run(IMAGES), alone.run(IMAGES))
        assert program.time(IMAGES, repeat=2, warmup=1).min() > 0


def test_threads_under_an_emulator(bundles: dict[str, Bundle], qemu_aarch64: str) -> None:
    torch.manual_seed(0)
    gated = headgate.gate(randomise(EveryKernel()), "fbs", density=0.4).eval()
    bundle = headgate.compile_module(gated, torch.from_numpy(IMAGES), target="rpi4")
    with load(bundle, "qemu:rpi4") as alone, load(bundle, "qemu:rpi4", threads=4) as program:
        assert np.array_equal(program.run(IMAGES[:1]), alone.run(IMAGES[:1]))


@pytest.mark.parametrize("threads", [0, 17, -1])
def test_a_number_of_threads_that_there_is_not(bundles: dict[str, Bundle], threads: int) -> None:
    with pytest.raises(UsageError, match="1 to 16"):
        load(bundles["dense"], threads=threads)


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("active", [None, 0, 1, 8, 19, 40])
def test_every_output_is_computed_by_one_part(
    parts: int, active: int | None, tmp_path: Path
) -> None:
    shape = ConvShape(4, 40, 6, 9, (3, 3), padding=(1, 1, 1, 1))
    target, random = get_target("host"), np.random.default_rng(0)
    tiling = choose_tiling(shape, isa(target), gated_out=active is not None)
    kernel = ConvKernel(shape, tiling, Epilogue(active is not None), False)
    shared = {
        "x": numbers(random, 4, 6, 9),
        "weight": numbers(random, 40, 4, 3, 3),
        **{name: numbers(random, 40) for name in ("bias", "gate", "shift")},
        "out_list": active_list(random, 40, active or 0),
        "out_count": one(active or 0),
    }
    calls = [
        Call(
            kernel,
            shared
            | {
                "y": np.full((40, 6, 9), SENTINEL, np.float32),
                "part": np.array([index, count], np.int32),
            },
            {"y"},
        )
        for count in (1, parts)
        for index in range(count)
    ]
    alone, *shares = (found["y"] for found in run_calls(calls, target, tmp_path))
    written = np.stack([share != SENTINEL for share in shares])
    assert np.array_equal(written.sum(axis=0), alone != SENTINEL)
    assert (alone != SENTINEL).all(axis=(1, 2)).sum() == (40 if active is None else active)
    for share, mine in zip(shares, written, strict=True):
        assert np.array_equal(share[mine], alone[mine])


def test_the_team_has_no_data_race(tmp_path: Path) -> None:
    """Many short rounds and sleeps, under a thread sanitiser where it runs.

    That of gcc is built already; zig compiles clang's, which takes more than a minute.
    """
    source = tmp_path / "race.c"
    source.write_text(RACE)
    zig = [sys.executable, "-m", "ziglang", "cc"]
    command = [*([gcc] if (gcc := shutil.which("gcc")) else zig), "-std=c11", "-O1", "-g"]
    command += ["-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"]
    command += ["-I", str(runtime_sources("core")), str(source)]
    command += [str(runtime_sources("linux") / "team.c")]
    program = tmp_path / "race"
    checked = subprocess.run(
        [*command, "-fsanitize=thread", "-o", str(program)], capture_output=True, text=True
    )
    if checked.returncode:
        subprocess.run([*command, "-fno-sanitize=all", "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ThreadSanitizer" not in done.stderr


RACE = r"""
#define _POSIX_C_SOURCE 200809L
#include "headgate.h"
#include <stdio.h>
#include <time.h>

enum { SIZE = 4, ROUNDS = 1000 };
static long sums[SIZE];

static void add(void *frame, int32_t part, int32_t parts)
{
    sums[part] += *(long *)frame + parts;
}

int main(void)
{
    headgate_team *team = headgate_start_team(SIZE);
    long expected = 0;
    if (!team || headgate_start_team(0) || headgate_start_team(HEADGATE_MAX_THREADS + 1))
        return 2;
    for (long round = 0; round < ROUNDS; round++) {
        team->run(team, add, &round);
        expected += round + SIZE;
        for (int part = 0; part < SIZE; part++)
            if (sums[part] != expected)
                return 3;
        if (round % 150 == 0) {
            const struct timespec pause = {0, 20 * 1000 * 1000};
            nanosleep(&pause, NULL);
        }
    }
    headgate_stop_team(team);
    headgate_stop_team(NULL);
    puts("done");
    return 0;
}
"""
