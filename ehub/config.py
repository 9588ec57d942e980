"""Where a hub is, in the words that existing users know: `connect(LocalConfig(directory))`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ehub.errors import UnavailableError
from ehub.hub import Hub, open

__all__ = ["Config", "LocalConfig", "connect"]


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """A hub in a directory."""

    directory: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Config:
    """A hub on a server."""

    host: str = "localhost"
    port: int = 7462


def connect(config: LocalConfig | Config) -> Hub:
    """The hub that `config` names; for a directory the same as `ehub.open()`."""
    if isinstance(config, LocalConfig):
        return open(config.directory)
    if isinstance(config, Config):
        raise UnavailableError(
            f"this build of ehub has no client for servers yet, so not for {config.host}:"
            f"{config.port}; ehub.open(directory) opens a hub on this machine"
        )
    raise TypeError(f"connect() takes a LocalConfig or a Config, not {config!r:.100}")
