"""Pictures of every kind become the same 8-bit RGB wherever they are read."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from headgate.device.pictures.pixels import to_rgb
from headgate.errors import DataError, InputError
from headgate.images import read_images
from headgate.train.data.image_files import decode

SIDE = 16


PIXELS: dict[str, Any] = {
    "inputs": [{"shape": [1, 3, SIDE, SIDE]}],
    "preprocess": {"mean": [0.0] * 3, "std": [1 / 255] * 3},
}
"""The manifest of a network whose inputs are the levels 0..255 themselves."""


def seen_by_run(path: Path) -> np.ndarray:
    """(SIDE, SIDE, 3) as `headgate run --images` and calibration see it."""
    array = read_images([str(path)], PIXELS).array
    return array[0].transpose(1, 2, 0).round().astype(np.uint8)


def seen_in_training(path: Path) -> np.ndarray:
    """The middle 14 x 14, one pixel to one."""
    return decode(path, round(SIDE * 0.875))


def assert_both_see(path: Path, pixels: np.ndarray, within: int = 0) -> None:
    """``pixels`` (SIDE, SIDE) or (SIDE, SIDE, 3), uint8."""
    wanted = np.broadcast_to(np.atleast_3d(pixels), (SIDE, SIDE, 3)).astype(int)
    assert np.abs(seen_by_run(path) - wanted).max() <= within
    if path.suffix in (".png", ".jpg"):
        assert np.abs(seen_in_training(path) - wanted[1:-1, 1:-1]).max() <= within


def levels() -> np.ndarray:
    """Each of 256 levels once."""
    return np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)


def png(path: Path, bits: int, colour: int, rows: bytes) -> Path:
    """A PNG of 16 x 16 pixels as its standard says, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    stride = len(rows) // SIDE
    filtered = b"".join(b"\0" + rows[i : i + stride] for i in range(0, len(rows), stride))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(filtered))
        + chunk(b"IEND", b"")
    )
    return path


def test_greys_of_sixteen_bits_are_scaled_to_the_nearest_level(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for offset in (-128, 0, 128):  # half of the way to the next level
        deep = np.clip(levels().astype(int) * 257 + offset, 0, 65535)
        Image.fromarray(deep.astype(np.uint16)).save(path)
        assert_both_see(path, levels())


def test_colours_and_opacity_of_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    grey = (levels().astype(np.uint32) * 257).astype(">u2")
    colours = np.stack([grey, grey[::-1], grey.T], axis=-1)
    opaque = np.full_like(grey, 65535)
    rgb = np.stack([levels(), levels()[::-1], levels().T], axis=-1)
    assert_both_see(png(tmp_path / "rgb.png", 16, 2, colours.tobytes()), rgb)
    rgba = np.concatenate([colours, opaque[..., None]], axis=-1)
    assert_both_see(png(tmp_path / "rgba.png", 16, 6, rgba.tobytes()), rgb)
    la = np.stack([grey, opaque], axis=-1)
    assert_both_see(png(tmp_path / "la.png", 16, 4, la.tobytes()), levels())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_greys_of_few_bits_are_scaled(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    values = (levels().astype(int) % (top + 1)).astype(np.uint8)
    spread = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    path = png(tmp_path / "a.png", bits, 0, np.packbits(spread.reshape(SIDE, -1), axis=1).tobytes())
    assert_both_see(path, values * (255 // top))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_black_and_white_are_0_and_255_in_every_colour_model(tmp_path: Path, mode: str) -> None:
    halves = np.where(np.arange(SIDE) < 8, 0, 255).astype(np.uint8)[:, None]
    image = Image.fromarray(np.broadcast_to(halves, (SIDE, SIDE)).copy())
    image = image.convert("LA" if mode == "LA" else "RGB").convert(mode)
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
    image.save(tmp_path / f"a{suffix}", quality=100)
    with Image.open(tmp_path / f"a{suffix}") as saved:
        assert saved.mode == ("RGB" if mode == "YCbCr" else mode)
    assert_both_see(tmp_path / f"a{suffix}", halves, within=2 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA"])
def test_colours_beneath_transparency_count(tmp_path: Path, mode: str) -> None:
    pixels = np.stack([levels() // 8 * 8] * 3, axis=-1)
    image = Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(levels().T.copy()))
        image.convert(mode).save(tmp_path / "a.png")
    else:
        transparency = {"L": 8, "P": bytes(range(0, 250, 10)), "RGB": (8, 8, 8)}[mode]
        image.convert(mode, palette=Image.Palette.ADAPTIVE).save(
            tmp_path / "a.png", transparency=transparency
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_both_see(tmp_path / "a.png", pixels)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_tiffs_of_sixteen_and_twelve_bits(tmp_path: Path, order: str) -> None:
    deep = (levels().astype(np.uint32) * 257).astype(order)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(deep.tobytes(), 16, order[0]))
    assert_both_see(path, levels())
    if order == "<u2":  # Pillow reads no others of these
        path.write_bytes(tiff(deep.tobytes(), 16, order[0], white_is_zero=True))
        assert_both_see(path, 255 - levels())
        twelve = (levels().astype(np.uint32).ravel() * 4095 + 127) // 255
        first, second = twelve[0::2], twelve[1::2]
        packed = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        path.write_bytes(tiff(np.stack(packed, 1).astype(np.uint8).tobytes(), 12, "<"))
        assert_both_see(path, levels())


def tiff(data: bytes, bits: int, order: str, white_is_zero: bool = False) -> bytes:
    """A grey TIFF of 16 x 16 pixels in one strip."""
    tags = {
        256: SIDE,
        257: SIDE,
        258: bits,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: SIDE,
        279: len(data),
    }
    entries = b"".join(
        struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + data


def test_a_pgm_of_ten_bits(tmp_path: Path) -> None:
    ten = (levels().astype(np.uint32) * 1023 // 255).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 1023\n" + ten.tobytes())
    assert_both_see(tmp_path / "a.pgm", levels(), within=1)


@pytest.mark.parametrize(("kind", "words"), [("F", "floating-point numbers"), ("I", "32 bits")])
def test_pixels_whose_white_is_unknown_are_refused(tmp_path: Path, kind: str, words: str) -> None:
    Image.new(kind, (SIDE, SIDE), 1).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif is not an image .*{words}.*: save it again"):
        seen_by_run(tmp_path / "a.tif")


def test_what_an_image_in_memory_was_before_does_not_matter() -> None:
    for mode in ("I;16", "I;16B", "I;16L"):
        image = Image.new(mode, (2, 2), 65535)
        assert np.unique(np.asarray(to_rgb(image))).tolist() == [255]
    for mode in ("La", "RGBa"):
        assert to_rgb(Image.new(mode, (2, 2))).mode == "RGB"


def test_orientation_is_left_as_stored_by_both(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.fromarray(levels()).save(tmp_path / "a.png", exif=exif)
    assert_both_see(tmp_path / "a.png", levels())


# Damage


def huge_text(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(levels()).save(path, pnginfo=text)


def truncated(path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(levels()).save(file, "PNG")
    path.write_bytes(file.getvalue()[:-100])


def bomb(path: Path) -> None:
    png(path, 8, 0, bytes(SIDE * SIDE))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def test_a_large_photograph_is_no_warning(tmp_path: Path) -> None:
    png(tmp_path / "a.png", 1, 0, bytes(SIDE * 2))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 10_000, 10_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    program = (
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from headgate.device.pictures.pixels import to_rgb\n"
        "print(Image.open(sys.argv[1]).size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("(10000, 10000)\n", "")


def no_image(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7 ")


@pytest.mark.parametrize("damage", [huge_text, truncated, bomb, no_image])
def test_what_cannot_be_decoded_is_one_line_with_its_name(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "a.png"
    damage(path)  # type: ignore[operator]
    with pytest.raises(
        InputError, match=rf"{path} is not an image that can be decoded \(.+\): "
    ) as e:
        seen_by_run(path)
    assert "\n" not in str(e.value)
    with pytest.raises(DataError, match=rf"image {path} cannot be read \(.+\): fetch or save") as f:
        seen_in_training(path)
    assert "\n" not in str(f.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(RuntimeError("a\nb"), "a b"), (MemoryError(), "out of memory"), (KeyError(), "Key")],
)
def test_whatever_a_reader_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Exception, words: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise kind

    Image.fromarray(levels()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(InputError, match=words):
        seen_by_run(tmp_path / "a.png")
    with pytest.raises(DataError, match=words):
        seen_in_training(tmp_path / "a.png")


def test_a_folder_of_images_is_read_like_a_class(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(levels()).save(tmp_path / name)
    (tmp_path / "._b.png").write_bytes(b"of a Mac")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "b.png").write_bytes(b"")
    batch = read_images([str(tmp_path)], PIXELS)
    assert batch.names == [str(tmp_path / "a/c.PNG"), str(tmp_path / "b.png")]
    (tmp_path / "d.gif").write_bytes(b"")
    with pytest.raises(DataError, match=r"d\.gif is neither JPEG nor PNG"):
        read_images([str(tmp_path)], PIXELS)


def test_an_array_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"a\.npy is an archive of arrays"):
        read_images([str(tmp_path / "a.npy")], PIXELS)
    (tmp_path / "a.npy").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(InputError, match=r"a\.npy is not an array that NumPy can read: .+"):
        read_images([str(tmp_path / "a.npy")], PIXELS)
