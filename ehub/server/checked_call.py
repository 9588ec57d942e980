"""One call, checked against what its caller may do, before and while it runs."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import numpy as np

from ehub.access import Access, Decision, NotAuthenticated, Principal, Resource, Rights
from ehub.access.grants import HUB
from ehub.access.principals import NOBODY
from ehub.errors import NotFoundError, PermissionDeniedError
from ehub.server import scope
from ehub.server.handlers import Behaviour, around
from ehub.server.notebook import Notebook
from ehub.server.rules import Need, Rule
from ehub.wire.failures import DETAIL, code_of, detail_of
from ehub.wire.methods import Unreadable

if TYPE_CHECKING:
    from ehub._native import _store

__all__ = ["CheckedCall", "abort"]

NEEDS_MAX = 100


class CheckedCall:
    """A call of a method with a rule. It is made when the call begins, and serves it alone.

    Args:
        access: Who may what.
        notebook: What writes the audit log.
        method: Its path.
        rule: What it needs.
        principal: Who calls; None: to be seen from the connection.
        is_old: Whether it is of the old clients' service.
    """

    def __init__(
        self,
        access: Access,
        notebook: Notebook,
        method: str,
        rule: Rule,
        principal: Principal | None,
        is_old: bool,
    ) -> None:
        self._access = access
        self._notebook = notebook
        self._method = method
        self._rule = rule
        self._principal = principal
        self._is_old = is_old
        self._rights = Rights(())
        self._peer = ""
        # What was needed since the last line of the audit log, each once, in order.
        self._needs: dict[Need, None] = {}

    def handler(self, inner: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The handler of the method with the check before and the note behind it."""
        run = self._in_stream if inner.response_streaming else self._at_once
        return around(inner, partial(run, streams=inner.request_streaming))

    def _at_once(
        self, behaviour: Behaviour, given: Any, context: grpc.ServicerContext, streams: bool
    ) -> Any:
        """A call that is answered in one message."""
        given = self._begin(given, context, streams)
        try:
            answer = self._context().run(behaviour, given, context)
        except BaseException:
            if streams and self._needs:  # what came before the failure may be done
                self._note(None, failed=True)
            raise
        self._note(answer)
        return answer

    def run(self, behaviour: Behaviour, request: Any, context: Any) -> Any:
        """A call from within that has one request and one answer, in a context of its own."""
        given = self._begin(request, context, streams=False)
        self._tell()
        answer = behaviour(given, context)
        self._note(answer)
        return answer

    def _in_stream(
        self, behaviour: Behaviour, given: Any, context: grpc.ServicerContext, streams: bool
    ) -> Iterator[Any]:
        """A call that is answered in a stream.

        Of a stream of mutations each answer is noted; of a single one its end, if it was begun.
        """
        given = self._begin(given, context, streams)
        own = self._context()
        answers = own.run(behaviour, given, context)
        last, done = None, False
        try:
            while (answer := own.run(next, answers, None)) is not None:
                last = answer
                if streams:
                    self._note(answer)
                else:
                    self._check_again(given, context)
                yield answer
            done = True
        finally:
            if hasattr(answers, "close"):
                own.run(answers.close)
            if last is not None and not streams:
                self._note(last, failed=not done)

    # --- checks ---

    def _begin(self, given: Any, context: grpc.ServicerContext, streams: bool) -> Any:
        """Find out who calls, and check what is asked for: now, or as it comes."""
        self._peer = context.peer()
        principal = self._principal
        if principal is None:
            try:
                principal = self._access.authenticate(
                    None, certificate=certified(context), old_client=self._is_old
                )
            except NotAuthenticated as error:
                self._refuse(context, error)
            self._principal = principal
        self._rights = self._access.rights(principal)
        verb = self._rule.somewhere
        if verb and not self._rights.may_somewhere(verb):
            self._refuse(context, PermissionDeniedError(f"you may not {verb} anywhere"))
        if self._rule.needs is None:
            return given
        if streams:
            return self._each_checked(given, context)
        self._check(given, context)
        return given

    def _each_checked(self, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            self._require_still(context)
            self._check(request, context)
            yield request

    def _check_again(self, request: Any, context: grpc.ServicerContext) -> None:
        """End a long answer whose right has ended: what it reads was chosen when it began."""
        before, now = self._rights, self._access.rights(self._who)
        if self._rule.needs is None or now is before:
            return
        self._require_still(context)
        self._check(request, context)
        gone = set(before.grants).difference(now.grants)
        for need in self._rule.needs(request):
            if any(grant.touches(need.resource.space or "") for grant in gone):
                why = "a grant of yours was taken back while the call was answered: call again"
                self._refuse(context, PermissionDeniedError(why), need)

    def _require_still(self, context: grpc.ServicerContext) -> None:
        try:
            self._access.require_still(self._who)
        except NotAuthenticated as error:
            self._refuse(context, error)

    def _check(self, request: Any, context: grpc.ServicerContext) -> None:
        """Refuse a request that needs more than the caller has."""
        assert self._rule.needs is not None
        if type(request) is Unreadable:  # the service says so
            return
        # Asked again for each message: a stream may outlive a grant.
        self._rights = self._access.rights(self._who)
        for need in self._rule.needs(request):
            decision = self._rights.decide(need.verb, need.resource, within=need.within)
            if not decision.allowed:
                self._refuse(context, denied(decision, need), need)
            if len(self._needs) < NEEDS_MAX:
                self._needs[need] = None

    @property
    def _who(self) -> Principal:
        return NOBODY if self._principal is None else self._principal

    def _refuse(
        self, context: grpc.ServicerContext, error: Exception, need: Need | None = None
    ) -> NoReturn:
        self._note_denial(error, need)
        abort(context, error)

    def _note_denial(self, error: Exception, need: Need | None) -> None:
        needs = () if need is None else (need,)
        self._notebook.denial(self._method, self._who, self._peer, needs, error)

    def _note(self, answer: Any, *, failed: bool = False) -> None:
        """A line for what was changed, or for a call that failed after this answer, if any."""
        mutates = self._rule.mutates
        if mutates is True or any(need.verb == mutates for need in self._needs):
            self._notebook.mutation(
                self._method, self._who, self._peer, self._needs, answer, failed=failed
            )
            self._needs = {}

    # --- what the services ask ---

    def _context(self) -> contextvars.Context:
        """A context for the service to run in, which knows who calls and what they may."""
        own = contextvars.copy_context()
        own.run(self._tell)
        return own

    def _tell(self) -> None:
        """Tell the services, in the context in which this is called."""
        scope.principal.set(self._who.name)
        scope.may_see.set(self._may_see)
        scope.partitions.set(self._partitions)
        scope.may_write.set(self._may_write)
        scope.may_on_hub.set(self._may_on_hub)

    def _may_see(self, space: str) -> bool:
        return self._rights.may_see(space)

    def _may_on_hub(self, verb: str) -> bool:
        return self._rights.decide(verb, HUB).allowed

    def _partitions(self, table: _store.Table, named: tuple[str, ...]) -> tuple[str, ...]:
        """The partitions to look into, as scope.partitions has it."""
        rights, space = self._rights, table.space
        if rights.is_whole("read", space):
            return named
        hidden = [one for one in named if not rights.has_partition("read", space, one)]
        if hidden:
            raise PermissionDeniedError(
                f"you may not read partition {hidden[0]!r:.100} of space {space!r}"
            )
        require_there(table, named)
        own = named or rights.partitions("read", space, table.partition_names())
        if not own:
            raise NotFoundError(f"space {space!r} has no partition that you may read")
        return own

    def _may_write(
        self, table: _store.Table, partitions: tuple[str, ...], keys: _store.Keys | None
    ) -> tuple[str, ...] | None:
        """Refuse what is not the caller's to write, as scope.may_write has it."""
        rights, space = self._rights, table.space
        verb = "delete" if keys is None else "write"
        if rights.is_whole(verb, space):
            return None
        foreign = [one for one in partitions if not rights.has_partition(verb, space, one)]
        if foreign or not partitions:
            raise PermissionDeniedError(
                f"you may not {verb} in partition {foreign[0]!r:.100} of space {space!r}"
                if foreign
                else f"you may {verb} in partitions of space {space!r} alone: name one"
            )
        if keys is None:
            require_there(table, partitions)
            return None
        own = rights.partitions(verb, space, table.partition_names()) or ()
        try:
            require_own(table, own, keys)
        except PermissionDeniedError as error:
            self._note_denial(error, Need(verb, Resource(space, partitions)))
            raise
        return own


def require_there(table: _store.Table, named: Iterable[str]) -> None:
    """A NotFoundError for a partition that there is not, which unlike the engine's lists none."""
    for name in named:
        try:
            table.view().within((name.encode(),))
        except NotFoundError:
            raise NotFoundError(f"space {table.space!r} has no partition {name!r:.100}") from None


def require_own(table: _store.Table, own: Iterable[str], keys: _store.Keys) -> None:
    """Refuse to set keys that are in other partitions: it would take their rows away from there."""
    view, names = table.view(), tuple(name.encode() for name in own)
    born = view.births(keys)
    inside = view.within(names).births(keys) if names else np.zeros_like(born)
    foreign = np.flatnonzero(born != inside)
    if len(foreign):
        raise PermissionDeniedError(
            f"the key of row {foreign[0]} is in a partition of space {table.space!r} where you may "
            "not write; setting it would move it from there"
        )


def denied(decision: Decision, need: Need) -> Exception:
    """What a caller is told: of a space that it may not know of, that there is none."""
    if decision.hidden:
        return NotFoundError(f"there is no space {need.resource.space!r:.300}")
    return PermissionDeniedError(decision.why)


def certified(context: grpc.ServicerContext) -> list[str]:
    """The names in the client's certificate, which TLS has verified; none without one."""
    found = context.auth_context()
    names = found.get("x509_subject_alternative_name") or found.get("x509_common_name") or ()
    return [name.decode(errors="replace") for name in names]


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status of an exception, and what the client needs to raise it."""
    detail = detail_of(error)
    context.set_trailing_metadata(((DETAIL, detail.SerializeToString()),))
    code = code_of(error) or grpc.StatusCode.PERMISSION_DENIED
    if isinstance(error, NotAuthenticated):
        code = grpc.StatusCode.UNAUTHENTICATED
    context.abort(code, detail.message)
    raise AssertionError("abort() raises")
