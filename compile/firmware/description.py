"""What templates need to know of a compiled network, read from its bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from headgate.device import Bundle
from headgate.device.manifest import library_of
from headgate.device.targets import Target, get_target
from headgate.errors import UsageError

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Description:
    """A network whose bundle has a static library."""

    bundle: Bundle
    prefix: str
    """What its C names begin with."""
    target: Target

    @classmethod
    def of(cls, bundle: Bundle) -> Description:
        """A UsageError for a bundle without a library."""
        library = library_of(bundle.members)
        if library is None:
            raise UsageError(
                f"{bundle.name!r} is for {bundle.target['name']}, not for a microcontroller"
            )
        prefix = library.removeprefix("code/lib").removesuffix(".a")
        return cls(bundle, prefix, get_target(bundle.target["name"]))

    @property
    def library(self) -> bytes:
        return self.bundle.members[f"code/lib{self.prefix}.a"]

    @property
    def headers(self) -> dict[str, bytes]:
        """The network's own and ``headgate.h``, by file name."""
        start = "include/"
        return {
            name.removeprefix(start): data
            for name, data in self.bundle.members.items()
            if name.startswith(start)
        }

    def render(self, template: str, **facts: Any) -> bytes:
        """A file of ``templates/``, filled in with what every one of them may use and ``facts``."""
        environment = jinja2.Environment(
            autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
        )
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        common = {
            "network": plain(self.bundle.name),
            "prefix": self.prefix,
            "macro": self.prefix.upper(),
            "target": self.target,
            "manifest": self.bundle.facts,
        }
        return environment.from_string(text).render({**common, **facts}).encode()


def plain(name: str) -> str:
    """A network's name for comments and text of C, in which nothing of it can end them."""
    return re.sub(r"[^A-Za-z0-9 ._+-]", "?", name)
