"""`headgate deploy`: a bundle onto boards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.machines import work_on
from headgate.cli.options import Json
from headgate.cli.output import next_step, print_line, working
from headgate.device.boards import find_board
from headgate.device.machines.fleet import names_of
from headgate.device.machines.ssh.deploy import Deployment
from headgate.device.machines.ssh.deploy import deploy as copy
from headgate.device.machines.ssh.machine import SshMachine
from headgate.device.machines.ssh.store import Progress
from headgate.screen import Bars, standard_error


def deploy(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A .hgb file that `headgate compile` wrote.")
    ],
    boards: Annotated[
        str,
        typer.Argument(
            metavar="BOARD,...",
            help="USER@HOST, names in boards.toml with commas between, or 'all' of them.",
        ),
    ],
    json: Json = False,
) -> None:
    """Copy a bundle to ~/headgate of boards over ssh; repeat it to go on after a failure."""
    machines = {name: SshMachine(find_board(name)) for name in names_of(boards)}

    def work(name: str) -> Deployment:
        if len(machines) > 1:
            return copy(bundle, machines[name])
        with _progress(f"copying {bundle} to {name}") as progress:
            return copy(bundle, machines[name], progress)

    def show(done: Deployment) -> None:
        print_line(f"{done.board}:{done.path}: {_copied(done)}")
        next_step(f"headgate profile {bundle} --on {done.board}")

    def row(done: Deployment) -> tuple[str, str]:
        return done.path, _copied(done)

    work_on(list(machines), work, show, ["path", "copied"], row, vars, json)


def _copied(done: Deployment) -> str:
    if not done.copied_bytes:
        return "was there, nothing copied"
    return f"{done.copied_bytes:,} bytes in {done.seconds:.1f} s"


@contextmanager
def _progress(text: str) -> Iterator[Progress | None]:
    """A bar on a terminal, one line elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    stderr = standard_error()
    if not stderr.is_terminal:
        with working(text):
            yield None
        return
    columns = "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bars(stderr, *columns, transient=True) as bar:
        task = bar.add_task(text)
        yield lambda sent, total: bar.update(task, completed=sent, total=total)
