"""The circumstances of a measurement in this process: the agent's context and Python's packages."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from headgate.device.agent import context as agent
from headgate.device.agent import cpus as agent_cpus
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.context import Context, context_warnings, invalid_reasons
from headgate.device.agent.system import System

_PACKAGES = ("headgate", "numpy")


def read_context(packages: Iterable[str] = ()) -> Context:
    """This machine now, with the versions of headgate, NumPy and ``packages``."""
    versions = {}
    for package in [*_PACKAGES, *packages]:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return dataclasses.replace(agent.read_context(System()), versions=versions)


def warnings_between(before: Context, after: Context) -> list[str]:
    """What makes the figures of runs between the two less certain, or spoils them."""
    spoilt = invalid_reasons(before, after, NotMeasured("nobody watched"))
    return [*spoilt, *context_warnings(before, after)]


@contextmanager
def pinned() -> Iterator[list[int]]:
    """Keep this process on one CPU, which is yielded; on none where the system cannot do that."""
    cpus = agent_cpus.choose_cpus(1)
    with agent_cpus.pinned(cpus):
        yield sorted(cpus)
