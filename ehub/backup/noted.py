"""What a hub knows of its backups: `backups/` in it has a file for each place that has some.

So that an erasure can say where copies of what it erased are. The engine leaves the directory
alone, and no backup has it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from ehub.backup.record import Backup

__all__ = ["note", "places"]

DIRECTORY = "backups"


def note(hub: str, url: str, backup: Backup) -> None:
    """Note that there is a backup; not where the hub's directory may only be read."""
    directory = Path(hub, DIRECTORY)
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    temporary = directory / f"{name}.{os.getpid()}.tmp"
    with suppress(OSError):
        directory.mkdir(exist_ok=True)
        temporary.write_text(json.dumps({"url": url, **backup.to_dict()}))
        temporary.replace(directory / f"{name}.json")


def places(hub: str) -> list[str]:
    """The places that were noted."""
    found = []
    for path in Path(hub, DIRECTORY).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(str(json.loads(path.read_text())["url"]))
    return sorted(found)
