"""API keys: `ehub_<id>_<secret>_<check>`.

The prefix lets scanners of leaked secrets find one, the id finds its record, the secret is 32
random bytes, and the check is a CRC-32 of all before it, which tells a mistyped key from one that
is not known. All three are in base 62, so a double click selects the whole. Of the secret the hub
keeps the SHA-256 alone. A slow hash is for passwords that people think up; nobody can guess 256
random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

__all__ = ["PREFIX", "ApiKey", "is_key", "new_key", "parse"]

PREFIX = "ehub_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_CHARS = 8
SECRET_BYTES = 32
SECRET_CHARS = 43  # 62**43 > 2**256
CHECK_CHARS = 6  # 62**6 > 2**32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a hub knows of a key: never the key.

    Args:
        id: The id, which is part of the key.
        name: Whose it is: `key:<name>` is the principal. Several keys may have one name, so that
            one can take over from another.
        sha256: Of the secret, in hex; empty once the key is revoked.
        created: When, in UTC (ISO 8601).
        created_by: By whom.
        expires: When it ends, in UTC (ISO 8601); empty: never.
        revoked: When it was revoked; empty: it was not.
    """

    id: str
    name: str
    sha256: str
    created: str = ""
    created_by: str = ""
    expires: str = ""
    revoked: str = ""

    @property
    def principal(self) -> str:
        """The name of the principal that it proves."""
        return f"key:{self.name}"

    def matches(self, secret: str) -> bool:
        """Whether this is its secret, in the same time whatever the answer."""
        return hmac.compare_digest(digest(secret), self.sha256)

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return bool(self.expires) and datetime.fromisoformat(self.expires) <= now

    def state(self, now: datetime | None = None) -> str:
        """Whether it works: "good", "expired" or "revoked"."""
        if self.revoked:
            return "revoked"
        return "expired" if self.has_expired(now or datetime.now(timezone.utc)) else "good"

    def after_revocation(self, when: str) -> ApiKey:
        """What is left of it: nothing that could match."""
        return replace(self, revoked=when, sha256="")

    def to_dict(self) -> dict[str, Any]:
        """As the hub's note has it, under its id."""
        values = asdict(self)
        del values["id"]
        return values

    @staticmethod
    def of(id: str, values: dict[str, Any]) -> ApiKey:
        """From the hub's note; what a later release adds is ignored."""
        known = {name: values[name] for name in ApiKey.__slots__ if name in values}
        return ApiKey(**{**known, "id": id})


def new_key() -> tuple[str, str, str]:
    """A new key, the only time that it is whole; its id, and the SHA-256 of its secret."""
    id = "".join(secrets.choice(ALPHABET) for _ in range(ID_CHARS))
    secret = base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES), "big"), SECRET_CHARS)
    body = f"{PREFIX}{id}_{secret}"
    return f"{body}_{check_of(body)}", id, digest(secret)


def is_key(token: str) -> bool:
    """Whether a token is meant as an API key."""
    return token.startswith(PREFIX)


def parse(token: str) -> tuple[str, str] | None:
    """Id and secret of a key; None if it is mistyped or cut short."""
    if not token.isascii():
        return None
    body, _, check = token.rpartition("_")
    parts = body.removeprefix(PREFIX).split("_")
    if [len(part) for part in parts] != [ID_CHARS, SECRET_CHARS] or not is_key(token):
        return None
    if not hmac.compare_digest(check, check_of(body)):
        return None
    return parts[0], parts[1]


def digest(secret: str) -> str:
    """The SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_of(body: str) -> str:
    """The check of what comes before it."""
    return base62(zlib.crc32(body.encode()), CHECK_CHARS)


def base62(number: int, width: int) -> str:
    """A number in base 62, with leading zeros."""
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
