"""A bundle as a folder: the members of the archive as files, for build systems to find."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from headgate.device.files import storage_error
from headgate.device.project import BUILD
from headgate.errors import StorageError


def is_bundle(path: Path) -> bool:
    """Whether ``path`` is what bundles are called: a name with .hgb, or a folder."""
    return path.suffix == ".hgb" or path.is_dir()


def read_folder(folder: Path, manifest: str) -> dict[str, bytes]:
    """The manifest and the members that it names, as far as they are there.

    Other files in ``folder`` are not the bundle's. A StorageError if a file cannot be read.
    """
    path = folder / manifest
    try:
        found = {manifest: path.read_bytes()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error("read", path, error) from error
    for name in _members(found[manifest]):
        path = folder / name
        try:
            found[name] = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error("read", path, error) from error
    return found


def _members(manifest: bytes) -> list[str]:
    """Names of members that lie inside the folder; none of a manifest that is not one."""
    try:
        members = json.loads(manifest)["members"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []
    names = [name for name in members if isinstance(name, str)] if isinstance(members, dict) else []
    return [n for n in names if n and "\0" not in n and not {"", ".", ".."} & set(n.split("/"))]


def write_folder(folder: Path, contents: Mapping[str, bytes], manifest: str) -> None:
    """Writes all ``contents`` or nothing; a bundle that was there is replaced.

    Raises:
        StorageError: ``folder`` holds something else, or cannot be written.
    """
    target = Path(os.path.realpath(folder))
    _check_ours(target, folder, manifest)
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise storage_error("write", folder, error) from error
    new, old = made / "new", made / "old"
    try:
        for name, data in sorted(contents.items()):
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if target.exists():
            target.rename(old)
        new.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise storage_error("write", folder, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _check_ours(target: Path, named: Path, manifest: str) -> None:
    """Refuses to replace what is no bundle, or has files that are not its own."""
    if not target.exists():
        return
    if not target.is_dir():
        raise StorageError(f"cannot write {named}: it is a file; choose another name")
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    own, edited = {manifest}, set[str]()
    if manifest in files:
        text = (target / manifest).read_bytes()
        name, digests = _project(text)
        own |= set(_members(text)) | digests.keys()
        own |= {path for path in files if name and path.startswith(f"{name}/{BUILD}/")}
        edited = {path for path in digests.keys() & files if _edited(target / path, digests[path])}
    if others := sorted(files - own):
        raise StorageError(
            f"cannot replace {named}: {others[0]} in it is not of a bundle; choose another folder"
        )
    if edited:
        raise StorageError(
            f"cannot replace {named}: {min(edited)} was edited; choose another folder, or move it"
        )


def _project(manifest: bytes) -> tuple[str, dict[str, str]]:
    """The name of the project that a manifest notes, and its files' digests; nothing of others."""
    try:
        note = json.loads(manifest)["project"]
        files = {f"{note['name']}/{path}": str(digest) for path, digest in note["files"].items()}
        return str(note["name"]), files
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return "", {}


def _edited(path: Path, digest: str) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() != digest
