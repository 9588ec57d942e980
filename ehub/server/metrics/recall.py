"""How well searches answer: now and then the last ones are asked again, with the index and exactly.

They are the callers' own queries, with their k and ef, so the figure is what callers get. An exact
search reads every row, so the measuring ends when it has taken a small part of the time there is.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grpc
from prometheus_client.core import GaugeMetricFamily, Metric

from ehub import _arrays
from ehub.errors import EhubError
from ehub.hub import Hub
from ehub.index import as_near
from ehub.server.metrics.hub import VERSION_LABELS
from ehub.server.watching import Watch
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import array_of

__all__ = ["RecallSample"]

log = logging.getLogger("ehub.server.metrics")

SHARE_OF_TIME = 0.02
TARGETS_MAX = 100
SEARCH = "/ehub.v1.Embeddinghub/Search"
UNWATCHED = Watch()


class RecallSample:
    """Keeps some of the last searches of each version, and measures them again in a thread.

    Args:
        hub: The hub.
        seconds: How long it waits between measuring.
        queries_max: So many searches of a version are kept and measured.
    """

    def __init__(self, hub: Hub, seconds: float, queries_max: int) -> None:
        self._hub = hub
        self._seconds = seconds
        self._queries_max = queries_max
        self._lock = threading.Lock()
        # By space and version as the caller named them, the last used last.
        self._kept: OrderedDict[tuple[str, str], deque[pb.SearchRequest]] = OrderedDict()
        # By space and version: recall, and of how many searches.
        self._found: dict[tuple[str, str], tuple[float, int]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ehub-recall", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, when the search that it is at is done."""
        self._closed.set()
        self._thread.join()

    # --- the last searches ---

    def watch(self, method: str, metadata: Sequence[tuple[str, Any]]) -> Watch:
        """Keep the request if it is a search."""
        return Keeper(self) if method == SEARCH else UNWATCHED

    def keep(self, request: pb.SearchRequest) -> None:
        """Keep a search by one vector among all rows of a version as it is now."""
        if not is_plain(request):
            return
        named = (request.target.space, request.target.version)
        with self._lock:
            kept = self._kept.get(named)
            if kept is None:
                kept = self._kept[named] = deque(maxlen=self._queries_max)
                if len(self._kept) > TARGETS_MAX:
                    self._kept.popitem(last=False)
            kept.append(request)
            self._kept.move_to_end(named)

    # --- measuring ---

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            self.measure()

    def measure(self) -> None:
        """Measure what was kept since, the version that was searched last first."""
        with self._lock:
            kept, self._kept = self._kept, OrderedDict()
        until = time.monotonic() + SHARE_OF_TIME * self._seconds
        for (space, version), requests in reversed(kept.items()):
            try:
                self._measure(space, version, list(requests), until)
            except (EhubError, MemoryError) as error:  # the version is gone, say
                log.debug("recall was not measured", extra={"space": space, "error": str(error)})
            if time.monotonic() > until:
                return

    def _measure(
        self, space: str, named: str, requests: list[pb.SearchRequest], until: float
    ) -> None:
        whole = self._hub.get_space(space)
        version = whole.version(named) if named else whole.current
        near = exact = done = 0
        rows = version._now()  # a snapshot would be in the way of an erasure
        for request in requests:
            if self._closed.is_set() or (done and time.monotonic() > until):
                break
            k, ef = request.options.k, request.options.ef
            query = _arrays.as_vectors(array_of(request.vectors), version.dims, space)
            _, found, _ = rows.nearest(query, k, math.inf, None, ef)
            _, truth, _ = rows.nearest(query, k, math.inf, None, 0, True)
            near += as_near(found, truth)
            exact += len(truth)
            done += 1
        if exact:
            self._found[space, version.name] = near / exact, done

    # --- the figures ---

    def describe(self) -> Iterable[Metric]:
        """Nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What was found last of each version that there is still."""
        recall = GaugeMetricFamily(
            "ehub_recall",
            "Share of the true neighbors in the answers to the last searches.",
            labels=VERSION_LABELS,
        )
        queries = GaugeMetricFamily(
            "ehub_recall_queries", "How many searches that is of.", labels=VERSION_LABELS
        )
        for (space, version), (share, count) in sorted(self._found.items()):
            if space not in self._hub or version not in self._hub.get_space(space).versions():
                self._found.pop((space, version), None)
                continue
            recall.add_metric((space, version), share)
            queries.add_metric((space, version), count)
        yield from (recall, queries)


class Keeper(Watch):
    """Keeps the request of one search, if it was answered: others are not of the hub's making."""

    __slots__ = ("_request", "_sample")

    def __init__(self, sample: RecallSample) -> None:
        self._sample = sample
        self._request: pb.SearchRequest | None = None

    def received(self, message: Any, size: int) -> None:
        """Hold it until the end."""
        self._request = message

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Keep it, or not."""
        if code is grpc.StatusCode.OK and self._request is not None:
            self._sample.keep(self._request)


def is_plain(request: pb.SearchRequest) -> bool:
    """Whether a search is around one vector, among all rows of a version as of now, and walks."""
    target, options = request.target, request.options
    return (
        request.WhichOneof("around") == "vectors"
        and 0 < len(request.vectors.values) == 4 * request.vectors.dims
        and target.WhichOneof("time") is None
        and not (target.partitions or target.and_partitions or target.average)
        and not (options.exact or options.HasField("filter") or options.HasField("max_distance"))
    )
