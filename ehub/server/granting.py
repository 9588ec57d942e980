"""The service `ehub.v1.Access`: keys and grants of a hub that is served, for its admins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ehub.access import Administration, ApiKey, Grant, Principal
from ehub.errors import InvalidArgumentError
from ehub.server import scope
from ehub.server.calls import Guard
from ehub.server.interceptor import AccessInterceptor
from ehub.server.serve import Service
from ehub.wire import access_pb2 as pb
from ehub.wire.methods import ACCESS, methods_of

__all__ = ["access_service"]

SECONDS_MAX = 1e10  # three hundred years


class Granting:
    """The servicer: a method for each RPC of access.proto, which says what they do."""

    def __init__(self, guard: AccessInterceptor) -> None:
        self._access = guard.access
        self._notebook = guard.notebook

    def _administration(self, method: str, context: Any) -> Administration:
        """Changes by the caller."""
        who = Principal(scope.principal.get() or "unguarded", how="")
        peer = context.peer()
        return Administration(
            self._access, who.name, lambda what: self._notebook.change(method, who, peer, what)
        )

    def CreateKey(self, request: pb.CreateKeyRequest, context: Any) -> pb.CreateKeyResponse:
        seconds = request.expires_in_seconds
        if not 0 <= seconds <= SECONDS_MAX:
            raise InvalidArgumentError(f"expires_in is {seconds:g} seconds; expected 0 or more")
        token, key = self._administration("CreateKey", context).create_key(
            request.name,
            [Grant(one.role, one.on) for one in request.grants],
            expires_in=timedelta(seconds=seconds) if seconds else None,
        )
        return pb.CreateKeyResponse(token=token, key=key_message(key))

    def RevokeKey(self, request: pb.RevokeKeyRequest, context: Any) -> pb.ApiKeys:
        ended = self._administration("RevokeKey", context).revoke(request.key)
        return pb.ApiKeys(keys=map(key_message, ended))

    def AddGrant(self, request: pb.Grant, context: Any) -> pb.GrantDone:
        grant = Grant(request.role, request.on)
        self._administration("AddGrant", context).grant(request.principal, grant)
        return pb.GrantDone()

    def RemoveGrant(self, request: pb.Grant, context: Any) -> pb.GrantDone:
        grant = Grant(request.role, request.on)
        self._administration("RemoveGrant", context).ungrant(request.principal, grant)
        return pb.GrantDone()

    def ListAccess(self, request: pb.ListAccessRequest, context: Any) -> pb.AccessList:
        used = self._access.last_used()
        keys = (key_message(key, used.get(key.id, "")) for key in self._access.api_keys())
        return pb.AccessList(keys=keys, grants=self._grants())

    def _grants(self) -> Iterable[pb.Grant]:
        for name, given in self._access.grants().items():
            for one in given:
                yield pb.Grant(
                    principal=name,
                    role=one.role,
                    on=one.on,
                    created=one.created,
                    created_by=one.created_by,
                )


def key_message(key: ApiKey, last_used: str = "") -> pb.ApiKey:
    """A key's record as it travels: without its hash."""
    return pb.ApiKey(
        id=key.id,
        name=key.name,
        created=key.created,
        created_by=key.created_by,
        expires=key.expires,
        revoked=key.revoked,
        last_used=last_used,
    )


def access_service(guard: AccessInterceptor) -> Service:
    """The service, to be given to the server that the interceptor guards."""
    servicer, wrapper = Granting(guard), Guard(guard.hub.path)
    wrapped = {
        name: staticmethod(wrapper.wrap(method, getattr(servicer, name)))
        for name, method in methods_of(ACCESS).items()
    }
    return Service(ACCESS, type("Wrapped", (), wrapped)())
