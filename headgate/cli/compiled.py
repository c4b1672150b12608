"""What `headgate compile` says of the file or folder that it has written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def figures_of(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the command says of a bundle, by name."""
    from headgate.device.agent.definitions import dense_macs
    from headgate.device.manifest import library_of

    sizes = {name: member["bytes"] for name, member in manifest["members"].items()}
    whole: dict[str, Any] = {}
    if path.is_file():
        whole = {"bundle_bytes": path.stat().st_size, "sha256": digest(path)}
    library = library_of(sizes)
    code = {"runner_bytes": sizes.get("code/runner")} if library is None else {"library": library}
    return {
        "bundle": path,
        **whole,
        "target": manifest["target"]["name"],
        "dtype": manifest.get("dtype", "float32"),
        **(
            {"float_layers": ", ".join(manifest["float_layers"])}
            if manifest.get("float_layers")
            else {}
        ),
        "layers": len(manifest["layers"]),
        "gates": len(manifest["gates"]),
        "dense_macs": dense_macs(manifest["layers"]),
        "arena_bytes": manifest["arena_bytes"],
        "weights_bytes": manifest["weights_bytes"],
        **code,
        "checked": manifest["checked"],
    }


def share_in_words(share: float | None) -> str:
    """What part of the time a measured share is."""
    if share is None:
        return "not measured: that takes the machine that the bundle is for"
    return f"{100 * share:.1f} % of an inference"


def checked_in_words(checked: dict[str, Any]) -> str:
    """What the comparison with PyTorch found."""
    if checked["machine"] is None:
        return f"not checked: {checked['reason']}"
    excused = f", {checked['excused']} left out" if checked["excused"] else ""
    return (
        f"on {checked['machine']}: {checked['vectors']} vectors{excused}, largest error "
        f"{checked['max_error']:.0e}"
    )


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
