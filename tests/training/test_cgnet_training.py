"""CGNet's training: runs that resume bit for bit, and a target that moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headgate.errors import ModelError, RecipeError
from headgate.train import loop
from headgate.train.checkpoints import load_checkpoint
from headgate.train.gates import gates, set_target
from headgate.train.gates.threshold_target import ThresholdTarget, find_shift
from headgate.train.methods import find_procedures
from headgate.train.models import create_model
from headgate.train.network import make
from headgate.train.problem import TrainingImages, load_problem
from headgate.train.recipe import recipe_from

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "epochs": 2,
    "batch_size": 64,
    "limit_train": 256,
    "limit_test": 64,
    "checkpoint_batches": 2,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
    "gate": "cgnet",
    "gate_options": {"separate_norms": True, "block": [8, 16]},
    "gate_training": {"target": 1.0, "schedule": [[0, -1.0], [1, 1.0]]},
    "gate_penalty": 0.1,
}


def test_a_run_stopped_in_mid_epoch_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from(TINY)
    loop.train(recipe, tmp_path / "whole")
    step, seen = loop.Run._step, []

    def deadly(run: loop.Run, *batch: Tensor) -> None:
        seen.append(run.position.batch)
        if len(seen) == 8:
            raise KeyboardInterrupt
        step(run, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Run, "_step", deadly)
        loop.train(recipe, tmp_path / "killed")
    loop.train(recipe, tmp_path / "killed", resume=True)
    results = [tmp_path / name / loop.RESULT_NAME for name in ("whole", "killed")]
    assert results[0].read_bytes() == results[1].read_bytes()
    module = load_checkpoint(tmp_path / "whole").module
    with pytest.raises(RecipeError, match="ask for the same"):
        make(recipe_from(TINY | {"start_from": str(tmp_path / "whole"), "gate_options": {}}))
    again = make(recipe_from(TINY | {"start_from": str(tmp_path / "whole")}))
    assert torch.equal(again.state_dict()["conv.weight"], module.state_dict()["conv.weight"])


def test_the_target_moves_in_stages() -> None:
    procedure = ThresholdTarget(0.5, [[0, -2], [3, 0.5]])
    assert [procedure.at(epoch) for epoch in range(5)] == [-2, -2, -2, 0.5, 0.5]
    assert ThresholdTarget().at(7) == 1.0
    for target, schedule in [
        (0.5, [[0, -2], [3, 0.6]]),
        (0.5, [[1, 0.5]]),
        (0.5, [[0, 0], [0, 0.5]]),
        (0.5, [[0, 0, 0], [1, 0.5]]),
    ]:
        with pytest.raises(RecipeError, match="schedule"):
            ThresholdTarget(target, schedule)
    with pytest.raises(RecipeError, match=r"gate_training\.target is 'much', not a number"):
        find_procedures(recipe_from(TINY | {"gate_training": {"target": "much"}}))


def test_the_share_moves_the_target_and_at_the_end_the_thresholds(tmp_path: Path) -> None:
    table = TINY | {
        "gate_training": {"target": 0.0, "kept": 0.4, "calibration_images": 60},
        "epochs": 1,
    }
    recipe = recipe_from(table)
    loop.train(recipe, tmp_path)
    module = load_checkpoint(tmp_path).module
    problem = load_problem(recipe, torch.device("cpu"))
    images = list(TrainingImages(problem, 60))
    assert sum(len(batch) for batch in images) == 60
    # Blocks are few in this small network, and a step of the search is two thousandths.
    assert find_shift(module, 0.4, images) == pytest.approx(0, abs=0.01)
    assert find_shift(module, 0.7, images) < -0.02
    targets = {float(layer.target) for layer in gates(module).values()}
    assert len(targets) == 1 and targets != {0.0}
    for wrong in (1.0, -0.1):
        with pytest.raises(RecipeError, match=r"gate_training\.kept is .*, not a share"):
            find_procedures(recipe_from(TINY | {"gate_training": {"kept": wrong}}))
    with pytest.raises(RecipeError, match="kept or a schedule, not both"):
        ThresholdTarget(0.5, [[0, 0.5]], kept=0.5)
    with pytest.raises(RecipeError, match="calibration_images is 0"):
        find_procedures(recipe_from(TINY | {"gate_training": {"calibration_images": 0}}))
    with pytest.raises(ModelError, match="no gate whose thresholds have a target"):
        set_target(create_model("resnet8"), 1.0)
