"""Progress: plain lines where there is no terminal, a bar where there is one, nothing if quiet."""

from __future__ import annotations

import pytest

from headgate.train import progress


def work(total: float | None, quiet: bool = False) -> None:
    with progress.Progress("download", total, "MB", scale=1e-6, quiet=quiet) as bar:
        bar.advance(2_000_000)
        bar.advance(1_000_000, "almost there")


def test_plain_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    work(4_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "download: 2/4 MB",
        "download: 3/4 MB almost there",
    ]
    work(None)
    assert capsys.readouterr().err.splitlines()[0] == "download: 2 MB"


def test_few_lines_and_none_if_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work(4_000_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    work(4_000_000, quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [4_000_000, None])
def test_a_bar_on_a_terminal(
    total: float | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes any stream for a terminal.
    monkeypatch.setenv("TERM", "xterm")
    work(total)
    assert "download" in capsys.readouterr().err
