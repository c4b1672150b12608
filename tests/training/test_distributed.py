"""Training in two processes, as on two GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from headgate.train.checkpoints import describe
from headgate.train.history import read_csv
from headgate.train.recipe import recipe_from, to_toml


def test_two_processes_share_a_run_and_find_it_done(tmp_path: Path) -> None:
    table = {"dataset": "synthetic", "batch_size": 64, "warmup_epochs": 0.5, "epochs": 2}
    (tmp_path / "r.toml").write_text(to_toml(recipe_from(table)))
    # The second time every epoch is done: it only writes the result again.
    program = (
        "from headgate.train.loop import train; from headgate.train.recipe import load_recipe\n"
        "for _ in range(2):\n"
        f"    recipe, run = load_recipe({str(tmp_path / 'r.toml')!r}), {str(tmp_path / 'run')!r}\n"
        "    train(recipe, run, resume=True)\n"
    )
    (tmp_path / "main.py").write_text(program)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launch, str(tmp_path / "main.py")]
    subprocess.run(command, env=environment, check=True, timeout=900)
    described = describe(tmp_path / "run")
    assert "2 process(es)" in described["hardware"]
    assert [row["epoch"] for row in read_csv(tmp_path / "run" / "log.csv")] == [1, 2]
    assert described["test_accuracy"] > 0.3
    assert not torch.distributed.is_initialized()
