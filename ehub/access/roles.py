"""Verbs, and the roles that have them: reader < writer < editor < admin.

A verb is what a call does to a resource. Each role has the verbs of the one before and some of its
own; a role has no others, so a verb that is in none is denied to everybody.
"""

from __future__ import annotations

from ehub.errors import InvalidArgumentError

__all__ = ["HUB_VERBS", "PARTITION_ROLES", "PARTITION_VERBS", "ROLES", "VERBS", "as_role"]

READER = frozenset(
    {
        "see",  # names and descriptions: versions, aliases, tags, models; of the hub: its totals
        "read",  # vectors, searches, averages, scans, differences, held snapshots, statistics
    }
)
WRITER = READER | {
    "write",  # set rows, the members of named averages, and the keys of sub-indices
    "delete",  # delete rows
}
EDITOR = WRITER | {
    "create",  # make a space
    "drop",  # delete a space with all that is in it
    "version",  # make, fork and delete versions
    "freeze",  # make a version immutable, for ever
    "alias",  # make, move, promote, roll back, remove an alias
    "tag",  # make and remove tags and recorded snapshots
    "restore",  # make rows again what they were
    "average",  # make and delete named averages
    "subindex",  # make and drop sub-indices
    "tend",  # compact, optimize
}
ADMIN = EDITOR | {
    "erase",  # remove keys of a space for good, from frozen versions and tags as well
    "checkpoint",  # fold the hub's log now
    "verify",  # read every file of the hub
    "backup",  # copy the hub elsewhere
    "grant",  # keys and grants
    "audit",  # read the audit log
}

ROLES: dict[str, frozenset[str]] = {
    "reader": READER,
    "writer": WRITER,
    "editor": EDITOR,
    "admin": ADMIN,
}

VERBS = ADMIN

# Those that are about the hub as a whole, so that only a grant on the hub gives them.
HUB_VERBS = ADMIN - EDITOR - {"erase"}

# What a grant on a partition can give: rows are in partitions, and nothing else is.
PARTITION_VERBS = WRITER
PARTITION_ROLES = ("reader", "writer")


def as_role(role: object) -> str:
    """The name of a role."""
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidArgumentError(f"role is {role!r:.100}; expected one of {', '.join(ROLES)}")
    return role
