"""firstrun.sh as a board runs it: once, or three times, and never for ever."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from headgate.device.image import first_run


def first_boots(folder: Path, work: str, times: int) -> list[int]:
    """Exit statuses of firstrun.sh, started as often as a board would start it."""
    (folder / "headgate").mkdir(exist_ok=True)
    (folder / "cmdline.txt").write_text(f"root=/dev/x {first_run.CMDLINE} ro\n")
    (folder / "firstrun.sh").write_text(f"{first_run.HEAD}{work}\n")
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("sync", "systemctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/called\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    codes = []
    for _ in range(times):
        if not (folder / "firstrun.sh").exists():
            break
        command = ["sh", folder / "firstrun.sh"]
        codes.append(subprocess.run(command, env=environment).returncode)
    return codes


def cleaned_up(folder: Path) -> bool:
    """No script, so no Wi-Fi key, and a command line that starts the system."""
    line = (folder / "cmdline.txt").read_text()
    left = {path.name for path in folder.iterdir()} | set(os.listdir(folder / "headgate"))
    return line == "root=/dev/x ro\n" and not left & {"firstrun.sh", "firstrun.attempts"}


def test_a_first_boot_that_succeeds_is_the_only_one(tmp_path: Path) -> None:
    work = f"optional false x\noptional absent\n[ -e {tmp_path}/firstrun.sh ]\necho done"
    assert first_boots(tmp_path, work, 5) == [0]
    assert cleaned_up(tmp_path)
    assert (tmp_path / "headgate/firstrun.log").read_text().splitlines() == [
        "firstrun.sh: attempt 1 started",
        "firstrun.sh: warning: 'false x' failed",
        "done",
        "firstrun.sh: attempt 1 ended with exit status 0",
    ]
    assert "poweroff" not in (tmp_path / "called").read_text()


def test_a_first_boot_that_fails_is_tried_three_times(tmp_path: Path) -> None:
    assert first_boots(tmp_path, "false\necho never", 5) == [1, 1, 1]
    assert cleaned_up(tmp_path)
    log = (tmp_path / "headgate/firstrun.log").read_text()
    assert "never" not in log
    assert log.count("started") == log.count("ended with exit status 1") == 3


def test_power_cuts_during_the_first_boot_are_no_endless_loop(tmp_path: Path) -> None:
    assert first_boots(tmp_path, "kill -9 $$", 5) == [-9, -9, -9, 1]
    assert cleaned_up(tmp_path)
    assert "given up after 3 attempts" in (tmp_path / "headgate/firstrun.log").read_text()


def test_after_a_power_cut_the_first_boot_is_made_up_for(tmp_path: Path) -> None:
    work = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; kill -9 $$; }}"
    assert first_boots(tmp_path, work, 5) == [-9, 0]
    assert cleaned_up(tmp_path)


def test_a_card_that_cannot_be_written_is_no_endless_loop(tmp_path: Path) -> None:
    # A folder in their places, for root may write anywhere.
    (tmp_path / "programs").mkdir()
    failing = tmp_path / "programs/sed"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    (tmp_path / "headgate/firstrun.attempts").mkdir(parents=True)
    (tmp_path / "headgate/firstrun.log").mkdir()
    assert first_boots(tmp_path, "echo never", 1) == [1]
    assert "systemctl --force poweroff" in (tmp_path / "called").read_text()
