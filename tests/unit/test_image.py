"""SD images, made the user's own: what is written, for whom, and what is refused."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate.device import Bundle
from headgate.device.agent_archive import agent_archive
from headgate.device.image import Settings, Wifi, make_image
from headgate.device.image.first_run import script
from headgate.device.image.settings import read_keys
from headgate.errors import BundleError, HeadgateError, InputError, StorageError, UsageError
from tests import sd_images
from tests.fake_bundle import bundle as fake_bundle

KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJWrmfXTJcRKWVVYxG6cAsuGDVvTFfVtAONuxGMOz9AV me@my laptop"
)
SETTINGS = Settings("bench-1", (KEY,), "maker")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "network.hgb"
    fake_bundle({"code/runner": b"\x7fELF fake"}, "rpi4").save(path)
    return path


@pytest.fixture
def bookworm(tmp_path: Path) -> Path:
    return sd_images.make_sd_image(tmp_path / "bookworm.img", sd_images.BOOKWORM)


@pytest.fixture
def trixie(tmp_path: Path) -> Path:
    return sd_images.make_sd_image(tmp_path / "trixie.img", sd_images.TRIXIE)


def make(base: Path, bundle: Path, settings: Settings = SETTINGS, board: str = "rpi4") -> Path:
    """The image of that base; the bare name of the form that was chosen lies beside it."""
    output = base.with_name("pi.img")
    form = make_image(base, output, board, bundle, settings)
    base.with_name("form").write_text(form)
    return output


def yaml(data: bytes) -> Any:
    """What we write is JSON, which is YAML."""
    return json.loads(data.removeprefix(b"#cloud-config\n"))


def test_bookworm_is_customised_by_a_script_that_systemd_runs(bookworm: Path, bundle: Path) -> None:
    image = make(bookworm, bundle)
    assert bookworm.with_name("form").read_text() == "firstrun.sh"
    assert sd_images.read_file(image, "firstrun.sh").decode() == script(SETTINGS)
    line = sd_images.read_file(image, "cmdline.txt").decode()
    assert line.startswith(sd_images.BOOKWORM["cmdline.txt"].strip() + " ")
    assert line.count("\n") == 1
    assert line.endswith(
        " systemd.run=-/boot/firmware/firstrun.sh systemd.run=-/boot/firstrun.sh "
        "systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n"
    )


def test_trixie_is_customised_by_cloud_init(trixie: Path, bundle: Path) -> None:
    image = make(trixie, bundle)
    assert trixie.with_name("form").read_text() == "cloud-init"
    instance = yaml(sd_images.read_file(image, "meta-data"))["instance-id"]
    line = sd_images.read_file(image, "cmdline.txt").decode()
    assert line == f"{sd_images.CMDLINE} resize ds=nocloud;i={instance}\n"
    text = sd_images.read_file(image, "user-data")
    assert text.startswith(b"#cloud-config\n")
    data = yaml(text)
    assert data["hostname"] == "bench-1"
    assert data["user"] == {
        "name": "maker",
        "shell": "/bin/bash",
        "lock_passwd": True,
        "sudo": None,
        "ssh_authorized_keys": [KEY],
    }
    assert data["ssh_pwauth"] is False
    assert ["systemctl", "enable", "--now", "ssh"] in data["runcmd"]
    assert data["runcmd"][1][-1] == "maker"
    # Nothing to say about the network: what the image has stays.
    assert sd_images.read_file(image, "network-config") == b"# Empty.\n"


def test_an_older_instance_on_the_command_line_is_replaced(tmp_path: Path, bundle: Path) -> None:
    files = sd_images.TRIXIE | {"cmdline.txt": "root=/dev/x ds=nocloud;i=rpios-1 resize\n"}
    image = make(sd_images.make_sd_image(tmp_path / "base.img", files), bundle)
    assert sd_images.read_file(image, "cmdline.txt").decode().count("ds=") == 1


def test_bundle_agent_and_services_are_there_to_the_byte(bookworm: Path, bundle: Path) -> None:
    image = make(bookworm, bundle)
    assert sd_images.read_file(image, "headgate/bundle.hgb") == bundle.read_bytes()
    assert sd_images.read_file(image, "headgate/headgate-agent.pyz") == agent_archive()
    folder = Path(sys.modules["headgate.device.image"].__path__[0])
    for path in [*sorted((folder / "board").iterdir()), folder / "on_board.py"]:
        assert sd_images.read_file(image, f"headgate/{path.name}") == path.read_bytes()


def test_everything_outside_the_boot_partition_is_as_it_was(bookworm: Path, bundle: Path) -> None:
    root = (sd_images.BOOT_START + sd_images.BOOT_SECTORS) * sd_images.SECTOR_BYTES
    with bookworm.open("r+b") as file:
        file.seek(root)
        file.write(os.urandom(4096))
    image = make(bookworm, bundle)
    before, after = bookworm.read_bytes(), image.read_bytes()
    start = sd_images.BOOT_START * sd_images.SECTOR_BYTES
    assert after[:start] == before[:start]
    assert after[root:] == before[root:]
    assert image.stat().st_blocks * 512 < len(before) / 4


def test_equal_input_gives_equal_images(bookworm: Path, bundle: Path) -> None:
    first = hashlib.sha256(make(bookworm, bundle).read_bytes()).hexdigest()
    assert hashlib.sha256(make(bookworm, bundle).read_bytes()).hexdigest() == first


def test_compressed_bases_are_unpacked(bookworm: Path, bundle: Path) -> None:
    packed = bookworm.with_name("base.img.xz")
    packed.write_bytes(lzma.compress(bookworm.read_bytes(), preset=0))
    assert make(packed, bundle).read_bytes() == make(bookworm, bundle).read_bytes()


def test_the_instance_differs_when_the_image_does(trixie: Path, bundle: Path) -> None:
    instances = {
        yaml(sd_images.read_file(make(trixie, bundle, settings), "meta-data"))["instance-id"]
        for settings in (SETTINGS, SETTINGS, Settings("bench-2", (KEY,), "maker"))
    }
    assert len(instances) == 2


def test_an_image_is_customised_once(bookworm: Path, bundle: Path) -> None:
    once = make(bookworm, bundle).rename(bookworm.with_name("once.img"))
    with pytest.raises(InputError, match="was customised before"):
        make(once, bundle)
    assert not bookworm.with_name("pi.img").exists()


def refused(tmp_path: Path, base: Path, message: str, bundle: Path, board: str = "rpi4") -> None:
    """The error is one line, and no image nor half of one stays."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(HeadgateError, match=message) as caught:
        make_image(base, tmp_path / "pi.img", board, bundle, SETTINGS)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_no_image_is_refused(tmp_path: Path, bundle: Path) -> None:
    text = tmp_path / "text.img"
    text.write_bytes(b"text" * 1000)
    refused(tmp_path, text, "no partition table", bundle)
    for name, kind, files, message in [
        ("linux.img", 0x83, sd_images.BOOKWORM, "no FAT partition"),
        ("gpt.img", 0xEE, sd_images.BOOKWORM, "has a GPT"),
        ("other.img", 0x0C, {"readme.txt": "x"}, "no cmdline.txt"),
    ]:
        base = sd_images.make_sd_image(tmp_path / name, files, kind=kind)
        refused(tmp_path, base, message, bundle)
    cut = sd_images.make_sd_image(tmp_path / "cut.img", sd_images.BOOKWORM)
    os.truncate(cut, 8 * 1024 * 1024)
    refused(tmp_path, cut, "is truncated", bundle)


def test_a_bundle_for_another_board_is_refused(
    tmp_path: Path, bookworm: Path, bundle: Path
) -> None:
    refused(tmp_path, bookworm, "is compiled for rpi4, rpi5 needs --target rpi5", bundle, "rpi5")
    refused(tmp_path, bookworm, "unknown --board 'rpi6'. Did you mean", bundle, "rpi6")
    refused(tmp_path, bookworm, "use headgate deploy", bundle, "jetson-nano")
    no_runner = tmp_path / "no-runner.hgb"
    opened = Bundle.open(bundle)
    members = {**opened.members, "code/network.so": b"\x7fELF"}
    del members["code/runner"]
    keys = {k: v for k, v in opened.manifest.items() if k not in ("schema", "members")}
    Bundle(keys, members).save(no_runner)
    with pytest.raises(BundleError, match="has no code/runner"):
        make_image(bookworm, tmp_path / "pi.img", "rpi4", no_runner, SETTINGS)


def test_a_boot_partition_without_room_is_refused(tmp_path: Path, bundle: Path) -> None:
    base = sd_images.make_sd_image(tmp_path / "base.img", sd_images.BOOKWORM, boot_sectors=24576)
    refused(tmp_path, base, "MB free and .* are needed; deploy this bundle over ssh", bundle)


def test_the_base_is_not_overwritten(bookworm: Path, bundle: Path) -> None:
    with pytest.raises(UsageError, match="is the base image"):
        make_image(bookworm, bookworm, "rpi4", bundle, SETTINGS)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_nothing(full_disk: Path, bookworm: Path, bundle: Path) -> None:
    before = sorted(full_disk.iterdir())
    with pytest.raises(StorageError):
        make_image(bookworm, full_disk / "pi.img", "rpi4", bundle, SETTINGS)
    assert sorted(full_disk.iterdir()) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"hostname": "a b"},
        {"hostname": "-a"},
        {"hostname": "a\nb"},
        {"hostname": "$(reboot)"},
        {"hostname": "x" * 64},
        {"hostname": ""},
        {"user": "root"},
        {"user": "headgate"},
        {"user": "a:b"},
        {"user": "Ann"},
        {"user": "a;reboot"},
        {"ssh_keys": ()},
        {"ssh_keys": ("ssh-ed25519 nonsense",)},
        {"ssh_keys": (KEY + "\nPermitRootLogin yes",)},
        {"ssh_keys": (KEY.replace("ssh-ed25519", "ssh-rsa"),)},
    ],
)
def test_names_and_keys_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**({"hostname": "pi", "ssh_keys": (KEY,)} | changes))
    assert "\n" not in str(caught.value)


def test_keys_are_read_from_what_openssh_writes() -> None:
    assert read_keys(f"# mine\r\n{KEY}\r\n\n{KEY}\n", "keys") == (KEY, KEY)
    with pytest.raises(UsageError, match="must not leave this machine"):
        read_keys("-----BEGIN OPENSSH PRIVATE KEY-----\n", "id_ed25519")
    with pytest.raises(UsageError, match="holds no public key"):
        read_keys("\n", "empty.pub")


def test_the_wifi_key_is_what_wpa_derives() -> None:
    # IEEE 802.11-2016, annex J.4.2.
    key = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert Wifi.from_password("IEEE", "password", "GB").psk == key
    assert Wifi.from_password("IEEE", key, "GB").psk == key
    assert Wifi.from_password("IEEE", None, "GB").psk is None
    for name, password, country in [
        ("", "password", "GB"),
        ("x" * 33, "password", "GB"),
        ("IEEE", "short", "GB"),
        ("IEEE", "x" * 64, "GB"),
        ("IEEE", "pass\nword", "GB"),
        ("IEEE", "password", "gb"),
        ("IEEE", "password", "GB init=/bin/sh"),
    ]:
        with pytest.raises(UsageError):
            Wifi.from_password(name, password, country)


NASTY = "a'b\"c$(reboot)`\\ ü\n"


def test_the_wifi_is_set_up_whatever_its_name_holds(trixie: Path, bundle: Path) -> None:
    wifi = Wifi.from_password(NASTY, "pass'word\"$x", "DE")
    settings = Settings("pi", (KEY,), wifi=wifi)
    image = make(trixie, bundle, settings)
    network = yaml(sd_images.read_file(image, "network-config"))["network"]
    assert network["wifis"]["wlan0"]["access-points"] == {NASTY: {"password": wifi.psk}}
    line = sd_images.read_file(image, "cmdline.txt").decode()
    assert line.endswith(" cfg80211.ieee80211_regdom=DE\n")
    text = script(settings)
    assert NASTY not in text
    assert NASTY.encode().hex() in text
    # The password itself is nowhere on the card.
    assert b"pass'word" not in image.read_bytes()


def test_an_open_network_has_no_key(trixie: Path, bundle: Path) -> None:
    settings = Settings("pi", (KEY,), wifi=Wifi.from_password("Cafe", None, "FR"))
    network = yaml(sd_images.read_file(make(trixie, bundle, settings), "network-config"))
    access = network["network"]["wifis"]["wlan0"]["access-points"]["Cafe"]
    assert access == {"auth": {"key-management": "none"}}
    assert "key_mgmt=NONE" in script(settings)


@pytest.mark.parametrize("sudo", [False, True])
def test_the_script_is_one_that_a_shell_reads(sudo: bool) -> None:
    settings = Settings("pi", (KEY, KEY), sudo=sudo, wifi=Wifi(NASTY, None, "DE"))
    checked = subprocess.run(["sh", "-n"], input=script(settings), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert ("NOPASSWD" in script(settings)) == sudo


def test_there_is_no_password_and_no_other_way_in() -> None:
    text = script(SETTINGS)
    for line in (
        "usermod -p '*' \"$login\"",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin no",
        "rm -f /etc/ssh/ssh_host_*\nssh-keygen -A",
        "rm -f /etc/sudoers.d/010_*-nopasswd",
    ):
        assert line in text


@pytest.mark.parametrize("unit", ["headgate-report.service", "headgate@.service"])
def test_what_runs_the_bundle_is_unprivileged(unit: str) -> None:
    folder = Path(sys.modules["headgate.device.image"].__path__[0])
    lines = (folder / "board" / unit).read_text().splitlines()
    for line in (
        "User=headgate",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "PrivateNetwork=yes",
    ):
        assert line in lines
    assert not any(line.startswith("ExecStart=+") for line in lines)
