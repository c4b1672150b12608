"""The page in a real browser: no complaint on its console, readable on a phone, on paper, in the
dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.profiling import Contestant, compare
from headgate.profiling.effort import measure_effort
from headgate.profiling.report import Page, build_report, render_html
from tests import fake_bundle
from tests.agent_reports import agent_report, decoded
from tests.fake_program import ScriptedProgram

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium: apt-get install chromium-headless-shell"
)
PHONE, PAPER, SCREEN = 390, 718, 1280
"""Widths in pixels: a phone's, of what A4 leaves between its margins, of a laptop's window."""
# What is wider than the window and scrolls nowhere, and the colours of each text on its ground.
LOOK = """
<script>
const wide = [], faint = [];
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = c => c.slice(0, 3).map(v => v / 255)
  .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
for (const one of document.querySelectorAll("main *")) {
  const style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  let scrolls = false, ground = null;
  for (let up = one; up; up = up.parentElement) {
    const of = getComputedStyle(up);
    scrolls ||= up !== one && up !== document.body && /auto|scroll/.test(of.overflowX);
    const colour = rgb(of.backgroundColor);
    ground ??= colour.length < 4 || colour[3] > .9 ? colour : null;
  }
  if (box.width && box.right > innerWidth + 1 && !scrolls) wide.push(one.outerHTML.slice(0, 80));
  const said = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!said || one.closest("svg") || !box.width) continue;
  const [a, b] = [light(rgb(style.color)), light(ground ?? [255, 255, 255])];
  const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (contrast < 4.5) faint.push(contrast.toFixed(2) + " " + one.outerHTML.slice(0, 80));
}
document.title = JSON.stringify({wide, faint, scroll: document.documentElement.scrollWidth,
  dark: matchMedia("(prefers-color-scheme: dark)").matches});
</script>
"""


@pytest.fixture(scope="module", params=["boards", "programs"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("reports")
    return render_html(_boards(root) if request.param == "boards" else _programs())


def _boards(root: Path) -> Page:
    """Three variants on one board with a meter, two on another."""
    reports = [agent_report(root / f"4{kind}", kind) for kind in ("dense", "pruned", "gated")]
    reports += [agent_report(root / f"5{kind}", kind, board="rpi5") for kind in ("dense", "gated")]
    return build_report("Boards", profiles=decoded(reports), reproduce=["headgate report *.json"])


def _programs() -> Page:
    """A gated network in turn with a dense one, and what it spends on each image."""
    conv = fake_bundle.manifest()["layers"][1]
    dense = ScriptedProgram(
        lambda run: 100.0 + run % 5, gates=[], layers=[{**conv, "out_gate": None}]
    )
    gated = ScriptedProgram(lambda run: 60.0 + run % 5, active=1)
    images = fake_bundle.images(24)
    comparison = compare(
        [
            Contestant("resnet8", dense, "dense", "aa" * 32, dense_macs=96, accuracy=0.9),
            Contestant("resnet8-fbs-0.5", gated, "gated", "bb" * 32, dense_macs=96, accuracy=0.89),
        ],
        images=images[:3],
        rounds=6,
    )
    reference = np.stack([np.linspace(5, 1, 24), np.zeros(24)], axis=1)
    efforts = [measure_effort("resnet8-fbs-0.5", gated, images, reference=reference)]
    return build_report("Programs", comparison=comparison, efforts=efforts)


def browse(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [*options, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def look(text: str, folder: Path, width: int, *options: str, script: str = LOOK) -> dict[str, Any]:
    """What the browser makes of the page in a window of that width."""
    file = folder / "look.html"
    file.write_text(text.replace("</body>", f"{script}</body>"))
    done = browse(file, f"--window-size={width},900", "--dump-dom", *options)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    unescaped = title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return dict(json.loads(unescaped))


def test_it_leaves_no_message_on_the_console(page: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page)
    done = browse(file, "--dump-dom")
    assert "How to reproduce" in done.stdout
    assert "CONSOLE" not in done.stderr
    # That a message would be seen:
    file.write_text(page.replace("</body>", "<script>console.log('heard')</script></body>"))
    assert "heard" in browse(file, "--dump-dom").stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_it_fits_the_window_and_is_readable(
    page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    options = [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    found = look(page, tmp_path, width, *options)
    assert found["dark"] == (scheme == "dark")
    assert found["scroll"] <= width and found["wide"] == []
    assert found["faint"] == []


def test_nothing_is_cut_off_on_paper(page: str, tmp_path: Path) -> None:
    on_paper = page.replace("@media print", "@media all")
    assert on_paper != page
    # A box that scrolls is one that cuts on paper.
    cutting = LOOK.replace("if (box.width &&", "scrolls = false; if (box.width &&")
    found = look(
        on_paper, tmp_path, PAPER, "--blink-settings=preferredColorScheme=1", script=cutting
    )
    assert found["scroll"] <= PAPER and found["wide"] == []
    (tmp_path / "page.html").write_text(page)
    browse(tmp_path / "page.html", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
