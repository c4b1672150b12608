"""The user's boards.toml, the boards that are shipped, and what `--on` understands."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from headgate.device.boards import find_board, inventory, kinds, read_inventory
from headgate.device.machines.find import find_machine
from headgate.device.machines.fleet import Outcome, names_of, on_each
from headgate.device.machines.ssh.address import Address
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.machine import SshMachine
from headgate.device.machines.ssh.stopping import Stopper, stopped_by
from headgate.device.targets import TARGET_NAMES, get_target
from headgate.errors import DeviceError, StorageError, UsageError
from tests import fake_ssh

KITCHEN = '[kitchen]\nboard = "rpi4"\nhost = "pi@kitchen.local"\n'


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a configuration of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_the_kinds_that_are_shipped() -> None:
    assert list(kinds()) == [
        "rpi3",
        "rpi4",
        "rpi5",
        "rpi-zero-2w",
        "jetson-nano",
        "jetson-orin-nano",
    ]
    for kind in kinds().values():
        assert kind.target in TARGET_NAMES
        assert set(kind.sensors) <= {"hwmon", "pmic", "jetson"}


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "rpi3"),
        ("Raspberry Pi 4 Model B Rev 1.4", "rpi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "rpi5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "rpi3"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin"),
        ("Raspberry Pi Zero W Rev 1.1", None),
        ("", None),
    ],
)
def test_a_boards_own_words_say_what_to_compile_for(model: str, target: str | None) -> None:
    assert find_board("pi@board").target_of(model) == target


def test_an_inventory(nowhere: Path) -> None:
    (nowhere / "boards.toml").write_text(
        KITCHEN + "port = 2222\nsensor = 'hwmon:ina219@1-0040'\nshunt_uohm = 100000\n"
        "[desk]\nboard = 'rpi-zero-2w'\nhost = 'desk'\ncores = 1\n"
    )
    kitchen, desk = inventory().values()
    assert kitchen.address == Address("kitchen.local", "pi", 2222)
    assert kitchen.kind == kinds()["rpi4"]
    assert (kitchen.sensor, kitchen.shunt_uohm) == ("hwmon:ina219@1-0040", 100000)
    assert (desk.address, desk.sensor) == (Address("desk"), None)
    assert desk.kind is not None and (desk.kind.cores, desk.kind.target) == (1, "rpi3")


@pytest.mark.parametrize(
    "line",
    [
        "sensor = 'auto'",
        "sensor = 'command:/usr/bin/meter --csv'",
        "sensor = 'jetson/VDD_IN+VDD_SOC'",
        "sensor = 'ppk2:5000'",
        "sensors = ['pmic', 'serial']",
        "target = 'jetson-orin'",
        "port = 22",
    ],
)
def test_what_a_board_may_have(line: str) -> None:
    (board,) = read_inventory(KITCHEN + line, "boards.toml").values()
    assert board.name == "kitchen"


def test_the_targets_of_boards_are_the_compilers() -> None:
    linux = {name for name in TARGET_NAMES if name != "host" and get_target(name).os == "linux"}
    assert {kind.target for kind in kinds().values()} == linux


def test_an_inventory_of_windows_begins_with_a_mark(nowhere: Path) -> None:
    (nowhere / "boards.toml").write_bytes(b"\xef\xbb\xbf" + KITCHEN.encode())
    assert list(inventory()) == ["kitchen"]


def test_the_working_folders_inventory_counts_most(nowhere: Path) -> None:
    (nowhere / "config/headgate").mkdir(parents=True)
    (nowhere / "config/headgate/boards.toml").write_text(
        KITCHEN + "[attic]\nboard = 'rpi5'\nhost = 'attic'\n"
    )
    (nowhere / "boards.toml").write_text(KITCHEN.replace("kitchen.local", "10.0.0.7"))
    assert {name: board.address.host for name, board in inventory().items()} == {
        "kitchen": "10.0.0.7",
        "attic": "attic",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kitchen", "boards.toml is not TOML"),
        ("kitchen = 3", r"\[kitchen\]: it is 3, not a table"),
        (KITCHEN + "prot = 22", r"\[kitchen\]: unknown key 'prot'. Did you mean 'port'"),
        (KITCHEN + "port = '22'", r"\[kitchen\]: port is '22', not a whole number"),
        (KITCHEN + "port = true", "port is True, not a whole number"),
        (KITCHEN + "port = 70000", "port 70000 is not in 1 to 65535"),
        ("[kitchen]\nboard = 'rpi4'", r"\[kitchen\]: it has no host"),
        ("[kitchen]\nhost = 'kitchen'", "it has no board. Known: rpi3, rpi4"),
        (
            KITCHEN + "target = 'rpi9'",
            r"\[kitchen\]: target is 'rpi9', which is unknown. Did you mean 'rpi5'",
        ),
        (
            KITCHEN + "target = 'host'",
            "target is 'host', which is unknown. Known: jetson-nano, jetson-orin, rpi3",
        ),
        (
            KITCHEN + "sensors = ['pmc']",
            r"\[kitchen\]: sensors\[0\] is 'pmc', which is unknown. Did you mean 'pmic'",
        ),
        (KITCHEN + "sensors = [3]", r"sensors\[0\] is 3, not text"),
        (
            KITCHEN + "sensor = 'jetsn/VDD_IN'",
            "sensor 'jetsn/VDD_IN': no such kind; did you mean 'jet",
        ),
        (KITCHEN + "sensor = ''", "sensor '': no such kind; there are auto, jetson, hwmon"),
        (KITCHEN + "sensor = 'auto/A+B'", "sensor 'auto/A.B': name one for its rails"),
        (
            KITCHEN.replace(".local", ".local:2222") + "port = 22",
            "names port 2222, port 22; give one",
        ),
        (KITCHEN + "cores = 0", "cores is 0, not a whole number of at least 1"),
        (
            KITCHEN.replace("rpi4", "rpi44"),
            "board is 'rpi44', which is unknown. Did you mean 'rpi4'",
        ),
        (KITCHEN.replace("pi@kitchen.local", "-oProxyCommand=x"), "-oProxyCommand"),
        (KITCHEN.replace("[kitchen]", "[all]"), "cannot be called 'all'"),
        (KITCHEN.replace("[kitchen]", "['a,b']"), "cannot be called 'a,b'"),
        (KITCHEN.replace("[kitchen]", "['qemu:rpi4']"), "cannot be called 'qemu:rpi4'"),
    ],
)
def test_a_wrong_inventory_says_where(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_inventory(text, "boards.toml")
    assert "\n" not in str(caught.value)


def test_an_inventory_that_cannot_be_read(nowhere: Path) -> None:
    (nowhere / "boards.toml").mkdir()
    with pytest.raises(StorageError, match=r"cannot read boards.toml"):
        inventory()
    (nowhere / "boards.toml").rmdir()
    (nowhere / "boards.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"boards.toml is not text"):
        inventory()


def test_machines_by_their_names(nowhere: Path) -> None:
    (nowhere / "boards.toml").write_text(KITCHEN)
    for name in ("kitchen", "pi@10.0.0.7"):
        machine = find_machine(name)
        assert isinstance(machine, SshMachine) and machine.name == name
    assert not isinstance(find_machine("qemu:rpi4"), SshMachine)
    with pytest.raises(UsageError, match=r"no machine 'kitchn'. Did you mean 'kitchen'"):
        find_machine("kitchn")
    with pytest.raises(UsageError, match=r"no board 'kitchn'. Did you mean 'kitchen'.*USER@HOST"):
        find_board("kitchn")


def test_several_names(nowhere: Path) -> None:
    assert names_of("host") == ["host"]
    assert names_of("pi@a, pi@b,host") == ["pi@a", "pi@b", "host"]
    ports = ["serial:/dev/ttyACM0,921600", "serial:/dev/ttyACM1"]
    assert names_of(",".join(ports)) == ports
    with pytest.raises(UsageError, match=r"there is no boards.toml that names a board"):
        names_of("all")
    (nowhere / "boards.toml").write_text(KITCHEN + "[desk]\nboard = 'rpi5'\nhost = 'desk'\n")
    assert names_of("all") == ["kitchen", "desk"]
    assert names_of("host,all") == ["host", "kitchen", "desk"]
    for text, words in (("a,,b", "missing"), ("", "missing"), ("kitchen,all", "twice")):
        with pytest.raises(UsageError, match=words):
            names_of(text)


def test_two_names_of_one_board(nowhere: Path) -> None:
    (nowhere / "boards.toml").write_text(
        KITCHEN + KITCHEN.replace("[kitchen]", "[stove]").replace("pi@", "root@")
    )
    words = r"kitchen and (stove|me@Kitchen.local) are one board, \w+@\w+.local; leave one out"
    for text in ("all", "kitchen,stove", "kitchen,me@Kitchen.local"):
        with pytest.raises(UsageError, match=words):
            names_of(text)
    for text in (
        "kitchen,pi@kitchen.local:22",
        "pi@x:22,pi@x",
        "pi@::1,me@[0:0::1]:22",
        "pi@a,b@A.",
    ):
        with pytest.raises(UsageError, match=r" are one board, \S+; leave one out"):
            names_of(text)
    assert names_of("pi@a:22,pi@b:22") == ["pi@a:22", "pi@b:22"]
    assert names_of("kitchen,pi@kitchen.local:2222") == ["kitchen", "pi@kitchen.local:2222"]


def test_one_machine_that_fails_stops_no_other() -> None:
    def work(name: str) -> str:
        if name == "b":
            raise DeviceError("b is off")
        return name.upper()

    told: list[str] = []
    outcomes = on_each(["a", "b", "c"], work, lambda one: told.append(one.machine))
    assert sorted(told) == ["a", "b", "c"]
    assert [(one.machine, one.result, str(one.error)) for one in outcomes] == [
        ("a", "A", "None"),
        ("b", None, "b is off"),
        ("c", "C", "None"),
    ]


def test_machines_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=300)
    assert len(on_each(["a", "b", "c"], lambda name: meeting.wait())) == 3


def test_an_interrupt_stops_machines_that_are_being_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = fake_ssh.install(tmp_path, monkeypatch)
    for name in ("a", "b"):
        boards.takes_forever(name)
    reached = []

    def work(name: str) -> None:
        if name != "host":
            SshMachine(find_board(f"pi@{name}")).connection()
            reached.append(name)
        while not (boards.waiting("a") and boards.waiting("b")):
            time.sleep(0.01)

    def finished(outcome: Outcome[None]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_each(["a", "b", "host"], work, finished)
    assert not reached
    assert not boards.waiting("a") and not boards.waiting("b")


def test_two_interrupts_in_a_row_are_an_interrupt() -> None:
    """Out of a wait for a Condition they come as a RuntimeError at times."""

    def finished(outcome: Outcome[None]) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    with pytest.raises(KeyboardInterrupt):
        on_each(["a"], lambda name: None, finished)


def test_what_was_stopped_begins_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = fake_ssh.install(tmp_path, monkeypatch)
    boards.add("a")
    stopper = Stopper()
    with stopped_by(stopper), closing(Connection("a", Address("a"))) as connection:
        stopper.stop()
        with pytest.raises(DeviceError, match="a: stopped"):
            connection.call("true")
        with pytest.raises(DeviceError, match="a: stopped"):
            Connection("a", Address("a"))
    with closing(Connection("a", Address("a"))) as connection:
        assert connection.checked("look", "echo here") == b"here\n"
