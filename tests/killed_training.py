"""A training run that is killed in the middle, as a power cut would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from headgate.train import state
from headgate.train.recipe import Recipe, to_toml

PROGRAM = """
import os, signal, sys
from headgate.train import loop
from headgate.train.recipe import load_recipe
recipe, folder, last = sys.argv[1:]
step, seen = loop.Run._step, []
def deadly(self, images, labels):
    seen.append(1)
    if len(seen) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, images, labels)
loop.Run._step = deadly
loop.train(load_recipe(recipe), folder)
"""


def train_until_killed(recipe: Recipe, folder: Path, step: int) -> tuple[int, int]:
    """Trains in a process of its own that dies before its ``step``-th batch, counted from 1.

    Returns the (epoch, batch) that the saved state is at.
    """
    table = folder.with_name(f"{folder.name}.toml")
    table.write_text(to_toml(recipe))
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(table), str(folder), str(step)],
        # The same bits need the same number of threads.
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        stderr=subprocess.DEVNULL,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    position = json.loads((folder / state.JSON_NAME).read_text())["position"]
    return position["epoch"], position["batch"]
