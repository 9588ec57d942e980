"""What each RPC needs: the one table from methods to verbs. What is not in it is denied.

A rule says what a call is allowed by: nothing at all, any proof of identity, a verb somewhere, or
verbs on what the request names. `within` marks reads that the service filters by the caller's
partitions (`scope.partitions`), so that a grant on a partition is enough for them; whatever looks
at rows without that filter needs the whole space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ehub.access.grants import HUB, Resource

__all__ = ["HEALTH", "METRICS", "OLD_SERVICE", "RULES", "Need", "Rule"]

NEW_SERVICE = "ehub.v1.Embeddinghub"
ACCESS_SERVICE = "ehub.v1.Access"
OLD_SERVICE = "featureform.embedding.proto.EmbeddingHub"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


class Need(NamedTuple):
    """A verb on a resource."""

    verb: str
    resource: Resource
    within: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call of one method needs.

    Args:
        needs: From a request, or each message of a stream of them, to all that it needs; None:
            nothing on any resource.
        open: Nobody has to prove who they are.
        somewhere: A verb that the caller must have on something.
        mutates: It changes the hub, so it is in the audit log when it has succeeded; or the verb
            that it then needs, if it does not always.
    """

    needs: Callable[[Any], Iterable[Need]] | None = None
    open: bool = False
    somewhere: str = ""
    mutates: bool | str = False


# Anybody, and anybody who is somebody.
EVERYONE = Rule(open=True)
KNOWN = Rule()


def on_hub(verb: str, *, mutates: bool = False) -> Rule:
    """A verb on the hub as a whole."""
    return Rule(lambda request: [Need(verb, HUB)], mutates=mutates)


def on_space(verb: str, field: str = "space", *, mutates: bool = True, somewhere: str = "") -> Rule:
    """A verb on the space that a field of the request names."""
    return Rule(
        lambda request: [Need(verb, Resource(getattr(request, field)))],
        somewhere=somewhere,
        mutates=mutates,
    )


def on_target(verb: str, *, mutates: bool = True) -> Rule:
    """A verb on the whole space of the request's target."""
    return Rule(lambda request: [Need(verb, Resource(request.target.space))], mutates=mutates)


def rows_of(target: Any) -> Need:
    """To read rows: in the partitions that are named, or filtered by the caller's.

    Means of a named average are made of rows of all partitions, so they need the whole space.
    """
    if target.average:
        return Need("read", Resource(target.space))
    named = (*target.partitions, *target.and_partitions)
    return Need("read", Resource(target.space, named or None), within=True)


def held(request: Any) -> list[Need]:
    """To hold a snapshot, which is read through the same filter; recorded, it is a tag.

    With an average it is of means, which are made of rows of all partitions.
    """
    space = Resource(request.target.space)
    if request.HasField("message"):
        return [Need("tag", space)]
    return [Need("read", space, within=not request.target.average)]


def written(request: Any) -> list[Need]:
    """To write: in each part where it says. What names no partition is the whole space."""
    return [need_of_part(part) for part in request.parts]


def need_of_part(part: Any) -> Need:
    """To write one part of a batch."""
    if part.WhichOneof("what") == "set":
        return Need("write", Resource(part.target.space, tuple(part.set.partitions) or None))
    return Need("delete", Resource(part.target.space, tuple(part.target.partitions) or None))


READS_ROWS = Rule(lambda request: [rows_of(request.target)])
# Whoever may write nowhere is refused before the first message, which may never come.
WRITES = Rule(written, somewhere="write", mutates=True)

NEW = {
    # The hub.
    "Hello": KNOWN,
    "Info": on_hub("see"),
    "Sync": Rule(somewhere="write"),
    "Checkpoint": on_hub("checkpoint", mutates=True),
    "Verify": on_hub("verify"),
    "Metrics": on_hub("see"),
    "Backup": on_hub("backup", mutates=True),
    # Spaces and versions. ListSpaces leaves out what the caller may not see.
    "ListSpaces": KNOWN,
    "CreateSpace": on_space("create"),
    "DeleteSpace": on_space("drop"),
    "Describe": on_target("see", mutates=False),
    "ListVersions": on_space("see", mutates=False),
    "CreateVersion": on_space("version"),
    "DeleteVersion": on_space("version"),
    "Freeze": on_target("freeze"),
    "Fork": on_target("version"),
    # Aliases.
    "ListAliases": on_space("see", mutates=False),
    "SetAlias": on_space("alias"),
    "RemoveAlias": on_space("alias"),
    "Promote": on_space("alias"),
    "Rollback": on_space("alias"),
    # Points in time.
    "TakeSnapshot": Rule(held, mutates="tag"),
    "OpenTag": Rule(lambda request: [Need("read", Resource(request.target.space), within=True)]),
    "CloseSnapshot": Rule(
        lambda request: [Need("read", Resource(request.target.space), within=True)]
    ),
    "ListTags": on_target("see", mutates=False),
    "SetTag": on_target("tag"),
    "RemoveTag": on_target("tag"),
    "ExpireSnapshots": on_target("tag"),
    "Restore": on_target("restore"),
    "Diff": Rule(
        lambda request: [
            Need("read", Resource(target.space)) for target in (request.since, request.until)
        ]
    ),
    # Reading.
    "Count": READS_ROWS,
    "Get": READS_ROWS,
    "MultiGet": READS_ROWS,
    "Locate": READS_ROWS,
    "Scan": READS_ROWS,
    "ListPartitions": READS_ROWS,
    "Search": READS_ROWS,
    "Recommend": READS_ROWS,
    "Average": READS_ROWS,
    "AveragePartitions": READS_ROWS,
    "KMeans": READS_ROWS,
    # Writing.
    "Write": WRITES,
    "Ingest": WRITES,
    # The index and upkeep: of all rows.
    "IndexStats": on_target("read", mutates=False),
    "StorageStats": on_target("read", mutates=False),
    "WaitIndexed": on_target("read", mutates=False),
    "Optimize": on_target("tend"),
    "Compact": on_target("tend"),
    "MeasureRecall": on_target("read", mutates=False),
    # Named averages.
    "ListAverages": on_target("see", mutates=False),
    "CreateAverage": on_target("average"),
    "DeleteAverage": on_target("average"),
    "UpdateAverage": on_target("write"),
    "GetMembers": on_target("read", mutates=False),
    "RefreshAverage": on_target("read", mutates=False),
    # Sub-indices. Their keys are told, and changed, without a look at the partitions of rows.
    "ListSubIndices": READS_ROWS,
    "CreateSubIndex": on_target("subindex"),
    "DropSubIndex": on_target("subindex"),
    "UpdateSubIndex": on_target("write"),
    "ScanSubIndexKeys": on_target("read", mutates=False),
    # Erasing: of whole spaces.
    "PlanErasure": on_space("erase", mutates=False),
    "Erase": on_space("erase"),
    "FinishErasures": on_hub("erase", mutates=True),
    # What its messages need is checked for each: it is a call of its own.
    "Calls": Rule(somewhere="read"),
}

# The old clients know no partitions, so what they do is to whole spaces.
OLD = {
    "CreateSpace": on_space("create", "name"),
    "CheckSpace": on_space("see", "name", mutates=False),
    "DeleteSpace": on_space("drop", "name"),
    "FreezeSpace": on_space("freeze", "name"),
    # Without an embedding it is their delete.
    "Set": Rule(
        lambda request: [
            Need("write" if request.HasField("embedding") else "delete", Resource(request.space))
        ],
        mutates=True,
    ),
    "Get": on_space("read", mutates=False),
    "Delete": on_space("delete"),
    "MultiSet": on_space("write", somewhere="write"),
    "MultiGet": on_space("read", mutates=False, somewhere="read"),
    "MultiDelete": on_space("delete", somewhere="delete"),
    "NearestNeighbor": on_space("read", mutates=False),
    "Download": on_space("read", mutates=False),
}

# Keys and grants. Each change tells the audit log itself, more than a rule could.
ACCESS = {
    name: on_hub("grant")
    for name in ("CreateKey", "RevokeKey", "AddGrant", "RemoveGrant", "ListAccess")
}

METRICS = f"/{NEW_SERVICE}/Metrics"

# By path, as gRPC has it. Load balancers ask for health without a token, and learn only that.
RULES: dict[str, Rule] = {
    **{f"/{NEW_SERVICE}/{name}": rule for name, rule in NEW.items()},
    **{f"/{ACCESS_SERVICE}/{name}": rule for name, rule in ACCESS.items()},
    **{f"/{OLD_SERVICE}/{name}": rule for name, rule in OLD.items()},
    **{f"/{HEALTH}/{name}": EVERYONE for name in ("Check", "List", "Watch")},
    f"/{REFLECTION}/ServerReflectionInfo": KNOWN,
}
