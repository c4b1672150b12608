"""RESULTS.md: what it computes from descriptions, and how finished runs get into the package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bench.training import results
from bench.training import text as results_text
from bench.training.text import KNOWN, TITLES, dense_macs, dense_of, lost, nearest, saved
from bench.training.yardsticks import Yardstick, sources, yardsticks
from headgate.errors import ModelError
from headgate.train.checkpoints import describe, load_checkpoint, save_checkpoint
from headgate.train.gates import gate
from headgate.train.models import create_model, list_models
from headgate.train.recipe import Recipe, recipe_from


def description(name: str, accuracy: float, executed: int = 100, **more: Any) -> dict[str, Any]:
    recipe = asdict(Recipe(name=name, model="resnet20")) | more.pop("recipe", {})
    return {
        "name": name,
        "architecture": "resnet20",
        "model_options": {},
        "gate": None,
        "pruning": None,
        "test_accuracy": accuracy,
        "macs": {"dense": 100_000_000, "executed": executed * 1_000_000, "gate": 0},
        "recipe": recipe,
        "seed": 1,
        "epochs": 36,
        "hours": 2.0,
        "hardware": "a CPU, 1 process(es) of 2 threads",
        "log": f"train/logs/{name}.csv",
    } | more


def gated(name: str, accuracy: float, executed: int, start: str, **recipe: Any) -> dict[str, Any]:
    return description(
        name,
        accuracy,
        executed,
        gate={"method": "fbs", "density": 0.5, "layers": [], "options": {}},
        recipe={"start_from": start, "gate": "fbs"} | recipe,
    )


FAMILY = {
    row["name"]: row
    for row in (
        description("resnet20", 0.92),
        gated("first", 0.915, 70, "resnet20"),
        gated("second", 0.905, 46, "first"),
        gated("orphan", 0.80, 50, "elsewhere"),
        description(
            "pruned",
            0.921,
            60,
            pruning={"method": "frs", "channels": {}},
            recipe={"prune": "frs", "prune_options": {"target_macs": 0.6}},
        ),
    )
}


def test_a_loss_is_measured_by_the_dense_network_a_chain_began_with() -> None:
    assert dense_of(FAMILY["second"], FAMILY) is FAMILY["resnet20"]
    assert lost(FAMILY["second"], FAMILY) == pytest.approx(1.5)
    assert saved(FAMILY["second"]) == pytest.approx(54.0)
    assert lost(FAMILY["orphan"], FAMILY) is None
    # From scratch: the dense network of the same kind.
    assert lost(FAMILY["pruned"], FAMILY) == pytest.approx(-0.1)
    other = FAMILY["resnet20"] | {"model_options": {"shortcut": "A"}}
    assert dense_of(FAMILY["pruned"], {"resnet20": other}) is None


def test_a_published_figure_meets_the_nearest_saving_by_the_same_method() -> None:
    published = Yardstick("resnet20", "cifar10", "fbs", 53.1, "manidp", "figure", 92.22, 90.97)
    assert published.drop == pytest.approx(1.25)
    assert nearest(published, list(FAMILY.values())) is FAMILY["second"]
    other = Yardstick("resnet20", "cifar10", "ManiDP", 41.0, "manidp", "figure", drop=0.1)
    assert nearest(other, list(FAMILY.values())) is FAMILY["pruned"]
    none = Yardstick("resnet20", "cifar10", "cgnet", 50.0, "cgnet", "text")
    assert nearest(none, list(FAMILY.values())) is None


def line_with(text: str, *parts: str) -> str:
    found = [line for line in text.splitlines() if all(part in line for part in parts)]
    assert len(found) == 1, found
    return found[0]


def test_the_text_states_losses_savings_and_gaps() -> None:
    text = results_text.results_text(FAMILY)
    row = line_with(text, "| second | FBS")
    assert "| 90.50% | 1.50 | resnet20 | 100.00 M | 46.00 M |  | 54.0 % | 2.17x |" in row
    assert "| not known |" in line_with(text, "| orphan | FBS")
    assert "feature relevance, target_macs = 0.6" in line_with(text, "| pruned | fe")
    gap = line_with(text, "92.22 to 90.97 %")
    assert "| 1.25 | 53.1 % | manidp, read off a figure | second | 90.50% | 1.50 |" in gap
    assert gap.endswith("| +0.25 points, +0.9 % |")
    assert "## resnet20 on CIFAR-10" in text


def test_another_width_has_a_section_of_its_own() -> None:
    wide = gated("wide", 0.88, 40, "", model="resnet20") | {"model_options": {"width": 48}}
    text = results_text.results_text(FAMILY | {"wide": wide})
    assert text.index("## resnet20 on CIFAR-10") < text.index(
        "## resnet20, width = 48, on CIFAR-10"
    )
    assert "| not known |" in line_with(text, "| wide | FBS")


def test_the_spread_is_shown_where_images_differ() -> None:
    macs = FAMILY["second"]["macs"]
    spread = {"executed_min": 30e6, "executed_p5": 35e6, "executed_p95": 60e6}
    varying = macs | spread | {"executed_max": 71e6}
    constant = macs | dict.fromkeys(("executed_min", "executed_p5", "executed_p95"), 46e6)
    for described, cell in ((varying, "| 35.00 .. 60.00, 71.00 M |"), (constant, "| 46.00 M |  |")):
        described.setdefault("executed_max", 46e6)
        rows = FAMILY | {"second": FAMILY["second"] | {"macs": described}}
        assert cell in line_with(results_text.results_text(rows), "| second | FBS")


def test_pixel_gates_are_counted_in_tiles_too() -> None:
    macs = FAMILY["second"]["macs"] | {"executed_in_tiles": 51_500_000, "tile": [4, 16]}
    rows = FAMILY | {"second": FAMILY["second"] | {"macs": macs}}
    text = results_text.results_text(rows)
    assert "| 46.00 M; 51.50 M in tiles of 4 x 16 |" in line_with(text, "| second | FBS")

    recipe = recipe_from({"dataset": "synthetic", "limit_test": 4})
    torch.manual_seed(0)
    module = gate(create_model("resnet8"), "cgnet", 1.0, layers="block-inner").eval()
    measured = results.measure(recipe, module, _problem(recipe))["macs"]
    assert measured["tile"] == [4, 16]
    assert measured["executed"] < measured["executed_in_tiles"] <= measured["dense"]


MEASURED = {
    "images": 1000,
    "channels": 8,
    "dynamic": 6,
    "information": 0.125,
    "layers": {"conv": {"channels": 8, "dynamic": 6, "masks": 40, "information": 0.125}},
    "frozen_test_accuracy": 0.85,
}


def test_a_gated_network_stands_beside_its_frozen_twin() -> None:
    macs = {f"executed_p{share}": 46e6 + share for share in (5, 50, 95)}
    first = FAMILY["first"] | {"sha256": "1", "test_images": 10_000, "dynamics": MEASURED}
    first["macs"] = first["macs"] | macs
    pixels = {k: v for k, v in MEASURED.items() if k != "frozen_test_accuracy"}
    second = first | {"name": "second", "sha256": "2", "dynamics": pixels}
    twin = first | {"name": "first-twin", "test_accuracy": 0.905, "hours": 0.5}
    twin["twin_of"] = {"name": "first", "sha256": "1"}
    family = FAMILY | {"first": first, "second": second, "first-twin": twin}
    text = results_text.results_text(family)
    row = line_with(text, "| first | 6 of 8, 75.0% | 40 | 0.1250 | 46.00 .. 46.00 .. 46.00 M |")
    assert row.endswith("| 91.50% | 85.00% | 90.50% | +1.00 +- 0.40 | 0.50 | 1 |")
    assert "| 91.50% | pixels | pixels |" in line_with(text, "| second | 6 of 8")
    line_with(text, "| orphan | not measured |")
    assert "first-twin | FBS" not in text  # no network to choose, so none of the methods' table
    line_with(text, "| first-twin | resnet20 |")
    # The twin of other weights, or trained with another seed, says nothing of these.
    for other in ({"twin_of": {"name": "first", "sha256": "3"}}, {"seed": 2}):
        text = results_text.results_text(family | {"first-twin": twin | other})
        assert "| 85.00% | not trained |" in line_with(text, "| first | 6 of 8")


def test_recipes_that_were_not_run_say_why() -> None:
    text = results_text.results_text(FAMILY)
    assert "ImageNet is not at hand" in line_with(text, "| resnet18-fbs-0.7 |")
    # 12.5 M for 60 epochs, by a run of 100 M for 36 epochs in 2 h.
    assert "at least 0.4 h, by the speed of resnet20's run" in line_with(
        text, "| resnet8 | resnet8 | CIFAR-10 | dense"
    )
    assert "lost 0.83, saved 74.8 % (fbs)" in line_with(text, "| mcifarnet-fbs-0.5 |")
    assert "\n| resnet20 | resnet20" not in text


def test_macs_from_shapes_are_the_counted_ones() -> None:
    assert dense_macs("resnet8") == 12_501_632
    assert dense_macs("mcifarnet") == 174_301_824


def test_every_yardstick_is_complete() -> None:
    pairs = [(network, dataset) for network in list_models() for dataset in TITLES]
    found = [row for pair in pairs for row in yardsticks(*pair)]
    assert len(found) > 25
    for row in found:
        assert row.source in sources()
        assert row.known in KNOWN
        assert 0 < row.cut < 100
        assert (row.dense is None) == (row.accuracy is None)
        assert -1 < row.drop < 6


# Taking runs in


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, with a package of its own to go into."""
    for folder in ("logs", "checkpoints"):
        (tmp_path / "package" / folder).mkdir(parents=True)
    monkeypatch.setattr(results, "TRAIN", tmp_path / "package")
    recipe = recipe_from({"name": "mine", "dataset": "synthetic", "limit_test": 50})
    torch.manual_seed(0)
    module = gate(create_model("resnet8"), density=0.5, layers="block-inner")
    measured = results.measure(recipe, module.eval(), _problem(recipe))
    gating = {"method": "fbs", "density": 0.5, "layers": ["block-inner"], "options": {}}
    described = description("mine", 0.0, gate=gating, recipe=asdict(recipe)) | measured
    described |= {"architecture": "resnet8", "num_classes": 10}
    described["preprocess"] = {"mean": [0.5] * 3, "std": [0.25] * 3}
    folder = tmp_path / "run"
    folder.mkdir()
    save_checkpoint(folder / "model.safetensors", module, described)
    (folder / "log.csv").write_text("epoch\n1\n")
    return folder


def _problem(recipe: Recipe) -> Any:
    return results.load_problem(recipe, torch.device("cpu"))


def test_half_precision_keeps_what_is_per_channel_and_loads_as_float32(run: Path) -> None:
    assert results.ship(run, half=True) == "mine"
    shipped = run.parent / "package" / "checkpoints" / "mine.json"
    before, after = load_checkpoint(run).module, load_checkpoint(shipped).module
    for (name, old), new in zip(
        before.state_dict().items(), after.state_dict().values(), strict=True
    ):
        assert new.dtype == old.dtype
        wanted = old.half().float() if old.ndim > 1 else old
        assert torch.equal(new, wanted), name
    stored = safetensors.torch.load_file(shipped.with_suffix(".safetensors"))
    assert {str(t.dtype) for t in stored.values() if t.ndim > 1} == {"torch.float16"}
    whole = (run / "model.safetensors").stat().st_size
    assert shipped.with_suffix(".safetensors").stat().st_size < 0.6 * whole
    described = describe(shipped)
    assert described["weights"] == "float16"
    assert described["log"] == "train/logs/mine.csv"
    images = _problem(recipe_from(described["recipe"]))
    right = results.measure(recipe_from(described["recipe"]), after, images)
    assert right["test_accuracy"] == described["test_accuracy"]
    assert right["macs"] == described["macs"]


def test_of_a_twin_the_description_is_kept(run: Path) -> None:
    path = run / "model.json"
    described = json.loads(path.read_text()) | {"twin_of": {"name": "mine", "sha256": "1"}}
    path.write_text(json.dumps(described))
    results.ship(run)
    assert not list((run.parent / "package" / "checkpoints").iterdir())
    assert results.all_results()["mine"]["twin_of"]["sha256"] == "1"


def test_a_shipped_checkpoint_can_be_measured_again(run: Path) -> None:
    results.ship(run)
    path = run.parent / "package" / "checkpoints" / "mine.json"
    before = json.loads(path.read_text())
    altered = before | {"dynamics": None, "test_accuracy": 2.0}
    path.write_text(json.dumps(altered))
    results.measure_again("mine")
    assert json.loads(path.read_text()) == before
    assert before["dynamics"]["channels"] == 112


def test_half_precision_that_costs_accuracy_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run / "model.json"
    better = json.loads(path.read_text())
    better["test_accuracy"] += 0.02
    path.write_text(json.dumps(better))
    with pytest.raises(ModelError, match=r"mine loses 2\.00% of accuracy in half precision"):
        results.ship(run, half=True)
    assert not list((run.parent / "package").rglob("mine*"))


def test_of_large_networks_the_description_is_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "LARGEST_BYTES", 1000)
    results.ship(run)
    files = {
        path.relative_to(run.parent / "package").as_posix()
        for path in (run.parent / "package").rglob("*.*")
    }
    assert files == {"logs/mine.csv", "logs/mine.json"}
    assert list(results.all_results()) == ["mine"]
    assert "| mine | FBS, density 0.5" in results.results()
