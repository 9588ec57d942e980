"""What the page asks for, as values for JSON: a table of its questions, and an answer for each.

Keys are text, whatever they are in the space: JavaScript would round integers of 64 bits.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ehub
from ehub.errors import InvalidArgumentError, InvalidKeyError, NotFoundError, UnavailableError
from ehub.hub import Hub
from ehub.server.page.activity import Activity
from ehub.server.page.local_calls import Caller, LocalHubs
from ehub.server.page.sample_map import Maps, SampleMap
from ehub.server.page.search_quality import measure
from ehub.space import Space
from ehub.types import Key
from ehub.version import Version
from ehub.view import View
from ehub.wire import ehub_pb2 as pb

__all__ = ["ROUTES", "Reports"]

SPACES_MAX = 100
PARTITIONS_MAX = 200
K, K_MAX = 10, 100
TURN_SECONDS = 20.0

Values = Mapping[str, str]


class Reports:
    """Answers of one hub. Any thread may ask; each method is a route."""

    def __init__(self, hubs: LocalHubs) -> None:
        self._hubs = hubs
        self._busy = threading.Lock()
        self._maps = Maps(self._turn)
        self._activity = Activity()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One at a time of what takes all cores: the page is to leave the service its own."""
        if not self._busy.acquire(timeout=TURN_SECONDS):
            raise UnavailableError("the server is busy with others who look; try again")
        try:
            yield
        finally:
            self._busy.release()

    # --- names and counts ---

    def hub(self, caller: Caller, values: Values) -> dict[str, Any]:
        """The hub at a glance."""
        hub = self._hubs.of(caller)
        found = {
            "release": ehub.__version__,
            "read_only": hub.read_only,
            "principal": self._hubs.principal(caller),
            "info": None,
            "watches": self._hubs.permits(caller, "Metrics", pb.MetricsRequest()),
        }
        if self._hubs.permits(caller, "Info", pb.InfoRequest()):
            info = hub.info()
            found["info"] = {"rows": info.rows, "disk_bytes": info.disk_bytes, "seq": info.seq}
        return found

    def spaces(self, caller: Caller, values: Values) -> dict[str, Any]:
        """Spaces in the order of their names, a hundred at most: from a name on, or with a text."""
        hub = self._hubs.of(caller)
        wanted = values.get("match", "").casefold()
        every = sorted(name for name in hub.spaces() if wanted in name.casefold())
        rest = [name for name in every if name > values.get("after", "")]
        shown = (space_row(hub, name) for name in rest[:SPACES_MAX])
        return {
            "spaces": [one for one in shown if one is not None],
            "total": len(every),
            "after": rest[SPACES_MAX - 1] if len(rest) > SPACES_MAX else None,
        }

    def space(self, caller: Caller, values: Values) -> dict[str, Any]:
        """A space: its versions and aliases; of one version tags, partitions and the index."""
        space = self._hubs.of(caller).get_space(values["space"])
        version = version_of(space, values)
        leads: defaultdict[str, list[str]] = defaultdict(list)
        for alias in sorted(space.aliases().values(), key=lambda one: one.name):
            leads[alias.version].append(alias.name)
        partitions = partitions_of(version)
        target = pb.Target(space=space.name, version=version.name)
        permitted = self._hubs.permits(caller, "IndexStats", pb.IndexStatsRequest(target=target))
        return {
            "name": space.name,
            "version": version.name,
            "versions": [
                version_row(space.version(name), leads[name]) for name in space.versions()
            ],
            "tags": [
                {"name": tag.name, "created": tag.created, "message": tag.message}
                for tag in version.tags()
            ],
            "partitions": partitions[:PARTITIONS_MAX],
            "partitions_total": len(partitions),
            "index": asdict(version.index_stats()) if permitted else None,
        }

    def activity(self, caller: Caller, values: Values) -> dict[str, Any]:
        """What the server does: calls by method, and how they went while somebody watched."""
        figures = self._hubs.call(caller, "Metrics", pb.MetricsRequest())
        return self._activity.report(figures.text)

    # --- rows ---

    def map(self, caller: Caller, values: Values) -> dict[str, Any]:
        """A sample of the rows in the plane in which they vary most."""
        view, found = self._mapped(caller, values)
        return {
            "id": found.id,
            "rows": len(view),
            "keys_seen": found.keys_seen,
            "keys": [str(key) for key in found.keys.tolist()],
            "x": [number(x) for x in found.points[:, 0].tolist()],
            "y": [number(y) for y in found.points[:, 1].tolist()],
            "shares": [number(share) for share in found.plane.shares.tolist()],
        }

    def neighbors(self, caller: Caller, values: Values) -> dict[str, Any]:
        """The rows nearest to a key, and where they are on the map that the caller has."""
        view, found = self._mapped(caller, values)
        key = key_of(view, values["key"])
        near = view.nearest_neighbors(k_of(values), key=key)
        keys = [key, *near.keys.tolist()]
        is_same = values.get("map") == found.id
        places = found.place(view, keys) if is_same else [None] * len(keys)
        at = [None if one is None else [number(one[0]), number(one[1])] for one in places]
        return {
            "key": str(key),
            "at": at[0],
            "neighbors": [
                {"key": str(one), "distance": number(distance), "at": place}
                for one, distance, place in zip(
                    keys[1:], near.distances.tolist(), at[1:], strict=True
                )
            ],
        }

    def quality(self, caller: Caller, values: Values) -> dict[str, Any]:
        """Recall and latency of searches around some of the rows, for each of several ef."""
        view, found = self._mapped(caller, values)
        if len(found.keys) < 2:
            raise InvalidArgumentError("a search needs two rows at least: there is nothing to find")
        with self._turn():
            return asdict(measure(view, k_of(values), found.keys))

    def _mapped(self, caller: Caller, values: Values) -> tuple[View, SampleMap]:
        """What a question is about, and its map."""
        version = version_of(self._hubs.of(caller).get_space(values["space"]), values)
        partition = values.get("partition")
        view: View = version if partition is None else version.partition(partition)
        return view, self._maps.of(view, (fingerprint(caller), version._table.id, partition))


@dataclass(frozen=True, slots=True)
class Route:
    """What answers, and which values it takes: those it must have, and others."""

    answer: Callable[[Reports, Caller, Values], dict[str, Any]]
    needs: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()


SPACE = frozenset({"space"})
ROWS = frozenset({"version", "partition"})

ROUTES = {
    "/api/hub": Route(Reports.hub),
    "/api/activity": Route(Reports.activity),
    "/api/spaces": Route(Reports.spaces, takes=frozenset({"match", "after"})),
    "/api/space": Route(Reports.space, SPACE, frozenset({"version"})),
    "/api/map": Route(Reports.map, SPACE, ROWS),
    "/api/neighbors": Route(Reports.neighbors, SPACE | {"key"}, ROWS | {"k", "map"}),
    "/api/quality": Route(Reports.quality, SPACE, ROWS | {"k"}),
}


def fingerprint(caller: Caller) -> bytes:
    """What tells callers apart, and is no secret."""
    proofs = repr((caller.authorization, caller.certificate))
    return hashlib.sha256(proofs.encode(errors="surrogatepass")).digest()


def version_of(space: Space, values: Values) -> Version:
    """The version that is asked about; without one, that which the space reads."""
    name = values.get("version")
    return space.current if name is None else space.version(name)


def space_row(hub: Hub, name: str) -> dict[str, Any] | None:
    """A space in a list; None if it has gone meanwhile."""
    try:
        space = hub.get_space(name)
        return {
            "name": name,
            "rows": count_of(space),
            "versions": len(space.versions()),
            "dims": space.dims,
            "metric": space.metric,
            "key_type": space.key_type,
        }
    except NotFoundError:
        return None


def version_row(version: Version, aliases: list[str]) -> dict[str, Any]:
    """A version in a list."""
    model = version.model
    return {
        "name": version.name,
        "aliases": aliases,
        "rows": count_of(version),
        "dims": version.dims,
        "metric": version.metric,
        "key_type": version.key_type,
        "frozen": version.frozen,
        "created": version.created,
        "model": None if model is None else model.to_dict(),
    }


def count_of(view: View) -> int | None:
    """How many rows; None for a caller of partitions of which none is here."""
    try:
        return len(view)
    except NotFoundError:
        return None


def partitions_of(version: Version) -> list[dict[str, Any]]:
    """Partitions and their rows, the largest first."""
    try:
        found = version.partitions()
    except NotFoundError:  # none that the caller may read
        return []
    ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return [{"name": name, "rows": rows} for name, rows in ranked]


def key_of(view: View, text: str) -> Key:
    """A key of the view's kind."""
    if view.key_type == "str":
        return text
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise InvalidKeyError(f"key {text!r:.100} is no integer, as the keys of this space are")
    return int(text)


def k_of(values: Values) -> int:
    """How many neighbors."""
    text = values.get("k", str(K))
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= K_MAX:
        raise InvalidArgumentError(f"k is {text!r:.100}; expected an integer from 1 to {K_MAX}")
    return int(text)


def number(value: float) -> float | None:
    """A figure to six digits; None for what JSON has no number for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
