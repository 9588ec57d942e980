"""Access to one hub: its keys and grants, who calls, and what they may do.

Keys and grants are notes of the hub (`ehub/names.py`), so they are as durable as its rows, and a
change of several is one atomic batch:

    access/key/<id>             an API key: name, SHA-256 of its secret, when made and ended
    access/grants/<principal>   the grants of a principal
    access/changes              a number that each change of keys or grants counts up
    access/used                 when keys were last used
    access/audit                where the audit log was last: number and SHA-256 of a line

A hub without any of these is not guarded: whoever reaches it may do everything, which is why a
server then listens on its own machine only. The first key or grant guards it for good, whatever is
revoked.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ehub import names
from ehub.access import keys
from ehub.access.decision import Decision, Rights
from ehub.access.grants import Grant, Resource
from ehub.access.keys import ApiKey
from ehub.access.principals import ANONYMOUS, OLD_CLIENTS, Principal, as_principal_name
from ehub.access.settings import AuthSettings
from ehub.access.tokens import JwtVerifier, NotAuthenticated
from ehub.errors import ExistsError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["Access", "GrantNote"]

PREFIX = "access/"
KEY, GRANTS = "key/", "grants/"
CHANGES, USED, AUDIT = PREFIX + "changes", PREFIX + "used", PREFIX + "audit"

RIGHTS_MAX = 10_000
HOLDERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class GrantNote:
    """A grant, and who gave it when."""

    role: str
    on: str
    created: str = ""
    created_by: str = ""

    @property
    def grant(self) -> Grant:
        """The grant alone."""
        return Grant(self.role, self.on)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever has a good key: until when it is good, in seconds of `time.time()`."""

    id: str
    principal: Principal
    until: float


@dataclass(frozen=True, slots=True)
class State:
    """What the notes say, at one time."""

    # Of the hub's names, and of keys and grants alone.
    names_changes: int
    changes: str | None
    keys: dict[str, ApiKey]
    grants: dict[str, tuple[GrantNote, ...]]
    # By the names of a principal; filled as they are asked for.
    rights: dict[tuple[str, ...], Rights]
    # By keys that were good a moment ago, so that each call need not hash its own.
    holders: dict[str, Holder]


class Access:
    """Who may do what with a hub. Any thread may ask, and change.

    Changes need the hub open for writing. What a reader process asks is as of its last `refresh()`.

    Args:
        hub: The hub; it stays the caller's to close.
        settings: What is believed beside API keys.
    """

    def __init__(self, hub: Hub, settings: AuthSettings | None = None) -> None:
        self._hub = hub
        self._settings = settings if settings is not None else AuthSettings()
        jwt = self._settings.jwt
        self._jwt = None if jwt is None else JwtVerifier(jwt)
        self._configured = settings is not None
        # Of keys since the last save_used(), in seconds of `time.time()`.
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()
        self._state = self._read(None)

    def close(self) -> None:
        """Look after nothing any more; what is in the hub stays."""
        if self._jwt is not None:
            self._jwt.close()

    # --- what there is ---

    @property
    def guarded(self) -> bool:
        """Whether anybody has to prove anything."""
        state = self._now()
        return self._configured or state.changes is not None

    def api_keys(self) -> list[ApiKey]:
        """All keys that were ever made, oldest first."""
        return sorted(self._now().keys.values(), key=lambda key: (key.created, key.id))

    def grants(self) -> dict[str, tuple[GrantNote, ...]]:
        """The grants of each principal that has some in the hub."""
        return {name: given for name, given in sorted(self._now().grants.items()) if given}

    def last_used(self) -> dict[str, str]:
        """When keys were used last, by id, in UTC (ISO 8601); a few minutes behind on the disk."""
        saved: dict[str, str] = names.read(self._hub._store, USED)
        return saved | {id: as_time(when) for id, when in list(self._used.items())}

    # --- who calls ---

    def authenticate(
        self, token: str | None, *, certificate: Iterable[str] = (), old_client: bool = False
    ) -> Principal:
        """Who it is that calls with this token, or else with a client certificate of these names.

        Raises:
            NotAuthenticated: It says what is wrong with the token, or that one is needed.
        """
        if token is not None:
            if keys.is_key(token):
                return self._holder_of(token)
            if self._jwt is None:
                raise NotAuthenticated("the token is no API key of ehub")
            return self._jwt.verify(token)
        if self._settings.certificates:
            for name in certificate:
                return Principal(f"cert:{name}", how="certificate")
        if old_client and self._settings.old_clients:
            return Principal(OLD_CLIENTS)
        if self._settings.anonymous:
            return Principal(ANONYMOUS)
        raise NotAuthenticated(
            "a token is needed: ehub.connect(..., token=...), which is the metadata "
            '"authorization: Bearer TOKEN"'
        )

    def may_lack_token(self, *, old_client: bool) -> bool:
        """Whether a call without a token may be somebody's all the same."""
        settings = self._settings
        return (
            settings.certificates
            or bool(settings.anonymous)
            or (old_client and bool(settings.old_clients))
        )

    def _holder_of(self, token: str) -> Principal:
        state, now = self._now(), time.time()
        holder = state.holders.get(token)
        if holder is None or holder.until <= now:
            holder = self._proven(token, state)
            if len(state.holders) >= HOLDERS_MAX:
                state.holders.clear()
            state.holders[token] = holder
        self._used[holder.id] = now
        return holder.principal

    def _proven(self, token: str, state: State) -> Holder:
        parts = keys.parse(token)
        if parts is None:
            raise NotAuthenticated("the API key is mistyped or cut short: its checksum is wrong")
        id, secret = parts
        key = state.keys.get(id)
        # One answer for a key that is not there, is another, was revoked: nothing to be learned.
        if key is None or key.revoked or not key.matches(secret):
            raise NotAuthenticated("the API key is not known, or was revoked")
        if key.has_expired(datetime.now(timezone.utc)):
            raise NotAuthenticated(f"the API key has expired, at {key.expires}")
        until = datetime.fromisoformat(key.expires).timestamp() if key.expires else math.inf
        return Holder(id, Principal(key.principal, how=f"key {id}", key=id), until)

    def require_still(self, principal: Principal) -> None:
        """Refuse a principal whose API key has ended since: for calls that go on for long.

        What else proved it was good when the call began, and is taken to be until it ends.
        """
        if not principal.key:
            return
        key = self._now().keys.get(principal.key)
        if key is None or key.state() != "good":
            raise NotAuthenticated("the API key has ended in the meantime")

    # --- what they may do ---

    def rights(self, principal: Principal) -> Rights:
        """What a principal may do: all grants of all its names together."""
        state = self._now()
        rights = state.rights.get(principal.names)
        if rights is None:
            rights = Rights(self._grants_of(principal, state))
            if len(state.rights) >= RIGHTS_MAX:
                state.rights.clear()
            state.rights[principal.names] = rights
        return rights

    def decide(self, principal: Principal, verb: str, resource: Resource) -> Decision:
        """Whether a principal may do something: the rules are in `decision.py`."""
        return self.rights(principal).decide(verb, resource)

    def _grants_of(self, principal: Principal, state: State) -> list[Grant]:
        if principal.name == ANONYMOUS:
            return list(self._settings.anonymous)
        if principal.name == OLD_CLIENTS:
            return list(self._settings.old_clients)
        return [one.grant for name in principal.names for one in state.grants.get(name, ())]

    # --- changes ---

    def create_key(
        self,
        name: str,
        grants: Iterable[Grant] = (),
        *,
        expires_in: timedelta | None = None,
        created_by: str | None = None,
    ) -> tuple[str, ApiKey]:
        """Make an API key, and give its principal `key:<name>` grants; the key, and its record.

        The key is in the answer and nowhere else, ever. If there are keys of that name it is one
        more of the same principal.
        """
        principal, ends = require_key(name, expires_in)
        by = names.user() if created_by is None else created_by
        wanted = list(grants)
        with self._hub._names_lock:
            token, id, digest = keys.new_key()
            while id in self._now().keys:
                token, id, digest = keys.new_key()
            key = ApiKey(id, name, digest, names.now(), by, ends)
            changes: dict[str, str | None] = {PREFIX + KEY + id: names.written(key.to_dict())}
            there = self._now().grants.get(principal, ())
            added = [one for one in wanted if one not in [old.grant for old in there]]
            if added:
                changes |= written(principal, [*there, *noted(added, by)])
            self._change(changes)
        return token, key

    def revoke(self, key: str) -> list[ApiKey]:
        """End a key, by its id, or all good ones of a name; those that were ended.

        Their record stays, so that the audit log can be read. A NotFoundError if there is none.
        """
        with self._hub._names_lock:
            every = self._now().keys.values()
            found = [one for one in every if key in (one.id, one.name) and not one.revoked]
            if not found:
                raise NotFoundError(f"there is no API key {key!r:.100}, by id or name, to revoke")
            ended = [one.after_revocation(names.now()) for one in found]
            self._change({PREFIX + KEY + one.id: names.written(one.to_dict()) for one in ended})
        return ended

    def grant(self, principal: str, grant: Grant, *, created_by: str | None = None) -> None:
        """Give a principal a role on a resource; an ExistsError if it has that already."""
        name = as_principal_name(principal)
        by = names.user() if created_by is None else created_by
        with self._hub._names_lock:
            there = self._now().grants.get(name, ())
            if grant in [one.grant for one in there]:
                raise ExistsError(f"{name!r} is {grant} already")
            self._change(written(name, [*there, *noted([grant], by)]))

    def ungrant(self, principal: str, grant: Grant) -> None:
        """Take a grant back; a NotFoundError if there is none like it."""
        name = as_principal_name(principal)
        with self._hub._names_lock:
            there = self._now().grants.get(name, ())
            left = [one for one in there if one.grant != grant]
            if len(left) == len(there):
                raise NotFoundError(f"{name!r} is not {grant}, so that cannot be taken back")
            self._change(written(name, left))

    def _change(self, changes: Mapping[str, str | None]) -> None:
        """Change keys and grants, in one atomic batch. For the holder of the names' lock."""
        store = self._hub._store
        count = names.understood(CHANGES, lambda: int(store.note(CHANGES) or 0)) + 1
        store.set_notes({**changes, CHANGES: str(count)})

    # --- what is kept now and then ---

    def save(self, audit_head: tuple[int, str] | None = None) -> None:
        """Keep when keys were used and where the audit log is; nothing is written if that is old.

        For now and then, every few minutes and at the end: a call costs no write.
        """
        store = self._hub._store
        if store.read_only or store.closed:
            return
        with self._hub._names_lock:
            used = {id: when for id, when in list(self._used.items()) if id in self._now().keys}
            saved = names.read(store, USED)
            latest = saved | {id: as_time(when) for id, when in used.items()}
            changes: dict[str, str | None] = {}
            if latest != saved:
                changes[USED] = names.written(latest)
            if audit_head is not None and audit_head != self.audit_head():
                number, sha256 = audit_head
                changes[AUDIT] = names.written({"n": number, "sha256": sha256})
            if changes:
                store.set_notes(changes)

    def audit_head(self) -> tuple[int, str] | None:
        """Where the audit log was when that was last kept: it must have that line still."""
        note = names.read(self._hub._store, AUDIT)
        if not note:
            return None
        return names.understood(AUDIT, lambda: (int(note["n"]), str(note["sha256"])))

    # --- helpers ---

    def _now(self) -> State:
        """The state; read again only if keys or grants have changed."""
        state = self._state
        if state.names_changes == self._hub._store.names_changes:
            return state
        with self._lock:
            self._state = state = self._read(self._state)
        return state

    def _read(self, before: State | None) -> State:
        store = self._hub._store
        # Asked before it is read, so that a change in between is seen the next time.
        names_changes, changes = store.names_changes, store.note(CHANGES)
        if before is not None and changes == before.changes:  # it was some other name
            return State(
                names_changes, changes, before.keys, before.grants, before.rights, before.holders
            )
        found = names.read_all(store, PREFIX + KEY)
        given = names.read_all(store, PREFIX + GRANTS)
        return State(
            names_changes,
            changes,
            names.understood(
                PREFIX + KEY, lambda: {id: key_of(id, values) for id, values in found.items()}
            ),
            names.understood(
                PREFIX + GRANTS,
                lambda: {name: tuple(map(grant_of, one["grants"])) for name, one in given.items()},
            ),
            {},
            {},
        )


def grant_of(values: dict[str, Any]) -> GrantNote:
    """A grant from a note; what a later release adds is ignored."""
    known = {name: values[name] for name in GrantNote.__slots__ if name in values}
    for name, value in known.items():
        names.as_text(value, name)
    return GrantNote(**known)


def key_of(id: str, values: dict[str, Any]) -> ApiKey:
    """A key from a note; a TypeError or a ValueError if that is not as written."""
    key = ApiKey.of(id, values)
    for one in fields(key):
        names.as_text(getattr(key, one.name), one.name)
    if key.expires and datetime.fromisoformat(key.expires).tzinfo is None:
        raise ValueError(f"the time {key.expires!r:.100} has no time zone")
    return key


def noted(grants: Iterable[Grant], by: str) -> list[GrantNote]:
    """Grants as they are kept."""
    unique = dict.fromkeys((grant.role, grant.on) for grant in grants)
    return [GrantNote(role, on, names.now(), by) for role, on in unique]


def written(principal: str, grants: list[GrantNote]) -> dict[str, str | None]:
    """The change of the note of a principal's grants."""
    # An empty list stays: a hub that was guarded is.
    return {PREFIX + GRANTS + principal: names.written({"grants": [asdict(one) for one in grants]})}


def require_key(name: str, expires_in: timedelta | None = None) -> tuple[str, str]:
    """The principal of a key of that name, and when such a key ends; empty: never.

    An InvalidArgumentError if there can be none.
    """
    principal = as_principal_name(f"key:{names.as_name(name, 'a key')}")
    return principal, "" if expires_in is None else end_of(expires_in)


def end_of(expires_in: timedelta) -> str:
    """When a time that begins now is over."""
    if expires_in <= timedelta(0):
        raise InvalidArgumentError(f"expires_in is {expires_in}; expected a time above 0")
    try:
        end = datetime.now(timezone.utc) + expires_in
    except OverflowError:
        raise InvalidArgumentError(
            f"expires_in is {expires_in}; that is after the year 9999"
        ) from None
    return end.isoformat(timespec="milliseconds")


def as_time(seconds: float) -> str:
    """A time of `time.time()` as text, to the second."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
