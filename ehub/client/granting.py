"""Keys and grants of a hub on a server: what an `Administration` does to one in a directory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from ehub.access import ApiKey, Grant
from ehub.access.access import GrantNote
from ehub.client.transport import Transport
from ehub.wire import access_pb2 as pb

__all__ = ["RemoteAdministration"]


class RemoteAdministration:
    """Changes of keys and grants by whoever the connection's token is of, an admin of the hub."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_key(
        self, name: str, grants: Iterable[Grant] = (), *, expires_in: timedelta | None = None
    ) -> tuple[str, ApiKey]:
        """Make an API key; the key, and its record."""
        made = self._transport.call(
            "CreateKey",
            pb.CreateKeyRequest(
                name=name,
                grants=[pb.Grant(role=one.role, on=one.on) for one in grants],
                expires_in_seconds=0 if expires_in is None else expires_in.total_seconds(),
            ),
        )
        return made.token, key_of(made.key)

    def revoke(self, key: str) -> list[ApiKey]:
        """End a key, by its id, or all good ones of a name; those that were ended."""
        ended = self._transport.call("RevokeKey", pb.RevokeKeyRequest(key=key))
        return [key_of(one) for one in ended.keys]

    def grant(self, principal: str, grant: Grant) -> None:
        """Give a principal a role on a resource."""
        self._transport.call(
            "AddGrant", pb.Grant(principal=principal, role=grant.role, on=grant.on)
        )

    def ungrant(self, principal: str, grant: Grant) -> None:
        """Take a grant back."""
        self._transport.call(
            "RemoveGrant", pb.Grant(principal=principal, role=grant.role, on=grant.on)
        )

    def listed(self) -> tuple[list[ApiKey], dict[str, tuple[GrantNote, ...]], dict[str, str]]:
        """All keys; the grants of each principal; when keys were used last, by id."""
        found = self._transport.call("ListAccess", pb.ListAccessRequest(), again=True)
        grants: dict[str, tuple[GrantNote, ...]] = {}
        for one in found.grants:
            note = GrantNote(one.role, one.on, one.created, one.created_by)
            grants[one.principal] = (*grants.get(one.principal, ()), note)
        used = {one.id: one.last_used for one in found.keys if one.last_used}
        return [key_of(one) for one in found.keys], grants, used


def key_of(message: pb.ApiKey) -> ApiKey:
    """A key's record; of the hash of its secret a client learns nothing."""
    return ApiKey(
        id=message.id,
        name=message.name,
        sha256="",
        created=message.created,
        created_by=message.created_by,
        expires=message.expires,
        revoked=message.revoked,
    )
