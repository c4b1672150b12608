"""Checkpoints: what ships is as good as it says, and what is altered is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.training import results
from headgate.errors import DataError, MissingFile, ModelError
from headgate.train.checkpoints import (
    build,
    describe,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from headgate.train.data import cifar10, sample_images
from headgate.train.evaluate import accuracy, count_correct
from headgate.train.gates import gates
from headgate.train.recipe import load_recipe, recipe_from

DESCRIBED = {
    "architecture": "resnet8",
    "model_options": {},
    "num_classes": 10,
    "gate": {"method": "fbs", "density": 0.5, "layers": ["*.conv1"], "options": {}},
    "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "test_accuracy": 0.125,
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build(DESCRIBED), DESCRIBED)
    return path


def test_what_is_saved_loads_again(saved: Path) -> None:
    module, stated, preprocess = load_checkpoint(saved)
    assert stated == 0.125
    assert preprocess.std == [0.25, 0.25, 0.25]
    assert not module.training
    assert {layer.active for layer in gates(module).values()} == {8, 16, 32}
    again = load_checkpoint(saved.parent).module.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in module.state_dict().items())


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(MissingFile, match=r"no checkpoint 'resnet8-fbs-0\.6'"):
        load_checkpoint("resnet8-fbs-0.6")


def test_altered_weights_are_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        load_checkpoint(saved)


def test_weights_of_another_network_are_refused_in_one_line(saved: Path) -> None:
    path = saved.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architecture": "resnet20"}))
    with pytest.raises(ModelError, match=r"does not fit model\.json") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}'])
def test_a_damaged_description_is_refused(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", list_checkpoints())
def test_shipped_checkpoints_are_as_good_as_they_say(name: str) -> None:
    module, stated, preprocess = load_checkpoint(name)
    images, labels = map(torch.from_numpy, sample_images())
    deviation = (stated * (1 - stated) / len(images)) ** 0.5
    assert abs(accuracy(module, images, labels, preprocess) - stated) < 3 * deviation
    assert describe(name)["test_images"] == 10_000
    try:
        whole = cifar10()
    except DataError as error:
        pytest.skip(str(error))
    images, labels = torch.from_numpy(whole.test_images), torch.from_numpy(whole.test_labels)
    correct = count_correct(module, images, labels, preprocess)
    # Another processor rounds otherwise, so an image or two may change sides.
    assert abs(correct - stated * 10_000) <= 5


@pytest.mark.parametrize("name", list_checkpoints())
def test_shipped_checkpoints_have_their_recipe_and_log(name: str) -> None:
    described = describe(name)
    assert recipe_from(described["recipe"]) == load_recipe(name)
    log = Path(__file__).parents[2] / described["log"]
    last = log.read_text().strip().splitlines()[-1].split(",")
    assert int(last[0]) == described["epochs"]


def test_shipped_weights_are_what_their_names_promise() -> None:
    names = list_checkpoints()
    for required in ("resnet8", "resnet8-fbs-0.5", "resnet8-fbs-0.7"):
        assert required in names
    assert describe("resnet8")["test_accuracy"] > 0.85
    assert describe("resnet8")["gate"] is None
    for density in (0.5, 0.7):
        assert describe(f"resnet8-fbs-{density}")["gate"]["density"] == density


def test_results_table_is_what_the_checkpoints_say() -> None:
    written = (results.TRAIN / "RESULTS.md").read_text(encoding="utf-8")
    assert written == results.results()


def test_a_finished_run_is_taken_in_whole(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    for folder in ("logs", "checkpoints"):
        (package / folder).mkdir(parents=True)
    described = json.loads(saved.with_suffix(".json").read_text()) | {"name": "mine"}
    saved.with_suffix(".json").write_text(json.dumps(described))
    (saved.parent / "log.csv").write_text("epoch\n1\n")
    monkeypatch.setattr(results, "TRAIN", package)
    assert results.ship(saved.parent) == "mine"
    shipped = package / "checkpoints" / "mine.json"
    assert load_checkpoint(shipped).test_accuracy == 0.125
    assert describe(shipped)["log"] == "train/logs/mine.csv"
    assert (package / "logs" / "mine.csv").read_text() == "epoch\n1\n"
