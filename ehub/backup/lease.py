"""Who is at work at a place: backups beside each other, a pruning alone.

A pruning removes chunks that no backup names, and a backup that is under way relies on chunks that
no backup names yet. So each puts an object that says so, and only then looks who else is there: of
two that exclude each other at least one sees the other and gives way.

An object of somebody who died is of no account once it is `LEASE_SECONDS` old by the clock of the
place, or at once if that was a process of this machine; whoever lives renews it, and stops if that
was not possible for half of that time.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from ehub.backup.place import Place
from ehub.errors import ConflictError, EhubError, NotFoundError
from ehub.names import now

__all__ = ["Lease", "leased"]

DIRECTORY = "locks"
LEASE_SECONDS = 600.0
RENEW_SECONDS = 60.0

Kind = Literal["backup", "prune"]


class Lease:
    """The right to work at a place, renewed by a thread of its own."""

    def __init__(self, place: Place, kind: Kind) -> None:
        self._place = place
        self._path = f"{DIRECTORY}/{kind}-{secrets.token_hex(8)}.json"
        self._said = json.dumps({"since": now(), **this_process()}).encode()
        self._renewed = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ehub-backup-lease", daemon=True)
        place.put(self._path, self._said)
        try:
            self._require_no_other("prune" if kind == "backup" else "")
        except BaseException:
            with suppress(EhubError):
                place.delete([self._path])
            raise
        self._thread.start()

    def require(self) -> None:
        """Raise a ConflictError if the lease has ended."""
        late = clock() - self._renewed > LEASE_SECONDS / 2
        if late or self._path not in self._place.objects(DIRECTORY):
            raise ConflictError(
                f"{self._place.url}: this process was held up for so long that others may have "
                "taken it for dead; try again"
            )

    def end(self) -> None:
        """Let others work."""
        self._ended.set()
        self._thread.join()
        self._place.delete([self._path])

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(EhubError):  # whoever works asks before it counts
                began = clock()
                self.require()
                self._place.put(self._path, self._said)
                self._renewed = began

    def _require_no_other(self, prefix: str) -> None:
        """Raise a ConflictError if somebody is at work whose object's name begins so."""
        listed = self._place.objects(DIRECTORY)
        mine = listed.pop(self._path).modified
        for path, found in listed.items():
            if not path.startswith(f"{DIRECTORY}/{prefix}"):
                continue
            said = self._read(path)
            if said is None:
                continue
            if (mine - found.modified).total_seconds() > LEASE_SECONDS or is_dead(said):
                self._place.delete([path])
                continue
            kind = path.removeprefix(f"{DIRECTORY}/").partition("-")[0]
            raise ConflictError(
                f"{self._place.url}: a {kind} is under way, of process {said.get('pid')} on host "
                f"{said.get('host')} since {said.get('since')}; wait for it to end. If it was "
                f"killed, it stands in the way for {LEASE_SECONDS / 60:.0f} minutes"
            )

    def _read(self, path: str) -> dict[str, Any] | None:
        """What another one says of itself; nothing if it has just ended."""
        try:
            said = json.loads(self._place.get(path))
        except NotFoundError:
            return None
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}


@contextmanager
def leased(place: Place, kind: Kind) -> Iterator[Lease]:
    """A lease that ends with the block; a ConflictError if somebody else is in the way."""
    lease = Lease(place, kind)
    try:
        yield lease
    finally:
        with suppress(EhubError):  # it ends by itself, too
            lease.end()


def clock() -> float:
    """Seconds, those in which the machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def this_process() -> dict[str, Any]:
    """What tells this process from all others."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "machine": this_machine(),
        "started": start_of(os.getpid()),
    }


def this_machine() -> str:
    """Of a process in the same numbering of processes since the same boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def start_of(pid: int) -> str | None:
    """When a process of this machine began, in ticks; nothing if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    return text.rpartition(")")[2].split()[19]


def is_dead(said: dict[str, Any]) -> bool:
    """Whether that was a process of this machine and is gone."""
    if said.get("machine") != this_machine() or not isinstance(said.get("pid"), int):
        return False
    return start_of(said["pid"]) != said.get("started")
