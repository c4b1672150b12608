"""A bundle's folder as a package of other tools: an Arduino library, a Zephyr module.

The files are few, since the library and the headers are the bundle's; Arduino wants copies of
them in ``src/``. Specifications: Arduino's library format 1.5, Zephyr's ``zephyr/module.yml``.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.compile.firmware.description import Description
from headgate.compile.firmware.float_abi import fit_either_float_abi
from headgate.device import Bundle


def _arduino(about: Description) -> dict[str, bytes]:
    sketch = f"{about.prefix}_example"
    return {
        "library.properties": about.render("library.properties.j2"),
        f"src/{about.target.cpu}/lib{about.prefix}.a": fit_either_float_abi(about.library),
        **{f"src/{name}": data for name, data in about.headers.items()},
        f"examples/{sketch}/{sketch}.ino": about.render("example.ino.j2"),
    }


def _zephyr(about: Description) -> dict[str, bytes]:
    return {
        f"zephyr/{name}": about.render(f"zephyr_{name}.j2")
        for name in ("module.yml", "CMakeLists.txt", "Kconfig")
    }


_LAYOUTS: dict[str, Callable[[Description], dict[str, bytes]]] = {
    "arduino": _arduino,
    "zephyr": _zephyr,
}


def add_layout(bundle: Bundle, layout: str) -> Bundle:
    """``bundle`` with the files of a layout of ``device.project.LAYOUTS`` as members."""
    files = _LAYOUTS[layout](Description.of(bundle))
    facts = {k: v for k, v in bundle.manifest.items() if k not in ("schema", "members")}
    return Bundle(facts, {**bundle.members, **files})
