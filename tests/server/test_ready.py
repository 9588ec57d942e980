"""A server that cannot start says what to do, and has made no hub."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from served import serving

import ehub
from ehub.server import ready, serve
from ehub.server import run as running
from ehub.server.config import MetricsConfig, ServerConfig, Tls


@pytest.fixture
def taken():
    """A port that another has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """What a server of these settings says; it must have made no hub."""
    monkeypatch.setattr(running, "log_to_stderr", lambda level: None)

    def refuse(error, said, **told):
        with pytest.raises(error, match=said):
            running.run(tmp_path / "hub", ServerConfig(**{"port": 0, **told}))
        assert not (tmp_path / "hub").exists()

    return refuse


def test_a_port_that_is_taken_is_told_with_its_option_and_no_hub_is_made(refused, taken):
    said = rf"cannot listen at 127\.0\.0\.1:{taken}: another process has the port: .*"
    refused(ehub.UnavailableError, rf"{said}\(--port; 0: a free one\)", port=taken)
    refused(ehub.UnavailableError, rf"{said}\(--ui-port; ", ui_port=taken)
    metrics = MetricsConfig(port=taken)
    refused(ehub.UnavailableError, rf"{said}\(--metrics-port; ", metrics=metrics)


def test_one_port_for_two_is_refused_and_no_hub_is_made(refused, taken):
    said = f"--ui-port and --port are both {taken}"
    refused(ehub.InvalidArgumentError, said, port=taken, ui_port=taken, host="127.0.0.2")


def test_an_address_of_another_machine_is_told_and_no_hub_is_made(refused):
    said = r"that is no address of this machine \(.*\): say another one \(--host\)"
    refused(ehub.UnavailableError, said, host="192.0.2.1", insecure=True)


def test_settings_that_cannot_be_are_told_and_no_hub_is_made(refused, tmp_path):
    said = "without TLS .* and authentication"
    refused(ehub.InvalidArgumentError, said, host="0.0.0.0")
    tls = Tls(Path("missing.pem"), Path("missing.key"))
    refused(ehub.InvalidArgumentError, "the certificate for TLS cannot be read", tls=tls)
    extra = {"auth": {"anyone": []}}
    refused(ehub.InvalidArgumentError, "anyone", extra=extra)


@pytest.mark.parametrize("missing", ["obstore", "lz4"])
def test_places_for_backups_without_the_extra_are_told_and_no_hub_is_made(
    refused, tmp_path, monkeypatch, missing
):
    monkeypatch.setitem(sys.modules, missing, None)
    said = rf"pip install 'ehub\[backup\]' .*{missing}"
    refused(ehub.UnavailableError, said, backup_to=(str(tmp_path / "backups"),))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "unix:{}/socket"])
def test_a_server_says_where_clients_find_it(tmp_path, host):
    with (
        serving(tmp_path / "hub", host=host.format(tmp_path)) as server,
        ehub.connect(server.address, retry_seconds=0) as hub,
    ):
        assert hub.spaces() == []


def test_an_address_of_ipv6_is_told_as_clients_take_it():
    assert serve.address_of("::1", 7462) == "[::1]:7462"


def test_a_hub_that_is_there_says_itself_whether_it_is_guarded(tmp_path):
    config = ServerConfig(port=0, host="0.0.0.0")
    with pytest.raises(ehub.InvalidArgumentError, match="without TLS"):
        ready.require_ready(tmp_path, config, authenticated=False)
    ehub.open(tmp_path).close()
    ready.require_ready(tmp_path, config, authenticated=False)


def test_what_is_held_to_see_whether_it_is_free_is_free_again(tmp_path):
    config = ServerConfig(port=0, ui_port=0)
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "::", "unix:/run/ehub"):
        told = replace(config, host=host, insecure=True)
        ready.require_ready(tmp_path, told, authenticated=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ExitStack() as held:
        ready.hold(held, "--port", "127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        pass
