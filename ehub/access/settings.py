"""The table [auth] of a server's config: what is believed beside API keys, and who needs no token.

[auth]
anonymous = ["reader on space:public-*"]   # calls without a token; by default they are refused
old_clients = ["writer on space:items"]    # calls without a token of the old clients' service
certificates = true                        # a client certificate names the principal cert:<name>

[auth.jwt]
issuer = "https://login.example.com"
audience = "ehub"
keys = "jwks.json"                         # or one public key in PEM; beside the config; or the
                                           # https:// URL of the provider's JSON web key set
algorithms = ["RS256"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ehub.access.grants import Grant
from ehub.access.tokens import JwtSettings
from ehub.errors import InvalidArgumentError

__all__ = ["AuthSettings", "read_settings"]


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers prove who they are, beside API keys.

    Args:
        anonymous: Grants of callers without a token; without any such callers are refused.
        old_clients: The same for the service of the old clients, which know no tokens.
        certificates: A client certificate, which TLS has verified, names a principal.
        jwt: Which JSON web tokens are believed; None: none.
    """

    anonymous: tuple[Grant, ...] = ()
    old_clients: tuple[Grant, ...] = ()
    certificates: bool = False
    jwt: JwtSettings | None = None


def read_settings(table: Mapping[str, Any], beside: Path) -> AuthSettings:
    """The table as settings; paths are relative to the directory `beside`.

    Raises:
        InvalidArgumentError: A name that is unknown, or a value that cannot be.
    """
    require_known(table, {part.name for part in fields(AuthSettings)}, "[auth]")
    certificates = table.get("certificates", False)
    if not isinstance(certificates, bool):
        raise InvalidArgumentError(
            f"certificates in [auth] is {certificates!r:.100}; expected true or false"
        )
    return AuthSettings(
        anonymous=as_grants(table, "anonymous"),
        old_clients=as_grants(table, "old_clients"),
        certificates=certificates,
        jwt=as_jwt(table["jwt"], beside) if "jwt" in table else None,
    )


def as_grants(table: Mapping[str, Any], name: str) -> tuple[Grant, ...]:
    """A list of grants as text."""
    texts = table.get(name, [])
    if not isinstance(texts, list):
        raise InvalidArgumentError(
            f'{name} in [auth] is {texts!r:.100}; expected a list, as ["reader on space:items"]'
        )
    return tuple(Grant.parse(text) for text in texts)


def as_jwt(table: Any, beside: Path) -> JwtSettings:
    """The table [auth.jwt]."""
    if not isinstance(table, Mapping):
        raise InvalidArgumentError(f"[auth.jwt] is {table!r:.100}; expected a table")
    require_known(table, {part.name for part in fields(JwtSettings)}, "[auth.jwt]")
    missing = [name for name in ("issuer", "audience", "keys") if name not in table]
    if missing:
        raise InvalidArgumentError(f"[auth.jwt] has no {missing[0]!r}, which it needs")
    values = dict(table)
    keys = str(values["keys"])
    values["keys"] = keys if "://" in keys else beside / keys
    algorithms, leeway = values.get("algorithms", []), values.get("leeway_seconds", 0)
    if not isinstance(algorithms, list) or type(leeway) not in (int, float):
        raise InvalidArgumentError(
            "[auth.jwt]: expected a list of names as algorithms, and a number as leeway_seconds"
        )
    if "algorithms" in values:
        values["algorithms"] = tuple(algorithms)
    return JwtSettings(**values)


def require_known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse names that nothing is called."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidArgumentError(
            f"{where} has {unknown[0]!r:.100}, which nothing is called; expected some of "
            f"{', '.join(sorted(known))}"
        )
