"""A hub of a server."""

from __future__ import annotations

from ehub.backup.place import Where
from ehub.backup.record import Backup
from ehub.client import backing_up, erasing
from ehub.client.link import Link
from ehub.client.messages import named, schema_of
from ehub.client.remote_space import RemoteSpace
from ehub.client.transport import Transport
from ehub.hub import Hub
from ehub.model import Model
from ehub.space import Space
from ehub.types import Finding, HubInfo, KeyType, Metric, VerifyReport
from ehub.wire import ehub_pb2 as pb

__all__ = ["RemoteHub"]


class RemoteHub(Hub):
    """A hub on a server, with the methods of a `Hub`.

    It comes from `ehub.connect()`. Any thread may use it and what comes from it; a process that was
    forked from this one must connect itself.
    """

    __slots__ = ("_link", "_options")

    def __init__(self, transport: Transport) -> None:
        self._link = Link(transport)
        # What sub-indices were last made or refreshed by, by their ids.
        self._conditions = {}

    @property
    def transport(self) -> Transport:
        """The way to the server."""
        return self._link.transport

    @property
    def path(self) -> str:
        """The server's address."""
        return self.transport.options.address

    @property
    def read_only(self) -> bool:
        """Whether the server refuses writes."""
        return bool(self._link.read("Hello", pb.HelloRequest()).read_only)

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self.transport.closed

    def create_space(
        self,
        name: str,
        dims: int | None = None,
        *,
        metric: Metric | None = None,
        key_type: KeyType = "str",
        model: Model | None = None,
        M: int = 24,
        ef_construction: int = 100,
        ef: int | None = None,
        target_recall: float = 0.95,
    ) -> Space:
        """Make a space: `Hub.create_space()`."""
        schema = schema_of(dims, metric, key_type, model, M, ef_construction, ef, target_recall)
        request = pb.CreateSpaceRequest(space=named(name, "a space"), schema=schema)
        return RemoteSpace(self, name, self._link.change("CreateSpace", request))

    def get_space(
        self, name: str, download_snapshot: bool = False, *, progress: bool = False
    ) -> Space:
        """The space of that name; a NotFoundError if there is none."""
        space = RemoteSpace(self, named(name, "a space"))
        return space.download_snapshot(progress=progress) if download_snapshot else space

    def spaces(self) -> list[str]:
        """The names of all spaces that the caller may know of."""
        return list(self._link.read("ListSpaces", pb.ListSpacesRequest()).names)

    def delete_space(self, name: str) -> None:
        """Delete a space with all its versions and tags; a NotFoundError if there is none."""
        request = pb.DeleteSpaceRequest(space=named(name, "a space"))
        self._link.change("DeleteSpace", request)

    def __contains__(self, name: object) -> bool:
        return name in self.spaces()

    def save(self) -> None:
        """Make everything durable that was acknowledged."""
        self._link.read("Sync", pb.SyncRequest())

    def checkpoint(self, *, progress: bool = False) -> None:
        """Fold the log into segments now: `Hub.checkpoint()`; a bar shows the time alone."""
        with self._link.waiting(progress, "checkpoint"):
            self._link.read("Checkpoint", pb.CheckpointRequest())

    def refresh(self) -> None:
        """Nothing to do: a server shows every write that it has acknowledged."""
        self._link.transport.require_open()

    def verify(self, *, progress: bool = False) -> VerifyReport:
        """Read every file and check it: `Hub.verify()`; a bar shows the time alone."""
        with self._link.waiting(progress, "verify"):
            answer = self._link.read("Verify", pb.VerifyRequest())
        findings = tuple(Finding(one.path, one.what) for one in answer.findings)
        return VerifyReport(answer.files, answer.bytes, answer.rows, findings)

    def backup(self, where: Where, *, index: bool = True, progress: bool = False) -> Backup:
        """Have the server copy its hub, as it is now: `Hub.backup()`.

        Args:
            where: An absolute path on the server's machine, or a URL, whose credentials are in the
                environment of the server; whoever runs that allows places (`ehub serve
                --backup-to`).
            index: Copy graphs as well.
            progress: Show a bar if standard error is a terminal.

        Raises:
            PermissionDeniedError: The server may not back up there, or the caller not at all.
            ConflictError: The server makes a backup there already, backups are being pruned there,
                or are of another hub.
            StorageError: The place fails. Earlier backups are as good as before.
        """
        return backing_up.backup(self._link, where, index, progress)

    def finish_erasures(self, *, wait: float = 0.0) -> list[str]:
        """Remove what processes beside the server held of erased rows: `Hub.finish_erasures()`."""
        return erasing.finish(self._link, wait)

    def info(self) -> HubInfo:
        """The hub at a glance; its path is the server's."""
        answer = self._link.read("Info", pb.InfoRequest())
        return HubInfo(
            answer.path,
            answer.read_only,
            answer.spaces,
            answer.rows,
            answer.disk_bytes,
            answer.seq,
        )

    def close(self) -> None:
        """Close the connection; closing twice is fine. The server goes on."""
        self.transport.close()

    def __repr__(self) -> str:
        return f"<ehub.Hub at {self.path!r}{' closed' if self.closed else ''}>"
