"""Principals: who calls, and how they proved it.

A principal's name says where it comes from, so that nobody can take the name of somebody of another
kind:

    key:<name>      whoever has an API key of that name
    user:<subject>  a user of the identity provider, from a JWT
    group:<name>    all users whose JWT has that group
    cert:<name>     whoever shows a client certificate with that subject alternative name
    anonymous       whoever shows nothing, where the server's config lets them
    old-clients     the same with the service of the old clients
"""

from __future__ import annotations

from dataclasses import dataclass

from ehub import names
from ehub.errors import InvalidArgumentError

__all__ = ["ANONYMOUS", "KINDS", "NOBODY", "OLD_CLIENTS", "Principal", "as_principal_name"]

KINDS = ("key", "user", "group", "cert")
ANONYMOUS = "anonymous"
OLD_CLIENTS = "old-clients"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Args:
        name: As above, without a group.
        groups: Names of groups that it is in, as above.
        how: What proved it, for the audit log: "key <id>", "jwt", "certificate", "none".
        key: The id of the API key that proved it; empty: it was something else.
    """

    name: str
    groups: tuple[str, ...] = ()
    how: str = "none"
    key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names whose grants it has."""
        return (self.name, *self.groups)


# Who could not prove anything.
NOBODY = Principal("")


def as_principal_name(name: object) -> str:
    """A principal's name that can be given grants in the hub."""
    kind, colon, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not colon or kind not in KINDS:
        raise InvalidArgumentError(
            f"the principal is {name!r:.100}; expected "
            + ", ".join(f"{kind}:NAME" for kind in KINDS[:-1])
            + f" or {KINDS[-1]}:NAME"
        )
    return f"{kind}:{names.as_name(rest, 'a principal')}"
