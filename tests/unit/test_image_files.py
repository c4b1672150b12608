"""Images decoded from files: which window, which pixels, what happens to damaged ones."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headgate.errors import DataError
from headgate.train.data import crops, image_files
from headgate.train.data.image_files import ImageFiles, ahead, decode, read
from tests.image_folders import picture, save

sides = st.integers(1, 300)


# Windows


@given(width=sides, height=sides, smallest=st.floats(0.01, 1.0), seed=st.integers(0, 2**31))
def test_random_windows_lie_in_the_image(
    width: int, height: int, smallest: float, seed: int
) -> None:
    draws = crops.draw(20, [seed])
    windows = crops.random_windows(width, height, draws, smallest)
    left, top, right, bottom = windows.T
    assert ((left >= 0) & (left < right) & (right <= width)).all()
    assert ((top >= 0) & (top < bottom) & (bottom <= height)).all()
    alone = [crops.random_windows(width, height, draws[i : i + 1], smallest)[0] for i in range(20)]
    assert np.array_equal(windows, alone)


def test_random_windows_follow_their_formula() -> None:
    # Share of the area, aspect ratio, column, row; the first try is wider than the image.
    draws = np.array([[[1.0, 1.0, 0.5, 0.5], [0.25, 0.5, 0.0, 0.999], [0.0] * 4]])
    windows = crops.random_windows(100, 64, draws, smallest=0.2)
    side = round(np.sqrt((0.2 + 0.8 * 0.25) * 6400))  # 51 x 51
    assert windows.tolist() == [[0, 64 - side, side, 64]]


def test_random_windows_have_the_areas_and_ratios_that_were_asked_for() -> None:
    left, top, right, bottom = crops.random_windows(400, 400, crops.draw(4000, [3]), 0.08).T
    area = (right - left) * (bottom - top) / 160_000
    ratio = (right - left) / (bottom - top)
    assert 0.075 < area.min() < 0.1 and 0.9 < area.max() <= 1.0
    assert 0.45 < area.mean() < 0.54  # Large windows of a wide or high shape are drawn again.
    assert 0.74 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.35


def test_an_image_that_nothing_fits_is_cut_in_the_middle() -> None:
    assert crops.random_windows(300, 30, crops.draw(1, [0]), 1.0).tolist() == [[130, 0, 170, 30]]


def test_the_centre_is_seven_eighths_of_the_shorter_side() -> None:
    assert crops.centre_window(512, 256) == (144.0, 16.0, 368.0, 240.0)


def test_a_crop_of_the_whole_is_the_image_and_a_half_is_scaled_up() -> None:
    images = torch.randint(0, 256, (2, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte()
    whole = np.array([[0, 0, 8, 8]] * 2)
    assert torch.equal(crops.crop_and_resize(images, whole), images)
    corner = crops.crop_and_resize(images, np.array([[4, 0, 8, 4], [0, 4, 4, 8]]))
    for i, part in enumerate((images[0, :4, 4:], images[1, 4:, :4])):
        # Pixel centres lie at one half: bilinear weights are 3/4 and 1/4.
        inner = torch.nn.functional.interpolate(
            part.permute(2, 0, 1)[None].float(), scale_factor=2, mode="bilinear"
        )[0].permute(1, 2, 0)
        difference = (corner[i, 1:-1, 1:-1].float() - inner[1:-1, 1:-1]).abs()
        assert difference.max() <= 0.5 + 1e-3


# Pixels


def test_decoding_takes_the_middle_and_scales_it(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(1, 0, width=64, height=128))
    with Image.open(tmp_path / "a.png") as image:
        resized = image.resize((64, 64), Image.Resampling.BILINEAR, box=(4, 36, 60, 92))
    assert np.array_equal(decode(tmp_path / "a.png", 64), np.asarray(resized))


def test_a_random_window_is_the_one_that_was_drawn(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(1, 0, width=90, height=70))
    draws = crops.draw(1, [5])
    window = crops.random_windows(90, 70, draws, 0.1)[0].tolist()
    with Image.open(tmp_path / "a.png") as image:
        resized = image.resize((32, 32), Image.Resampling.BILINEAR, box=window)
    assert np.array_equal(decode(tmp_path / "a.png", 32, draws, 0.1), np.asarray(resized))


@pytest.mark.parametrize("size", [16, 30, 60, 120, 250])
def test_scaling_while_decoding_changes_little(tmp_path: Path, size: int) -> None:
    # A smooth picture: what differs is the filter, which is no reason to be more than a level off.
    rows, columns = np.mgrid[0:251, 0:333]
    pixels = np.stack([rows * 0.9, columns * 0.7, 128 + 60 * np.sin(rows / 30)], axis=-1)
    image = Image.fromarray(pixels.astype(np.uint8))
    image.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    save(tmp_path / "a.png", Image.open(tmp_path / "a.jpg"))
    exact, quick = decode(tmp_path / "a.png", size), decode(tmp_path / "a.jpg", size)
    assert np.abs(exact.astype(int) - quick).max() <= 3


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB", "1"])
def test_other_colour_models_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix, kind = (".png", "PNG") if mode == "1" else (".jpg", "JPEG")
    picture(0, 0).convert(mode).save(tmp_path / f"a{suffix}", kind)
    assert decode(tmp_path / f"a{suffix}", 8).shape == (8, 8, 3)


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    for index in range(7):
        save(tmp_path / f"{index}.jpg", picture(index % 4, index))
    return ImageFiles(tmp_path, [f"{index}.jpg" for index in range(7)], 16)


def test_files_are_indexed_like_the_tensor_they_stand_for(files: ImageFiles) -> None:
    whole = files[:]
    assert whole.shape == files.shape == (7, 16, 16, 3)
    assert whole.dtype == torch.uint8
    assert len(files) == 7
    assert torch.equal(files[1:6:2], whole[1:6:2])
    rows = torch.tensor([5, 0, 5])
    assert torch.equal(files[rows], whole[rows])
    assert files[3:3].shape == (0, 16, 16, 3)


def test_memory_and_files_are_read_alike(files: ImageFiles) -> None:
    rows, draws = torch.tensor([2, 4]), crops.draw(2, [0])
    memory = torch.randint(0, 256, (7, 16, 16, 3)).byte()
    assert torch.equal(read(memory, rows, None, 0.0), memory[rows])
    windows = crops.random_windows(16, 16, draws, 0.2)
    cut = crops.crop_and_resize(memory[rows], windows)
    assert torch.equal(read(memory, rows, draws, 0.2), cut)
    assert torch.equal(read(files, rows, draws, 0.2), files.read(rows, draws, 0.2))
    assert not torch.equal(read(files, rows, draws, 0.2), files[rows])


def test_files_are_read_ahead_but_not_far_and_in_order(files: ImageFiles) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def fetch(job: int) -> torch.Tensor:
        with lock:
            begun.append(job)
        return torch.tensor(job)

    results = ahead(files, fetch, range(100))
    assert [int(next(results)) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert max(begun) <= 3 + image_files.READ_AHEAD
    assert [int(x) for x in ahead(files, fetch, range(9))] == list(range(9))


# Damage


def test_a_damaged_image_is_one_line_with_its_name(files: ImageFiles) -> None:
    path = files.folder / "3.jpg"
    content = path.read_bytes()
    for damaged in (b"", b"no image", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"image .*/3\.jpg cannot be read \(.+\): fetch") as e:
            files[:]
        assert "\n" not in str(e.value)
    path.unlink()
    with pytest.raises(DataError, match=r"3\.jpg cannot be read \(No such file or directory\)"):
        files[:]


def test_an_error_ahead_is_raised_where_its_batch_would_come(files: ImageFiles) -> None:
    (files.folder / "5.jpg").write_bytes(b"damaged")
    batches = ahead(files, files.__getitem__, [slice(0, 2), slice(2, 4), slice(4, 6)])
    assert len(next(batches)) == len(next(batches)) == 2
    with pytest.raises(DataError, match=r"5\.jpg"):
        next(batches)


@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG"]))
def test_whatever_is_in_a_file_there_is_no_other_error(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = io.BytesIO()
    picture(2, 0).save(file, kind)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with suppress(DataError):
        assert decode(path, 8).shape == (8, 8, 3)
