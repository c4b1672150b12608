"""`headgate image` and `headgate flash`, as somebody at a terminal or a script calls them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.cli.image import PASSWORD_VARIABLE
from tests import sd_images
from tests.fake_bundle import bundle as fake_bundle
from tests.unit.test_image import KEY


class Terminal(io.StringIO):
    """A standard input that somebody types at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "pi.img"
    path.write_bytes(bytes(510) + b"\x55\xaa" + b"image" * 2048)
    return path


def test_flash_writes_a_new_file_without_asking(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "card.img"
    assert main(["flash", str(image), str(card), "--json"]) == 0
    assert card.read_bytes() == image.read_bytes()
    assert json.loads(capsys.readouterr().out)["size_bytes"] == image.stat().st_size


@pytest.mark.parametrize(("typed", "code"), [("card.img\n", 0), ("yes\n", 2), ("\n", 2)])
def test_flash_asks_for_the_name_to_be_typed(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    card = tmp_path / "card.img"
    card.write_bytes(b"precious")
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert main(["flash", str(image), str(card)]) == code
    assert card.read_bytes() == (image.read_bytes() if code == 0 else b"precious")


def test_flash_needs_yes_where_nobody_can_type(
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = tmp_path / "card.img"
    card.write_bytes(b"precious")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["flash", str(image), str(card)]) == 2
    assert "a script has to say --yes" in capsys.readouterr().err
    assert card.read_bytes() == b"precious"
    assert main(["flash", str(image), str(card), "--yes"]) == 0
    assert card.read_bytes() == image.read_bytes()


def test_a_dry_run_writes_nothing(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "card.img"
    assert main(["flash", str(image), str(card), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not card.exists()


def test_flash_alone_lists_disks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flash", "--json"]) == 0
    assert all(disk["removable"] for disk in json.loads(capsys.readouterr().out)["disks"])


def arguments(tmp_path: Path) -> list[str]:
    bundle, key = tmp_path / "network.hgb", tmp_path / "id.pub"
    fake_bundle({"code/runner": b"\x7fELF fake"}, "rpi4").save(bundle)
    key.write_text(f"{KEY}\n")
    base = sd_images.make_sd_image(tmp_path / "base.img", sd_images.TRIXIE)
    words = ["image", "--board", "rpi4", "--bundle", bundle, "--ssh-key", key, "--base", base]
    return [*map(str, words), "-o", str(tmp_path / "pi.img")]


def test_image_takes_the_wifi_password_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "password")
    words = [*arguments(tmp_path), "--wifi", "IEEE", "--wifi-country", "GB", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["first_boot"] == "cloud-init"
    network = sd_images.read_file(tmp_path / "pi.img", "network-config").decode()
    assert "f42c6fc52df0ebef" in network and '"password"' in network


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wifi", "IEEE"], "--wifi needs --wifi-country"),
        (["--wifi-country", "GB"], "--wifi-country needs --wifi"),
        (["--wifi", "IEEE", "--wifi-country", "GB"], "put it into $HEADGATE_WIFI_PASSWORD"),
        (["--hostname", "a b"], "--hostname 'a b'"),
        (["--ssh-key", "no.pub"], "there is no no.pub; make a key"),
        (["--user", "backup"], "--user 'backup' is a user or group of the system"),
        (["--board", "rpi9"], "unknown --board 'rpi9'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main([*arguments(tmp_path), *words]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "pi.img").exists()


@pytest.mark.parametrize(
    ("name", "what"), [("id.pub", "public key"), ("network.hgb", "bundle"), ("base.img", "base")]
)
def test_no_input_is_replaced_by_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, what: str
) -> None:
    words = arguments(tmp_path)
    before = (tmp_path / name).read_bytes()
    assert main([*words[:-1], str(tmp_path / name)]) == 2
    assert f"{name} is the {what}" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def test_without_a_base_it_says_where_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(tmp_path)
    place = words.index("--base")
    assert main(words[:place] + words[place + 2 :]) == 1
    assert "raspberrypi.com/software" in capsys.readouterr().err
