"""Which files a data set has and which class each belongs to, in every layout that is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headgate.cli import main
from headgate.errors import DataError
from headgate.train.data import cifar, imagenet, places365
from headgate.train.data.cifar import CIFAR10, CIFAR100
from headgate.train.data.dataset import Dataset
from headgate.train.data.folders import Split, image_folder
from tests.image_folders import WNIDS, class_folders, flat_validation, picture, save


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four classes that count as ImageNet's."""
    monkeypatch.setattr(imagenet, "CLASSES", 4)
    return class_folders(tmp_path, train=3, test=2)


def pairs(split: Split) -> set[tuple[str, int]]:
    assert all((split.folder / name).is_file() for name in split.names)
    return set(zip(split.names, split.labels.tolist(), strict=True))


def test_folders_are_classes_in_alphabetical_order(place: Path) -> None:
    found = image_folder(place)
    assert found.classes == WNIDS
    wanted = {(f"{w}/{w}_{i}.JPEG", n) for n, w in enumerate(WNIDS) for i in range(3)}
    assert pairs(found.train) == wanted
    assert len(found.test.names) == 8
    assert found.train.labels.dtype == np.int64


def test_the_order_is_shuffled_but_always_the_same(place: Path) -> None:
    first, again = image_folder(place), image_folder(place)
    assert first.train.names == again.train.names != sorted(first.train.names)


def test_other_files_are_not_images(place: Path) -> None:
    (place / "train" / WNIDS[0] / "readme.txt").write_text("x")
    (place / "train" / ".DS_Store").write_text("x")
    assert len(image_folder(place).train.names) == 12


HIDDEN = [
    ".ipynb_checkpoints/a.jpg",
    "__MACOSX/n01440764/._a.jpg",
    "@eaDir/a.jpg",
    "n01440764/.ipynb_checkpoints/a-checkpoint.jpg",
    "n01440764/._a.jpg",
    "n01440764/Thumbs.db",
    "Thumbs.db",
]


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_or_a_systems_does_not_count(place: Path, side: str, name: str) -> None:
    before = image_folder(place)
    save(place / side / f"{name}.jpg", picture(0, 0))
    (place / side / f"{name}.jpg").rename(place / side / name)
    found = image_folder(place)
    assert found.classes == WNIDS
    assert found.train.names == before.train.names
    assert found.test.names == before.test.names


def test_images_in_folders_of_a_class_are_the_classes(place: Path, tmp_path: Path) -> None:
    save(place / "train" / WNIDS[1] / "more" / "still" / "a.PNG", picture(1, 0))
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "elsewhere" / "b.jpg", picture(2, 0))
    (place / "train" / WNIDS[2] / "linked").symlink_to(tmp_path / "elsewhere")
    (place / "train" / WNIDS[3] / "c.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    found = pairs(image_folder(place).train)
    assert len(found) == 12 + 3
    added = {f"{WNIDS[1]}/more/still/a.PNG": 1, f"{WNIDS[2]}/linked/b.jpg": 2}
    assert found > set((added | {f"{WNIDS[3]}/c.jpg": 3}).items())


def test_images_that_would_be_left_out_are_named(place: Path) -> None:
    inside = place / "train" / WNIDS[0]
    save(place / "train" / "loose.jpg", picture(0, 0))
    fails(place, r"train has images in no class's folder, loose\.jpg for one", image_folder)
    (place / "train" / "loose.jpg").rename(inside / "loose.WEBP")
    fails(place, r"loose\.WEBP is neither JPEG nor PNG: convert it", image_folder)
    (inside / "loose.WEBP").unlink()
    (inside / "gone.jpg").symlink_to("nowhere.jpg")
    fails(place, r"gone\.jpg is no file, or a link to nothing", image_folder)
    (inside / "gone.jpg").unlink()
    (inside / "itself.png").symlink_to("itself.png")
    fails(place, r"itself\.png is no file, or a link to nothing", image_folder)
    (inside / "itself.png").unlink()
    (inside / "again").symlink_to(place / "train" / WNIDS[0])
    fails(place, "again leads back to a folder that it lies in", image_folder)


def write_solution(place: Path, class_of: dict[str, str]) -> None:
    lines = ["ImageId,PredictionString"]
    lines += [f"{Path(n).stem},{w} 1 2 30 40 {w} 5 6 7 8 " for n, w in class_of.items()]
    (place / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")


def write_wnids(place: Path, class_of: dict[str, str]) -> None:
    (place / "val.txt").write_text("".join(f"{n} {w}\n" for n, w in class_of.items()))


def write_numbers(place: Path, class_of: dict[str, str]) -> None:
    lines = (f"{n} {WNIDS.index(w)}\n" for n, w in class_of.items())
    (place / "val.txt").write_text("".join(lines))


def write_ground_truth(place: Path, class_of: dict[str, str]) -> None:
    # The kits number the classes in an order of their own.
    ids = {wnid: number for number, wnid in enumerate(reversed(WNIDS), 1)}
    (place / "map_clsloc.txt").write_text("".join(f"{w} {i} name\n" for w, i in ids.items()))
    lines = (f"{ids[class_of[name]]}\n" for name in sorted(class_of))
    (place / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))


WRITERS = [write_solution, write_wnids, write_numbers, write_ground_truth]


@pytest.mark.parametrize("write", WRITERS)
def test_a_flat_validation_set_gets_its_classes_from_a_list(place: Path, write: object) -> None:
    class_of = flat_validation(place)
    write(place, class_of)  # type: ignore[operator]
    save(place / "val" / ".ipynb_checkpoints" / "a.jpg", picture(0, 0))
    found = imagenet.imagenet(place)
    assert pairs(found.test) == {(name, WNIDS.index(w)) for name, w in class_of.items()}
    assert found.classes == WNIDS


def test_imagenet_with_a_sorted_validation_set_and_in_kaggles_folders(place: Path) -> None:
    sorted_ = imagenet.imagenet(place)
    assert pairs(sorted_.test) == pairs(image_folder(place).test)
    class_of = flat_validation(place)
    write_solution(place, class_of)
    inner = place / "ILSVRC/Data/CLS-LOC"
    inner.mkdir(parents=True)
    for side in ("train", "val"):
        (place / side).rename(inner / side)
    assert pairs(imagenet.imagenet(place).test) == {
        (name, WNIDS.index(w)) for name, w in class_of.items()
    }


def fails(place: Path, match: str, load: object = imagenet.imagenet) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(place)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(place: Path, tmp_path: Path) -> None:
    fails(place / "none", r"there is no folder .*none: .*--set data_folder=FOLDER")
    fails(place / "none", r"there is no folder .*none", image_folder)
    fails(place / "train", r"train/train cannot be read: No such file")
    class_of = flat_validation(place)
    fails(place, r"val is not sorted into classes: put LOC_val_solution\.csv, val\.txt, or")
    write_ground_truth(place, dict(list(class_of.items())[:-1]))
    fails(place, "has 7 lines for 8 images")
    first = min(class_of)
    write_wnids(place, {name: w for name, w in class_of.items() if name != first})
    fails(place, rf"val\.txt does not say which class .*{first}")
    write_wnids(place, class_of | {first: "n99999999"})
    fails(place, rf"puts {first} into class 'n99999999', which train/ has not")
    write_wnids(place, class_of | {first: "4"})
    fails(place, rf"puts {first} into class '4'")
    (place / "val.txt").write_bytes(b"\xff\xfe")
    fails(place, r"val\.txt is no text")


def test_a_wrong_number_of_classes_gives_both_numbers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet, "CLASSES", 1000)
    fails(place, r'has 4 classes, ImageNet has 1000: .*dataset = "folder"')


def test_an_empty_class_and_one_that_only_one_side_has_are_named(place: Path) -> None:
    (place / "train" / "n1").mkdir()
    fails(place, "train/n1 holds no images", image_folder)
    (place / "train" / "n1").rmdir()
    save(place / "val" / "n1" / "a.jpg", picture(0, 0))
    fails(place, r"train has no folder 'n1', but .*val has one", image_folder)
    for path in (place / "val").glob("*/*"):
        path.unlink()
    fails(place, r"val/.* holds no images", image_folder)


# Places365


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places365, "CLASSES", 3)
    names = ("/a/airfield", "/a/apartment_building/outdoor", "/z/zen_garden")
    train, val = [], []
    for label, name in enumerate(names):
        for index in range(1, 4):
            save(tmp_path / f"data_256{name}/{index:08d}.jpg", picture(label, index))
            train.append(f"{name}/{index:08d}.jpg {label}")
        save(tmp_path / f"val_256/Places365_val_{3 - label:08d}.jpg", picture(label, 0))
        val.append(f"Places365_val_{3 - label:08d}.jpg {label}")
    lines = {
        "places365_train_standard.txt": train,
        "places365_val.txt": val,
        "categories_places365.txt": [f"{name} {i}" for i, name in enumerate(names)],
    }
    for file, content in lines.items():
        (tmp_path / file).write_text("\n".join(content) + "\n")
    return tmp_path


def test_places365_is_read_by_its_lists(places: Path) -> None:
    found = places365.places365(places)
    assert found.classes == ("airfield", "apartment_building/outdoor", "zen_garden")
    assert ("a/apartment_building/outdoor/00000002.jpg", 1) in pairs(found.train)
    assert len(found.train.names) == 9
    assert pairs(found.test) == {(f"Places365_val_{3 - i:08d}.jpg", i) for i in range(3)}
    (places / "data_256").rename(places / "data_large_standard")
    assert len(pairs(places365.places365(places).train)) == 9


def test_places365_is_read_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places365, "CLASSES", 4)
    found = places365.places365(class_folders(tmp_path, 2, 1))
    assert len(found.train.names) == 8
    monkeypatch.setattr(places365, "CLASSES", 365)
    fails(tmp_path, "has 4 classes, Places365 has 365", places365.places365)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("places365_val.txt", "a.jpg 3\n", r"puts a\.jpg into class 3, there are 3"),
        ("places365_val.txt", "a.jpg\n", r"the line 'a\.jpg' is no name and class"),
        ("places365_val.txt", "a.jpg x\n", r"'x' of a\.jpg is no class's number"),
        ("places365_val.txt", "", r"places365_val\.txt is empty"),
        ("categories_places365.txt", "/a/b 0\n", "has 1 classes, Places365 has 3"),
        ("categories_places365.txt", "/a/b 0\n/a/c 1\n/a/d 3\n", "does not number"),
    ],
)
def test_lists_that_contradict_themselves(
    places: Path, file: str, content: str, message: str
) -> None:
    (places / file).write_text(content)
    fails(places, message, places365.places365)


def test_places365_without_its_images_names_the_folders(places: Path) -> None:
    (places / "places365_val.txt").rename(places / "elsewhere.txt")
    fails(places, r"places365_val\.txt cannot be read: No such file", places365.places365)
    (places / "val_256").rename(places / "elsewhere")
    fails(places, "has none of the folders val_256, val_large", places365.places365)


# CIFAR-100


def records(images: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([coarse[:, None], fine[:, None], planes], axis=1).tobytes()


@pytest.fixture
def hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Two training images and one test image a class, as the binary files in ``tmp_path``."""
    monkeypatch.setattr(cifar, "COUNTS", {"training": 2, "test": 1})
    random = np.random.default_rng(0)
    sides = []
    for name, count in (("train.bin", 200), ("test.bin", 100)):
        images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        fine = random.permutation(np.arange(count, dtype=np.uint8) % 100)
        (tmp_path / name).write_bytes(records(images, fine // 5, fine))
        sides += [images, fine]
    return Dataset(*sides)


def test_a_cifar100_record_is_two_labels_then_planes(tmp_path: Path, hundred: Dataset) -> None:
    found = CIFAR100.load(tmp_path)
    for name, array in hundred.arrays().items():
        assert np.array_equal(found.arrays()[name], array), name
    assert len(CIFAR100.classes) == len(set(CIFAR100.classes)) == 100
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)


def test_cifar100_is_fetched_from_own_files_and_kept(tmp_path: Path, hundred: Dataset) -> None:
    stored = CIFAR100.fetch(tmp_path, tmp_path / "kept")
    assert stored.name == "cifar100.safetensors"
    assert CIFAR100.load(tmp_path / "kept").checksums() == hundred.checksums()
    fails(tmp_path / "none", "CIFAR-100 is not in .*headgate data cifar100", CIFAR100.load)


def test_files_that_are_not_cifar100_say_why(tmp_path: Path, hundred: Dataset) -> None:
    path = tmp_path / "train.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    fails(tmp_path, r"train\.bin has .* not a multiple of 3074", CIFAR100.load)
    path.write_bytes(whole[:-3074])
    fails(tmp_path, r"is not CIFAR-100: 1 training images of class \d+, expected 2", CIFAR100.load)
    path.write_bytes(whole[:1] + b"\xc8" + whole[2:])
    fails(tmp_path, "a training label is 200, the largest is 99", CIFAR100.load)
    # CIFAR-10's file under CIFAR-100's name.
    path.write_bytes(bytes(CIFAR10.record_bytes * 7))
    fails(tmp_path, "not a multiple of 3074", CIFAR100.load)


# The command line


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_headgate_data_checks_a_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = output(capsys, "data", "imagenet", place, "--decode")
    assert code == 0
    assert "4 classes, 12 training and 8 test images, all of them decode" in out
    code, out, _ = output(capsys, "data", "folder", place, "--json")
    assert json.loads(out)["images"] == {"train": 12, "test": 8}
    damaged = place / "val" / WNIDS[2] / f"{WNIDS[2]}_3.JPEG"
    damaged.write_bytes(b"\xff\xd8\xff")
    code, _, err = output(capsys, "data", "imagenet", place, "--decode")
    assert code == 1
    assert f"image {damaged} cannot be read" in err
    code, _, err = output(capsys, "data", "places365", place)
    assert code == 1
    assert "has 4 classes, Places365 has 365" in err


def test_headgate_data_fetches_cifar100(
    tmp_path: Path, hundred: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    code, out, _ = output(capsys, "data", "cifar100", "--from", tmp_path, "--folder", kept)
    assert code == 0
    assert "headgate train resnet20-cifar100" in out
    assert (kept / "cifar100.safetensors").exists()
