"""A server's config: what cannot be is refused at the start, with what was given and expected."""

from __future__ import annotations

import re

import pytest

import ehub
from ehub.server.config import ServerConfig, read_config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 70000", "port is 70000; expected 0 to 65,535"),
        ("port = -1", "port is -1"),
        ("ui_port = -5", "ui_port is -5; expected 0 to 65,535"),
        ("[metrics]\nport = -1", "port of metrics is -1; expected 0 to 65,535"),
        ("[metrics]\nport = 65536", "port of metrics is 65536"),
        ("[metrics]\nrecall_seconds = inf", "recall_seconds inf"),
        ("[metrics]\nrecall_seconds = nan", "recall_seconds nan"),
        ("[metrics]\nrecall_seconds = -1.0", "recall_seconds -1.0"),
        ('log_level = "loud"', "log_level is 'loud'; expected one of debug"),
        ('durability = "some"', "durability is 'some'; expected one of full"),
        ("grace_seconds = nan", "grace_seconds is nan"),
        ("grace_seconds = -1.0", "grace_seconds is -1.0"),
        ("[limits]\nkeepalive_seconds = inf", "keepalive_seconds is inf; expected a number above"),
        ("[limits]\nkeepalive_seconds = nan", "keepalive_seconds is nan"),
        ("[limits]\nmessage_bytes = 4294967296", "2,147,483,647 at most"),
        ("[limits]\nstreams = 128", "expected less than calls"),
        (
            "[Auth]\nanonymous = []",
            "a table [Auth], which nothing reads; expected some of [limits]",
        ),
        ("[auht.jwt]\nkeys = 'x'", "a table [auht]"),
        ("port = ", "no TOML"),
        ("prot = 1", "'prot', which nothing is called"),
        ('port = "a"', "expected int"),
        ("[limits]\nk = -1", "above 0"),
        ('[tls]\nkey = "x"', "expected certificate, key"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, text, says):
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ehub.InvalidArgumentError, match=re.escape(says)):
        read_config(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ehub.NotFoundError):
        read_config(tmp_path / "none.toml")


def test_a_config_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "server.toml").write_bytes(b"host = \xff")
    with pytest.raises(ehub.InvalidArgumentError, match="no UTF-8"):
        read_config(tmp_path / "server.toml")


def test_a_config_that_is_a_directory_is_named(tmp_path):
    with pytest.raises(ehub.InvalidArgumentError, match=f"{tmp_path}.*a directory; exp"):
        read_config(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "unix:/run/ehub"])
def test_these_are_reached_from_this_machine_alone(host):
    assert ServerConfig(host=host).is_local


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "127.evil.example", "localhost.example", "db"]
)
def test_these_may_be_reached_from_elsewhere(host):
    config = ServerConfig(host=host)
    assert not config.is_local
    with pytest.raises(ehub.InvalidArgumentError, match="without TLS"):
        config.require_guarded(authenticated=True)
