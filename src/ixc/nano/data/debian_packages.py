"""Debian packages as sources of documents and fonts: downloaded and unpacked into a folder, not installed.

name, version --apt-get download--> .deb --dpkg-deb -x--> FOLDER/NAME, only its PDFs and fonts kept
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ixc.errors import DataError

KEPT = (".pdf", ".PDF", ".pdf.gz", ".ttf", ".otf", ".ttc", ".pfb")
"""Ends of the names of files that stay."""


def fetch(name: str, version: str, folder: Path, *, run: Callable[..., Any] = subprocess.run) -> bool:
    """Download and unpack a package unless it is there; True where it was fetched.

    Raises:
        DataError: it is not to be had; a version that the archive no longer holds is replaced by hand in the recipe.
    """
    place = folder / name
    if place.is_dir():
        return False
    # Not `atomic_folder`: apt downloads as its own user, who could not write to a folder of mode 700.
    beside = folder / f".{name}.partial"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    _call(run, ["apt-get", "download", f"{name}={version}"], beside)
    archive = next(iter(beside.glob("*.deb")), None)
    if archive is None:
        raise DataError(f"apt-get download brought no file for {name} {version}; run apt-get update")
    _call(run, ["dpkg-deb", "-x", archive.name, "."], beside)
    for path in sorted(beside.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif not path.name.endswith(KEPT):
            path.unlink()
    beside.mkdir(exist_ok=True)
    beside.rename(place)
    return True


def _call(run: Callable[..., Any], command: list[str], folder: Path) -> None:
    try:
        found = run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataError(f"{command[0]} cannot be run ({error}); packages are fetched on Debian") from error
    if found.returncode:
        reason = " ".join(found.stderr.split())[-200:]
        raise DataError(f"{' '.join(command)} failed ({reason}); run apt-get update, or change the recipe's version")
