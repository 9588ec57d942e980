"""Files that a command writes at its end, looked at before its work."""

from __future__ import annotations

import os
from pathlib import Path

import typer

__all__ = ["require_writable"]


def require_writable(file: Path) -> None:
    """Refuse before the work what could not be written after it."""
    # Behind a link that leads to nothing is where the file would be made.
    real = Path(os.path.realpath(file))
    directory = real.parent
    if not directory.is_dir():
        told = real.parent if file.is_symlink() else file.parent
        raise typer.BadParameter(f"{file}: there is no directory {told}")
    if real.is_dir():
        raise typer.BadParameter(f"{file} is a directory; expected the name of a file")
    if not os.access(real if real.exists() else directory, os.W_OK):
        raise typer.BadParameter(f"{file}: it may not be written; say another place")
