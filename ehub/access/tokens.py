"""JSON web tokens of an identity provider: which are believed, and whom they prove.

Believed is what the provider signed by one of the algorithms that the config names, all of them
with a public key: a token has no say in how it is checked. "none" and the HS algorithms, whose key
is the secret of both sides, cannot be configured, so a token cannot be signed with the public key
as if it were a secret. Issuer, audience, subject and end of validity must be there and right.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ehub.access.jwt_keys import ALGORITHMS, PublicKeys, require_trusted, source_of
from ehub.access.principals import Principal
from ehub.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from ehub.names import HIDDEN, NAME_BYTES_MAX

__all__ = ["JwtSettings", "JwtVerifier", "NotAuthenticated"]

TOKEN_CHARS_MAX = 8_192
GROUPS_MAX = 1_000

# What is known of tokens, good ones and bad ones: so many of each, so long.
MEMORY_MAX = 4_096
MEMORY_SECONDS = 300.0


class NotAuthenticated(PermissionDeniedError):
    """A call does not prove who makes it: no token, or one that is not believed."""


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Which tokens are believed.

    Args:
        issuer: The claim `iss` must be this.
        audience: The claim `aud` must be this, or have it.
        keys: A file: a JSON web key set, or one public key in PEM; it may change while the server
            runs. As text it is the URL of a key set, which is fetched now and then.
        algorithms: Of `ALGORITHMS`.
        leeway_seconds: How far the provider's clock may be off.
        principal_claim: The claim that names the user: `user:<claim>` is the principal.
        groups_claim: The claim that lists groups, `group:<name>` each; it may be missing.
    """

    issuer: str
    audience: str
    keys: Path | str
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    leeway_seconds: float = 30.0
    principal_claim: str = "sub"
    groups_claim: str = "groups"

    def __post_init__(self) -> None:
        for name in ("issuer", "audience", "principal_claim", "groups_claim"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidArgumentError(f"{name} of JWTs is {value!r:.100}; expected a text")
        if isinstance(self.keys, str):
            require_trusted(self.keys)
        unknown = [one for one in self.algorithms if one not in ALGORITHMS]
        if unknown or not self.algorithms:
            raise InvalidArgumentError(
                f"algorithms of JWTs are {list(self.algorithms)!r:.100}; expected some of "
                f"{', '.join(ALGORITHMS)}: none and HS... are never believed"
            )
        if not 0 <= self.leeway_seconds <= 600:
            raise InvalidArgumentError(
                f"leeway_seconds of JWTs is {self.leeway_seconds!r:.100}; expected 0 to 600"
            )


@dataclass(slots=True)
class Verdict:
    """What is known of a token, until when (of `time.time()`)."""

    until: float
    principal: Principal | None
    why: str = ""


@dataclass(slots=True)
class Memory:
    """Verdicts by the SHA-256 of the token, the ones used last; any thread may use it."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _verdicts: OrderedDict[bytes, Verdict] = field(default_factory=OrderedDict)

    def get(self, token: bytes) -> Verdict | None:
        with self._lock:
            verdict = self._verdicts.get(token)
            if verdict is None or verdict.until <= time.time():
                return None
            self._verdicts.move_to_end(token)
            return verdict

    def put(self, token: bytes, verdict: Verdict) -> None:
        with self._lock:
            self._verdicts[token] = verdict
            if len(self._verdicts) > MEMORY_MAX:
                self._verdicts.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._verdicts.clear()


class JwtVerifier:
    """Checks tokens. Any thread may ask; the same token is not checked anew within five minutes."""

    def __init__(self, settings: JwtSettings) -> None:
        try:
            import jwt
        except ImportError as error:
            raise UnavailableError(
                "JWTs need PyJWT and cryptography: pip install 'ehub[server]'"
            ) from error
        self._jwt = jwt
        self._settings = settings
        # Apart, so that made-up tokens do not push out what is known of good ones.
        self._good, self._bad = Memory(), Memory()
        self._lock = threading.Lock()
        self._source = source_of(jwt, settings.keys)
        self._keys = self._source.keys()

    def verify(self, token: str) -> Principal:
        """Whom a token proves; a NotAuthenticated says why it is not believed."""
        if len(token) > TOKEN_CHARS_MAX:
            raise NotAuthenticated(f"the token has more than {TOKEN_CHARS_MAX:,} characters")
        keys = self._public_keys()
        name = hashlib.sha256(token.encode(errors="replace")).digest()
        verdict = self._good.get(name) or self._bad.get(name)
        if verdict is None:
            verdict = self._judge(token, keys)
            if keys is self._keys:  # and not those of before a change
                (self._bad if verdict.principal is None else self._good).put(name, verdict)
        if verdict.principal is None:
            raise NotAuthenticated(verdict.why)
        return verdict.principal

    def _judge(self, token: str, keys: PublicKeys) -> Verdict:
        forget = time.time() + MEMORY_SECONDS
        try:
            claims = self._claims(token, keys)
            principal = self._principal(claims)
            ends = float(claims["exp"]) + self._settings.leeway_seconds
        except (self._jwt.PyJWTError, NotAuthenticated) as error:
            # A token that is not valid yet will be.
            early = isinstance(error, self._jwt.ImmatureSignatureError)
            return Verdict(time.time() if early else forget, None, f"the token: {error}")
        except Exception as error:  # what the libraries below make of hostile input
            return Verdict(forget, None, f"the token is malformed ({type(error).__name__})")
        return Verdict(min(forget, ends), principal)

    def _claims(self, token: str, keys: PublicKeys) -> dict[str, Any]:
        """The claims of a token that is sound in every way."""
        wanted = self._settings
        header = self._jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in wanted.algorithms:
            raise NotAuthenticated(f"its algorithm is not one of {', '.join(wanted.algorithms)}")
        found = keys.get(key_id) if isinstance(key_id, str) else None
        if not keys:
            raise NotAuthenticated("there are no keys of its issuer at present")
        if found is None:
            # A file with one key needs no name for it; with several, a guess would be no check.
            if len(keys) != 1 or (key_id is not None and None not in keys):
                self._source.look_again()
                raise NotAuthenticated("its key is not one that this server knows")
            found = next(iter(keys.values()))
        key, meant_for = found
        if meant_for not in (None, algorithm):
            raise NotAuthenticated(f"its key is for the algorithm {meant_for}")
        return self._jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=wanted.audience,
            issuer=wanted.issuer,
            leeway=wanted.leeway_seconds,
            options={"require": ["exp", "iss", "aud", wanted.principal_claim]},
        )

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject = claims[self._settings.principal_claim]
        if not is_name(subject):
            raise NotAuthenticated(f"its claim {self._settings.principal_claim!r} is no name")
        groups = claims.get(self._settings.groups_claim, [])
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(groups, Sequence) or len(groups) > GROUPS_MAX:
            raise NotAuthenticated(f"its claim {self._settings.groups_claim!r} is no list of names")
        named = tuple(f"group:{one}" for one in groups if is_name(one))
        return Principal(f"user:{subject}", named, "jwt")

    def _public_keys(self) -> PublicKeys:
        """The keys as of now; what was found with others before is forgotten."""
        keys = self._source.keys()
        with self._lock:
            if keys is not self._keys:
                # What was signed by a key that is gone must not be believed any more.
                self._good.clear()
                self._bad.clear()
                self._keys = keys
        return keys

    def close(self) -> None:
        """Look after the keys no more."""
        self._source.close()


def is_name(value: object) -> bool:
    """Whether a claim can be a principal's name."""
    if not isinstance(value, str) or not value or value.startswith(HIDDEN):
        return False
    return len(value.encode(errors="replace")) <= NAME_BYTES_MAX
