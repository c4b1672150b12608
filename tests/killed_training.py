"""Training in processes of their own, which can be killed as a power cut would."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headgate.cli import main
from headgate.train import loop, state
from headgate.train.recipe import Recipe

# The processes are forked from one that has imported everything, which is most of a short run.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that runs ``function``, with as many threads as this one: sums depend on it."""
    task = (torch.get_num_threads(), function, *arguments)
    process = _CONTEXT.Process(target=_quietly, args=task)
    process.start()
    return process


def _quietly(threads: int, function: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(threads)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        function(*arguments)


def command(*arguments: str) -> None:
    """What ``headgate`` does with these arguments."""
    sys.exit(main(list(arguments)))


def train_until_killed(recipe: Recipe, folder: Path, step: int) -> tuple[int, int]:
    """Trains in a process of its own that dies before its ``step``-th batch, counted from 1.

    Returns the (epoch, batch) that the saved state is at.
    """
    killed = start(_train_and_die, recipe, folder, step)
    killed.join(timeout=300)
    assert killed.exitcode == -signal.SIGKILL
    position = json.loads((folder / state.JSON_NAME).read_text())["position"]
    return position["epoch"], position["batch"]


def _train_and_die(recipe: Recipe, folder: Path, last: int) -> None:
    step, seen = loop.Run._step, []

    def deadly(run: loop.Run, images: Tensor, labels: Tensor) -> None:
        seen.append(1)
        if len(seen) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        step(run, images, labels)

    loop.Run._step = deadly  # type: ignore[method-assign]  # of this process only
    loop.train(recipe, folder)
