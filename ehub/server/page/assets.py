"""The files of the page: what they are is settled when the server starts, so no path leads astray.

They have nothing of the hub in them, so anybody may read them. Plotly's script comes from the
Python package that is installed (extra `ui`).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from ehub.errors import UnavailableError

__all__ = ["Asset", "assets"]

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its type for HTTP, its bytes as they are and compressed, and a tag for caches."""

    content_type: str
    body: bytes
    compressed: bytes
    tag: str


def assets() -> dict[str, Asset]:
    """All files, by the path that they are asked for with.

    Raises:
        UnavailableError: Plotly is not installed.
    """
    own = {
        one.name: one.read_bytes() for one in files("ehub.server.page").joinpath("static").iterdir()
    }
    named = {f"/{name}": asset(name, body) for name, body in own.items()}
    return {
        "/": named.pop("/index.html"),
        **named,
        "/plotly.js": asset("plotly.js", plotly_script()),
    }


def asset(name: str, body: bytes) -> Asset:
    """A file, ready to be sent."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Asset(TYPES[name.rpartition(".")[2]], body, gzip.compress(body, mtime=0), tag)


def plotly_script() -> bytes:
    """Plotly for browsers, as the package for Python brings it along."""
    try:
        return files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UnavailableError(
            f"the page draws with plotly, which is not here ({error}): pip install 'ehub[ui]'"
        ) from error
