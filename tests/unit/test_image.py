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
from headgate.device.agent_archive import agent_archive, on_board_archive
from headgate.device.boards import kinds
from headgate.device.flash.mbr import find_boot_partition
from headgate.device.image import Settings, Wifi, cloud_init, make_image
from headgate.device.image.fat import BootPartition
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
    runs = data["runcmd"]
    # The right to become root goes before anything can fail.
    assert runs[1] == ["sh", "-c", cloud_init.NO_SUDO]
    assert runs[2][-1] == "maker"
    assert ["systemctl", "mask", "userconfig.service"] in data["bootcmd"]
    assert data["bootcmd"][-1] == ["systemctl", "enable", "getty@tty1.service"]
    # Nothing to say about the network: what the image has stays.
    assert sd_images.read_file(image, "network-config") == b"# Empty.\n"


def test_with_sudo_the_right_to_become_root_stays(trixie: Path, bundle: Path) -> None:
    image = make(trixie, bundle, Settings("bench-1", (KEY,), sudo=True))
    data = yaml(sd_images.read_file(image, "user-data"))
    assert data["user"]["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert not any("sudoers" in word for command in data["runcmd"] for word in command)


def run_setup(tmp_path: Path, setup: str) -> tuple[int, str]:
    """cloud-init's call of a setup.sh, with the boot partition in the test's folder."""
    folder = tmp_path / "boot/headgate"
    folder.mkdir(parents=True)
    (folder / "setup.sh").write_text(setup)
    text = cloud_init.SETUP.replace("/boot/firmware /boot", f"{tmp_path}/absent {tmp_path}/boot")
    done = subprocess.run(["sh", "-c", text, "setup", "maker"])
    return done.returncode, (folder / "firstrun.log").read_text()


def test_what_setup_says_is_on_the_boot_partition(tmp_path: Path) -> None:
    code, log = run_setup(tmp_path, 'echo "$1: no space" >&2; exit 7\n')
    assert code == 7
    assert log.splitlines() == [
        "cloud-init: setup.sh started",
        "maker: no space",
        "cloud-init: setup.sh ended with exit status 7",
    ]


def test_the_login_user_has_a_shell() -> None:
    folder = Path(sys.modules["headgate.device.image"].__path__[0])
    setup = (folder / "board/setup.sh").read_text()
    assert 'usermod -aG headgate -s /bin/bash "$login"' in setup


def test_an_older_instance_on_the_command_line_is_replaced(tmp_path: Path, bundle: Path) -> None:
    files = sd_images.TRIXIE | {"cmdline.txt": "root=/dev/x ds=nocloud;i=rpios-1 resize\n"}
    image = make(sd_images.make_sd_image(tmp_path / "base.img", files), bundle)
    assert sd_images.read_file(image, "cmdline.txt").decode().count("ds=") == 1


def test_bundle_agent_and_services_are_there_to_the_byte(bookworm: Path, bundle: Path) -> None:
    image = make(bookworm, bundle)
    assert sd_images.read_file(image, "headgate/bundle.hgb") == bundle.read_bytes()
    assert sd_images.read_file(image, "headgate/headgate-agent.pyz") == agent_archive()
    folder = Path(sys.modules["headgate.device.image"].__path__[0])
    assert sd_images.read_file(image, "headgate/on_board.pyz") == on_board_archive()
    for path in sorted((folder / "board").iterdir()):
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


def test_no_input_is_overwritten(bookworm: Path, bundle: Path) -> None:
    link = bundle.with_name("link.img")
    link.symlink_to(bundle)
    before = bundle.read_bytes()
    for output in (bundle, link):
        with pytest.raises(UsageError, match="is the bundle; choose another name"):
            make_image(bookworm, output, "rpi4", bundle, SETTINGS)
    assert bundle.read_bytes() == before


@pytest.mark.parametrize("name", ["$(touch PWNED).img", "a@@b.img", "a\\$b.img", "-i 'x\".img"])
def test_an_image_may_be_called_anything(
    bookworm: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(bookworm.parent)
    before = set(bookworm.parent.iterdir())
    make_image(bookworm, Path(name), "rpi4", bundle, SETTINGS)
    assert set(bookworm.parent.iterdir()) - before == {bookworm.with_name(name)}
    assert Path(name).read_bytes() == make(bookworm, bundle).read_bytes()


def test_an_image_that_cannot_be_opened_is_no_missing_file(bookworm: Path) -> None:
    with bookworm.open("r+b") as file:
        boot = BootPartition(file.fileno(), find_boot_partition(file, "base"))
        assert boot.read("nothing.txt") is None
        assert boot.read("no/folder.txt") is None
    with pytest.raises(StorageError, match=r"cannot read cmdline\.txt"):
        boot.read("cmdline.txt")


def test_elsewhere_than_on_linux_the_container_is_named(
    bookworm: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.device.image.fat._DESCRIPTORS", Path("/proc/absent"))
    refused(bookworm.parent, bookworm, "needs Linux; elsewhere .* container", bundle)


def test_an_image_that_the_board_cannot_start_from_is_refused(tmp_path: Path, bundle: Path) -> None:
    files = {name: text for name, text in sd_images.BOOKWORM.items() if "2711" not in name}
    base = sd_images.make_sd_image(tmp_path / "base.img", files)
    refused(tmp_path, base, r"no device tree for --board rpi4 \(bcm2711\*\.dtb\)", bundle)
    # Ubuntu has them in a folder.
    sd_images.make_sd_image(base, files | {"current/bcm2711-rpi-4-b.dtb": ""})
    make(base, bundle).unlink()
    base.with_name("form").unlink()
    del files["kernel8.img"]
    sd_images.make_sd_image(base, files | {"bcm2711-rpi-4-b.dtb": "", "kernel7l.img": ""})
    refused(tmp_path, base, "no 64-bit kernel, only kernel7l.img", bundle)


def test_every_raspberry_pi_says_what_starts_it() -> None:
    assert all(bool(kind.device_trees) == name.startswith("rpi") for name, kind in kinds().items())


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
        {"user": "backup"},
        {"user": "video"},
        {"user": "_apt"},
        {"user": "systemd-network"},
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
        ("\udcff", "password", "GB"),
    ]:
        with pytest.raises(UsageError) as caught:
            Wifi.from_password(name, password, country)
        str(caught.value).encode()


@pytest.mark.parametrize(
    ("country", "hint"),
    [("UK", "did you mean GB"), ("de", "did you mean DE"), ("XX", "such as GB"), ("", "such as")],
)
def test_the_country_is_one_that_the_board_knows(country: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        Wifi.from_password("IEEE", None, country)


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


EMOJI = "a\\ud83d\U0001f600ü\x7f\u2028"


def test_yaml_reads_every_character(trixie: Path, bundle: Path) -> None:
    settings = Settings("pi", (KEY,), wifi=Wifi.from_password(EMOJI, None, "FR"))
    text = sd_images.read_file(make(trixie, bundle, settings), "network-config")
    assert b'"a\\\\ud83d\\U0001f600\\u00fc\\u007f\\u2028"' in text
    reader = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install PyYAML")
    points = reader.safe_load(text)["network"]["wifis"]["wlan0"]["access-points"]
    assert list(points) == [EMOJI]


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


def test_setup_comes_before_what_may_fail() -> None:
    text = script(Settings("pi", (KEY,), wifi=Wifi("x", None, "DE")))
    commands = text[text.index("set -e\n") :]
    for line in ("do_i2c 0", "do_wifi_country DE", "rfkill unblock wifi"):
        assert commands.index("headgate/setup.sh") < commands.index(line)
        assert any(row.startswith("optional ") for row in commands.splitlines() if line in row)


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
