"""A run goes on with what it began with, or says what is different."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import DataError, RecipeError, StorageError, UsageError
from headgate.train import loop, state
from headgate.train.data.dataset import Dataset, synthetic
from headgate.train.data.fingerprint import differences, of_arrays, of_files
from headgate.train.data.folders import image_folder
from headgate.train.models import create_model
from headgate.train.recipe import Recipe, recipe_from
from headgate.train.state import Origin
from tests.image_folders import WNIDS, class_folders, picture, save

FIRST = f"{WNIDS[0]}/{WNIDS[0]}_0.JPEG"


def rename_class(place: Path) -> None:
    for side in ("train", "val"):
        (place / side / WNIDS[0]).rename(place / side / "zebra")


def swap_classes(place: Path) -> None:
    for side in ("train", "val"):
        (place / side / WNIDS[0]).rename(place / side / "x")
        (place / side / WNIDS[1]).rename(place / side / WNIDS[0])
        (place / side / "x").rename(place / side / WNIDS[1])


def add_class(place: Path) -> None:
    for side in ("train", "val"):
        save(place / side / "zebra" / "a.png", picture(0, 0))


def remove_images(place: Path) -> None:
    (place / "train" / FIRST).unlink()
    (place / "train" / WNIDS[2] / f"{WNIDS[2]}_1.JPEG").unlink()


def add_image(place: Path) -> None:
    save(place / "val" / WNIDS[1] / "new.png", picture(1, 1))


def rename_image(place: Path) -> None:
    (place / "train" / FIRST).rename(place / "train" / WNIDS[0] / "other.JPEG")


def exchange_image(place: Path) -> None:
    save(place / "val" / WNIDS[3] / f"{WNIDS[3]}_3.JPEG", picture(0, 99, 20, 20))


CHANGES: dict[Callable[[Path], None], list[str]] = {
    rename_class: [f"gone: class '{WNIDS[0]}'", "new: class 'zebra'"],
    swap_classes: [
        "training images of other names, sizes or classes",
        "test images of other names, sizes or classes",
    ],
    add_class: ["new: class 'zebra'"],
    remove_images: [f"10 training images for 12 ('{WNIDS[0]}' -1, '{WNIDS[2]}' -1)"],
    add_image: [f"5 test images for 4 ('{WNIDS[1]}' +1)"],
    rename_image: ["training images of other names, sizes or classes"],
    exchange_image: ["test images of other names, sizes or classes"],
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_has_changed_in_a_folder_is_said(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    place = class_folders(tmp_path, train=3, test=1)
    before = json.loads(json.dumps(of_files(image_folder(place))))
    assert differences(before, of_files(image_folder(place))) == []
    change(place)
    assert differences(before, of_files(image_folder(place))) == CHANGES[change]


def test_many_changes_are_counted_not_listed() -> None:
    def described(count: int) -> dict[str, object]:
        side = {"images": [1] * count, "sha256": str(count)}
        return {"classes": [str(i) for i in range(count)], "train": side, "test": side}

    assert differences(described(9), described(2)) == ["gone: class '2', '3', '4' and 4 more"]


def test_classes_in_another_order_are_told() -> None:
    side = {"images": [1, 1], "sha256": ""}
    before = {"classes": ["a", "b"], "train": side, "test": side}
    assert differences(before, before | {"classes": ["b", "a"]}) == ["classes in another order"]


def test_an_image_of_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = image_folder(class_folders(tmp_path, train=1, test=1))
    (tmp_path / "train" / FIRST).unlink()
    with pytest.raises(DataError, match=rf"image .*{FIRST} cannot be read \(No such file"):
        of_files(found)


def test_names_that_are_not_utf8_are_taken(tmp_path: Path) -> None:
    place = class_folders(tmp_path, train=1, test=1)
    name = os.fsencode(place / "train" / WNIDS[0]) + b"/\xff.png"
    save(place / "a.png", picture(0, 0))
    (place / "a.png").rename(os.fsdecode(name))
    assert of_files(image_folder(place))["train"]["images"] == [2, 1, 1, 1]


def test_arrays_are_told_by_their_contents() -> None:
    dataset, classes = synthetic(), [str(i) for i in range(10)]
    before = of_arrays(dataset, classes)
    assert sum(before["train"]["images"]) == len(dataset.train_images)
    arrays = {name: array.copy() for name, array in dataset.arrays().items()}
    assert differences(before, of_arrays(Dataset(**arrays), classes)) == []
    arrays["test_images"][0, 0, 0, 0] ^= 1
    changed = ["test images of other names, sizes or classes"]
    assert differences(before, of_arrays(Dataset(**arrays), classes)) == changed
    arrays["train_labels"] = np.zeros_like(arrays["train_labels"])
    (train, _) = differences(before, of_arrays(Dataset(**arrays), classes))
    assert train.startswith(f"{len(dataset.train_images)} training images for ")


def test_states_from_before_the_data_was_kept_go_on() -> None:
    now = Origin({"epochs": 1}, {"classes": []}, "sum")
    now.demand_same(Origin({"epochs": 1}), Path("run"))
    with pytest.raises(RecipeError, match=r"the run in run .* another teacher \(its weights\)"):
        now.demand_same(Origin({"epochs": 1}, None, "another"), Path("run"))


# A whole run


TINY = {"dataset": "folder", "image_size": 16, "epochs": 1, "batch_size": 8, "crop_padding": 0}


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Recipe]:
    """The folder of a finished run of one epoch, and its recipe; the images are in ``data``."""
    place = class_folders(tmp_path / "data", train=2, test=1)
    recipe = recipe_from(TINY | {"data_folder": str(place)})
    loop.train(recipe, tmp_path / "run")
    return tmp_path / "run", recipe


def test_a_run_does_not_go_on_with_other_data(run: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = run
    loop.train(recipe, folder, resume=True)
    rename_class(tmp_path / "data")
    with pytest.raises(DataError) as caught:
        loop.train(recipe, folder, resume=True)
    assert str(caught.value) == (
        f"the data set has changed since the run in {folder} was started: gone: class "
        f"'{WNIDS[0]}'; new: class 'zebra'. Put it back as it was, or choose another folder"
    )
    # Another number of classes makes another network: the data is what is complained about.
    add_class(tmp_path / "data")
    save(tmp_path / "data" / "train" / "yak" / "a.png", picture(0, 0))
    save(tmp_path / "data" / "val" / "yak" / "a.png", picture(0, 0))
    with pytest.raises(DataError, match="new: class 'yak', 'zebra'"):
        loop.train(recipe, folder, resume=True)


def test_a_state_that_does_not_fit_the_network_is_one_line(
    run: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe = run
    make = loop.network.make
    monkeypatch.setattr(loop.network, "make", lambda recipe, classes: make(recipe, classes + 1))
    with pytest.raises(StorageError, match=r"state\.json cannot be used .*in another folder") as e:
        loop.train(recipe, folder, resume=True)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["recipe.toml", "tensorboard"])
def test_a_folder_that_cannot_be_written_to_is_one_line(
    run: tuple[Path, Recipe], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe = run
    if name == "recipe.toml":
        (folder / name).unlink()
        (folder / name).mkdir()
    else:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).touch()
    monkeypatch.setattr(loop.Run, "_epoch", lambda run: pytest.fail("it began to train"))
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    with pytest.raises(StorageError, match=f"cannot write .*{name}: "):
        loop.train(recipe, folder, resume=True)


def test_a_state_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert state.load_state(tmp_path) is None
    assert state.load_state(tmp_path / "none") is None
    (tmp_path / state.JSON_NAME).mkdir()
    with pytest.raises(StorageError, match=r"state\.json cannot be used .*Is a directory"):
        state.load_state(tmp_path)
    (tmp_path / state.JSON_NAME).rmdir()
    for content in (b"\xff", b"[]", b"{}", b'{"tensors": 1}'):
        (tmp_path / state.JSON_NAME).write_bytes(content)
        with pytest.raises(StorageError, match=r"state\.json cannot be used"):
            state.load_state(tmp_path)


# Options of the network that the data or another option decides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model_options.num_classes=5", r"model_options\.num_classes .*: the data set says it"),
        ("model_options.name=vgg16", r"model_options\.name .*: the option model says it"),
        ("gate_options.density=0.5", r"gate_options\.density .*: the option density says it"),
        ("gate_options.layers=x", r"gate_options\.layers .*: the option gate_layers says it"),
    ],
)
def test_what_is_said_elsewhere_is_no_option_of_a_table(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from({"dataset": "synthetic", "gate": "fbs"}, [override])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model_options": {"shortcut": "b"}}, r"model_options\.shortcut is 'b', which is unknown"),
        ({"model_options": {"shortcut": 3}}, r"model_options\.shortcut is 3, which is unknown"),
        (
            {"model": "vgg16", "model_options": {"dropout": "x"}},
            r"model_options\.dropout is 'x', not a number",
        ),
        (
            {"start_from": "resnet8", "model_options": {"shortcut": "A"}},
            r"'resnet8' was made with model_options = \{\}: ask for the same",
        ),
    ],
)
def test_options_of_the_network_are_checked(table: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loop.network.make(recipe_from(table))


def test_values_that_no_network_can_be_made_with_are_one_line() -> None:
    for options in ({"dropout": 5.0}, {"num_classes": -1}):
        with pytest.raises(UsageError, match="model 'vgg16' cannot be made with ") as caught:
            create_model("vgg16", **options)
        assert "\n" not in str(caught.value)
