"""What guards a server: every call is somebody's, and does only what they may.

A call without a believed token is refused before its request is read, by a thread for all of them
that takes its time, which is what keeps a flood of them cheap: it costs no memory, no place among
the calls (`admission.py`), and at most a few lines of the audit log a second. Guessing is hopeless
in any case (a key has 256 random bits), so nobody is locked out for what others send from the same
address.

What a call may do is decided from its request by `rules.py`, for each message of a stream. The
services get the rest through `scope.py`: which partitions to look into, what may be listed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc

from ehub.access import Access, AuditLog, NotAuthenticated, Principal, read_settings
from ehub.access.principals import NOBODY
from ehub.errors import EhubError, PermissionDeniedError
from ehub.hub import Hub
from ehub.server.checked_call import CheckedCall, abort
from ehub.server.config import ServerConfig
from ehub.server.handlers import refusing
from ehub.server.inner_calls import Run
from ehub.server.notebook import Notebook
from ehub.server.rules import OLD_SERVICE, RULES

__all__ = ["AccessInterceptor", "guard_of"]

log = logging.getLogger("ehub.server.access")

AUTHORIZATION = "authorization"
BEARER = "bearer "
SAVE_SECONDS = 300.0


def guard_of(hub: Hub, config: ServerConfig) -> AccessInterceptor:
    """The guard of a hub, as its keys and grants and the table [auth] of the config say."""
    table = config.extra.get("auth")
    settings = None if table is None else read_settings(table, config.directory)
    return AccessInterceptor(hub, Access(hub, settings))


class AccessInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets calls through, or not; one for a server, the outermost of its interceptors.

    While the hub has no key and no grant, and the config no [auth], everybody may do everything,
    and of changes only those of keys and grants are in the audit log.
    """

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access
        self._audit = None if hub.read_only else AuditLog(hub.path)
        self._notebook = Notebook(self._audit)
        self._closed = threading.Event()
        self._saver = threading.Thread(target=self._save_often, name="ehub-access", daemon=True)
        self._saver.start()

    @property
    def hub(self) -> Hub:
        """The hub that it guards."""
        return self._hub

    @property
    def access(self) -> Access:
        """The keys and grants that it goes by."""
        return self._access

    @property
    def authenticates(self) -> bool:
        """Whether callers have to prove who they are."""
        return self._access.guarded

    @property
    def notebook(self) -> Notebook:
        """What writes the audit log."""
        return self._notebook

    def close(self) -> None:
        """Keep what is to be kept; before the hub is closed. Closing twice is fine."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._saver.join()
        self._notebook.close()
        self._save()
        self._access.close()

    def _save_often(self) -> None:
        while not self._closed.wait(SAVE_SECONDS):
            self._save()

    def _save(self) -> None:
        try:
            # On the disk first: a head that a power cut makes wrong would look like a log cut off.
            self._access.save(None if self._audit is None else self._audit.sync())
        except (EhubError, OSError) as error:  # a full disk, say; the next time has all of it
            log.warning("when keys were used was not saved", extra={"error": str(error)})

    # --- one call ---

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The handler of a call, with a guard before it; or one that refuses."""
        rule = RULES.get(details.method)
        if not self._access.guarded or (rule is not None and rule.open):
            return continuation(details)
        is_old = details.method.startswith(f"/{OLD_SERVICE}/")
        try:
            principal = self._caller(details.invocation_metadata, is_old)
        except NotAuthenticated as error:
            return self._refusing(details.method, error)
        handler = continuation(details)
        if handler is None:  # there is no such method
            return None
        if rule is None:
            why = f"nobody may call {details.method}, for which there is no rule"
            return self._refusing(details.method, PermissionDeniedError(why), principal)
        call = CheckedCall(self._access, self._notebook, details.method, rule, principal, is_old)
        return call.handler(handler)

    def layer(self, path: str, inner: Run) -> Run:
        """The same around each call of a method from within, which is one of the table."""
        rule, access, notebook = RULES[path], self._access, self._notebook

        def run(request: Any, context: Any) -> Any:
            if rule.open or not access.guarded:
                return inner(request, context)
            try:
                principal = self._caller(context.metadata, is_old=False)
            except NotAuthenticated as error:
                notebook.denial(path, NOBODY, context.peer(), (), error)
                abort(context, error)
            call = CheckedCall(access, notebook, path, rule, principal, is_old=False)
            return call.run(inner, request, context)

        return run

    def _caller(self, metadata: Any, is_old: bool) -> Principal | None:
        """Who calls; None if that is to be seen from the connection."""
        token = token_of(metadata)
        if token is None and self._access.may_lack_token(old_client=is_old):
            return None
        return self._access.authenticate(token, old_client=is_old)

    def _refusing(
        self, method: str, error: PermissionDeniedError, principal: Principal | None = None
    ) -> grpc.RpcMethodHandler:
        """A handler that ends the call at once."""
        # What it has come through has this handler, and all would stay until garbage is collected.
        error.__traceback__ = None

        def refuse(context: grpc.ServicerContext) -> None:
            self._notebook.denial(method, principal or NOBODY, context.peer(), (), error)
            abort(context, error)

        return refusing(refuse)


def token_of(metadata: Any) -> str | None:
    """The token of a call; None if it has none. What is no bearer token is not believed."""
    for name, value in metadata:
        if name == AUTHORIZATION:
            if isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
                return value[len(BEARER) :].strip()
            raise NotAuthenticated('the metadata "authorization" is no "Bearer TOKEN"')
    return None
