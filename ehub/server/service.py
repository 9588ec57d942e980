"""The service `ehub.v1.Embeddinghub` over one hub: what is asked for on the wire, done on the hub.

Each part has the calls of one kind. They take messages to the facade, or to the engine where the
facade would only pack and unpack; so what holds in embedded use holds here, errors included.
"""

from __future__ import annotations

from collections.abc import Sequence

from ehub.backup.allowed import AllowedPlaces
from ehub.hub import Hub
from ehub.server.backing_up import BackingUp, Places
from ehub.server.call_streams import CallStreams
from ehub.server.calling import Calling
from ehub.server.calls import Guard
from ehub.server.config import Limits
from ehub.server.erasing import Erasing, Receipts
from ehub.server.inner_calls import InnerCalls
from ehub.server.leases import Leases
from ehub.server.metrics.metrics import Metrics
from ehub.server.naming import Naming
from ehub.server.reading import Reading, gathered_searches
from ehub.server.requests import Requests
from ehub.server.serve import Service
from ehub.server.subindexing import SubIndexing
from ehub.server.targets import Targets
from ehub.server.times import Times
from ehub.server.unfinished import Unfinished
from ehub.server.upkeep import Upkeep
from ehub.server.writing import Writing
from ehub.wire.methods import SERVICE

__all__ = ["Embeddinghub", "service"]


class Embeddinghub(
    Naming, Times, Reading, Writing, Upkeep, SubIndexing, Erasing, BackingUp, Calling
):
    """The servicer: a method for each RPC of ehub.proto, which says what they do."""

    def __init__(
        self, hub: Hub, limits: Limits, metrics: Metrics, backup_to: Sequence[str] = ()
    ) -> None:
        self._hub = hub
        self._limits = limits
        self._metrics = metrics
        self._leases = Leases(limits)
        self._targets = Targets(hub, self._leases)
        self._requests = Requests(hub, limits.clients)
        self._receipts = Receipts()
        self._places = Places(AllowedPlaces(backup_to))
        self._unfinished = Unfinished(limits)
        self._searches = gathered_searches()
        self._call_streams = CallStreams(limits.call_streams)

    def offered(self, calls: InnerCalls) -> None:
        """A server offers it, and runs what comes as a message of a stream by these."""
        self._inner_calls = calls

    def stopping(self) -> None:
        """Ask no more of those who ask nothing now."""
        self._call_streams.stop()

    def close(self) -> None:
        """Let go of what is held for clients."""
        self._leases.close()


def service(
    hub: Hub, limits: Limits, metrics: Metrics | None = None, backup_to: Sequence[str] = ()
) -> Service:
    """The service of a hub, to be given to a Server.

    Args:
        hub: The hub.
        limits: What a call may ask for.
        metrics: The figures of the server, which stay the caller's to close; None: of the hub.
        backup_to: Places below which callers may have it backed up (`ServerConfig.backup_to`).
    """
    servicer = Embeddinghub(hub, limits, Metrics(hub) if metrics is None else metrics, backup_to)
    return Service(
        SERVICE,
        Guard(hub.path).around(SERVICE, servicer),
        servicer.close,
        offered=servicer.offered,
        stopping=servicer.stopping,
    )
