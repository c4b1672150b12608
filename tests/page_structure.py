"""What is wrong with a page that has to open anywhere: unbalanced tags, scripts, references."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = frozenset({"meta", "rect", "line", "wbr", "br", "link", "img", "circle", "path"})
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")


class Structure(HTMLParser):
    """Checks that tags are balanced and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        # A path or circle is empty only where it says so.
        if tag not in VOID or tag in ("path", "circle", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.faults.append("a script")
        for name, value in attrs:
            if name.startswith("on"):
                self.faults.append(f"{tag} has {name}")
            if name in ("src", "href") and not PICTURE.fullmatch(value or ""):
                self.faults.append(f"{tag} refers to {value}")
        names = [name for name, _ in attrs]
        if tag == "img" and "alt" not in names:
            self.faults.append("a picture without an alternative")
        if len(names) != len(set(names)):
            self.faults.append(f"{tag} has an attribute twice")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def page_faults(page: str) -> list[str]:
    """Everything that is wrong with a page; empty if nothing is."""
    structure = Structure()
    structure.feed(page)
    structure.close()
    faults = structure.faults + [f"<{tag}> is never closed" for tag in structure.open]
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.S))
    if re.search(r"@import|url\(|https?://", style):
        faults.append("the style refers to another file")
    return faults
