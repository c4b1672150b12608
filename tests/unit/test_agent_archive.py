"""The agent as it is shipped: one file, for old Pythons, with the standard library only."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import headgate
from headgate.device import agent, arm_cores, protocol
from headgate.device.agent_archive import agent_archive
from tests.board_trees import plant
from tests.fake_runner import save_bundle

SHARED = [Path(module.__file__ or "") for module in (arm_cores, protocol)]
SOURCES = [*sorted(Path(agent.__file__).parent.rglob("*.py")), *SHARED]
METER = """
import time
for step in range(100000):
    print(f"{step / 100},{3000}", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "headgate-agent.pyz"
    path.write_bytes(agent_archive())
    path.chmod(0o755)
    return path


def call(archive: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Start the archive in a Python that has no packages at all."""
    command = [sys.executable, "-I", "-S", str(archive), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_are_in_the_grammar_of_old_pythons(path: Path) -> None:
    # Boards have 3.9 and later; JetPack 5 has 3.8.
    ast.parse(path.read_text(), feature_version=(3, 9))
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    # Annotations such as `int | None` are fine as long as nobody evaluates them.
    if any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in ast.walk(tree)):
        assert "from __future__ import annotations" in path.read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_import_the_standard_library_and_each_other_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        else:
            continue
        for name in names:
            assert name.partition(".")[0] in sys.stdlib_module_names, f"{path.name}: {name}"


def test_equal_sources_give_equal_bytes(archive: Path) -> None:
    assert archive.read_bytes() == agent_archive() == agent_archive()
    with zipfile.ZipFile(archive) as members:
        infos = members.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert len(infos) == len(SOURCES) + 2


def test_it_is_an_executable_file(archive: Path) -> None:
    assert archive.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    done = subprocess.run([archive, "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == headgate.__version__


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_it_runs_with_older_pythons(version: str, archive: Path, tmp_path: Path) -> None:
    python = shutil.which(f"python{version}")
    # A version manager's stub is there, and fails, where the version is not.
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no python{version} on this machine")
    save_bundle(tmp_path / "fake.hgb")
    command = [python, archive, "profile", tmp_path / "fake.hgb", "--rounds", "1", "--repeat", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_context_and_sensors_of_a_tree(archive: Path, tmp_path: Path) -> None:
    plant("jetson-orin-nano-jp6", tmp_path)
    context = json.loads(call(archive, "context", "--root", tmp_path).stdout)
    assert context["power_mode"] == "NV Power Mode: 15W 0"
    sensors = json.loads(call(archive, "sensors", "--root", tmp_path).stdout)
    (jetson,) = sensors["jetson"]
    assert jetson["total"] == ["VDD_IN"]
    assert jetson["power_mw"]["VDD_IN"] == 4807.968
    assert sensors["pmic"] == {"not_measured": "vcgencmd is not installed"}
    named = call(archive, "sensors", "--root", tmp_path, "--sensor", "jetson/VDD_SOC")
    assert json.loads(named.stdout)["total"] == ["VDD_SOC"]


def test_profile_writes_one_report(archive: Path, tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "fake.hgb", base_us=100)
    report_path = tmp_path / "report.json"
    done = call(
        archive,
        *("profile", tmp_path / "fake.hgb", "--rounds", "2", "--repeat", "3"),
        *("--root", plant("rpi5", tmp_path / "pi"), "-o", report_path),
    )
    assert done.returncode == 0, done.stderr
    assert "fake on Raspberry Pi 5 Model B Rev 1.0" in done.stdout
    assert "latency  median 301.0 us" in done.stdout
    report = json.loads(report_path.read_text())
    assert not list(tmp_path.glob(".*"))  # nor its temporary name
    assert report["schema"] == 2
    assert report["valid"] is True
    assert report["bundle"]["model_sha256"] == bundle.manifest["model_sha256"]
    assert report["context"]["before"]["cpu"] == "Cortex-A76"
    assert report["outputs"]["passed"] is True
    assert report["latency"]["latency_us"]["percentiles"]["p50"]["value"] == 301
    assert report["energy"] == {"not_measured": "not asked for; --energy measures it"}


def test_a_throttled_run_is_marked_with_the_reason(archive: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb")
    done = call(
        archive,
        *("profile", tmp_path / "fake.hgb", "--rounds", "1", "--repeat", "3"),
        *("--root", plant("rpi3-bare", tmp_path / "pi")),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["valid"] is False
    assert report["invalid_because"][0].startswith("under-voltage at the time of the run")
    assert "INVALID  under-voltage" in done.stderr


def test_energy_with_a_meter_of_the_users(archive: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb", base_us=20_000)
    (tmp_path / "meter.py").write_text(METER)
    done = call(
        archive,
        *("energy", tmp_path / "fake.hgb", "--window-s", "0.4", "--idle-s", "0.4"),
        *("--windows", "2", "--sensor", f"command:{sys.executable} {tmp_path / 'meter.py'}"),
    )
    assert done.returncode == 0, done.stderr
    energy = json.loads(done.stdout)["energy"]
    assert energy["scope"] == "what the meter is wired to"
    assert energy["average_power_mw"] == pytest.approx(3000)
    assert energy["net_energy_per_inference_mj"] == pytest.approx(0, abs=1e-6)
    for window in energy["windows"]:
        assert window["energy_per_inference_mj"] == pytest.approx(3 * window["latency_ms"])


@pytest.mark.parametrize("verb", [("energy",), ("profile", "--energy")])
def test_a_missing_sensor_fails_only_if_energy_was_asked_for(
    verb: tuple[str, ...], archive: Path, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "fake.hgb")
    root = plant("rpi3-bare", tmp_path / "pi")
    done = call(archive, *verb, tmp_path / "fake.hgb", "--root", root)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith(
        "headgate-agent: no power sensor to use. jetson: not a Jetson; hwmon:"
    )
    assert done.stderr.count("\n") == 1


def test_energy_if_any_measures_what_can_be_and_says_why_not(archive: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb")
    profile = ("profile", tmp_path / "fake.hgb", "--rounds", "1", "--repeat", "3")
    bare = plant("rpi3-bare", tmp_path / "pi")
    done = call(archive, *profile, "--energy-if-any", "--root", bare)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["energy"]["not_measured"].startswith("no power sensor to use. jetson: not a Jet")
    assert report["latency"]["latency_us"]["count"] == 15
    assert "energy   not measured: no power sensor to use" in done.stderr
    assert not [reason for reason in report["invalid_because"] if "energy" in reason]

    (tmp_path / "meter.py").write_text(METER)
    meter = ("--sensor", f"command:{sys.executable} {tmp_path / 'meter.py'}")
    times = ("--window-s", "0.2", "--idle-s", "0.2", "--windows", "1")
    done = call(archive, *profile, "--energy-if-any", *meter, *times)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["energy"]["average_power_mw"] == pytest.approx(3000)

    # What was written wrong is not a board without a sensor.
    assert call(archive, *profile, "--energy-if-any", "--sensor", "magic").returncode == 2
    assert call(archive, *profile, "--energy-if-any", "--energy").returncode == 2


def test_a_sensor_that_dies_leaves_the_latency_in_the_report(archive: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "fake.hgb")
    done = call(
        archive,
        *("profile", tmp_path / "fake.hgb", "--rounds", "1", "--repeat", "3", "--energy"),
        *("--sensor", f"command:{sys.executable} -c pass", "-o", tmp_path / "report.json"),
    )
    assert done.returncode == 3
    assert "it ended with status 0" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert "it ended with status 0" in report["energy"]["not_measured"]
    assert report["latency"]["latency_us"]["count"] == 15
    # Who has the report without the exit code sees it as well; of latency nothing is spoilt.
    reasons = report["invalid_because"]
    assert report["valid"] is False
    assert [reason for reason in reasons if not reason.startswith("energy: not measured: ")] == []


def test_run_gives_outputs_and_says_if_they_are_wrong(archive: Path, tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "fake.hgb")
    output = tmp_path / "out.bin"
    done = call(archive, "run", tmp_path / "fake.hgb", "--output", output)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["top1_agreement"] == 1.0
    (_, (expected,)) = bundle.vectors()
    assert len(output.read_bytes()) == expected.nbytes

    save_bundle(tmp_path / "wrong.hgb", extra="outputs.append(1e3)")
    wrong = call(archive, "run", tmp_path / "wrong.hgb", "-o", tmp_path / "report.json")
    assert wrong.returncode == 1
    assert "INVALID  outputs differ from PyTorch's" in wrong.stdout
    assert json.loads((tmp_path / "report.json").read_text())["valid"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("profile", "none.hgb"), 1, "cannot read none.hgb: No such file or directory"),
        (("profile", "BUNDLE", "--cpus", "x"), 2, "--cpus 'x': write a list such as 3 or 0-1,3"),
        (("profile", "BUNDLE", "--rounds", "0"), 2, "rounds=0"),
        (("profile", "BUNDLE", "--threads", "0"), 2, "--threads 0: at least 1 is needed"),
        (("energy", "BUNDLE", "--sensor", "magic"), 2, "no such kind; there are auto"),
        (("energy", "BUNDLE", "--windows", "0"), 2, "windows=0: numbers above 0 are needed"),
        (("run", "BUNDLE", "-o", "no/such/folder"), 1, "cannot write no/such/folder"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(
    arguments: tuple[str, ...], code: int, message: str, archive: Path, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "fake.hgb")
    given = [str(tmp_path / "fake.hgb") if word == "BUNDLE" else word for word in arguments]
    done = call(archive, *given)
    assert done.returncode == code
    assert done.stderr.startswith("headgate-agent: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_report_is_written_whole_or_not_at_all(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("earlier")
    save_bundle(tmp_path / "fake.hgb", extra="sys.exit('broken')")
    call(archive, "run", tmp_path / "fake.hgb", "-o", tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake.hgb", "report.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_connection_leaves_no_runner_behind(
    number: signal.Signals, archive: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    extra = f"import os; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    save_bundle(tmp_path / "fake.hgb", extra=extra)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, archive, "run", tmp_path / "fake.hgb"],
        env=environment,
        # These tests may themselves run under nohup, which children inherit.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(300) == 128 + number
    # Killed, it takes a moment to be gone.
    while Path("/proc", mark.read_text()).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not list(tmp_path.glob("headgate-*"))
