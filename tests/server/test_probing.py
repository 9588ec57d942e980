"""What a look at an address may call certain, since nothing that is certain is tried again."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
import trustme
from listening import answering
from served import serving

import ehub
from ehub.client import probing
from ehub.client.probing import found_at
from ehub.client.transport import ClientTls
from ehub.server.config import Tls


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def written(path, *certs):
    """The files of a CA and of certificates: each with its chain, and its key."""
    for name, cert in certs:
        if isinstance(cert, trustme.CA):
            cert.cert_pem.write_to_path(path / f"{name}.pem")
            continue
        for i, pem in enumerate(cert.cert_chain_pems):
            pem.write_to_path(path / f"{name}.pem", append=i > 0)
        cert.private_key_pem.write_to_path(path / f"{name}.key")


def saying(head):
    """Of HTTP/1, with whatever it is asked."""

    def answer(connection):
        connection.recv(65_536)
        connection.sendall(head + b"\r\ncontent-length: 0\r\n\r\n")

    return answer


def test_a_good_server_whose_trusted_ca_is_signed_by_another_is_found_good(tmp_path):
    root = trustme.CA()
    between = root.create_child_ca()
    here = between.issue_cert("localhost", "127.0.0.1")
    written(tmp_path, ("root", root), ("between", between), ("here", here))
    tls = Tls(tmp_path / "here.pem", tmp_path / "here.key")
    with serving(tmp_path / "hub", tls=tls) as server:
        for name in ("root", "between"):
            trust = ClientTls(tmp_path / f"{name}.pem")
            with ehub.connect(server.address, tls=trust) as hub:
                assert hub.spaces() == []
            assert found_at(server.address, trust) is None
        assert found_at(server.address, ClientTls(tmp_path / "root.pem", server_name=".x")) is None


def test_a_good_server_whose_certificate_has_an_address_as_a_name_is_not_given_up(tmp_path):
    ca = trustme.CA()
    here = ca.issue_cert(common_name="x")
    written(tmp_path, ("ca", ca), ("here", here))
    tls = Tls(tmp_path / "here.pem", tmp_path / "here.key")
    with serving(tmp_path / "hub", tls=tls) as server:
        found = found_at(server.address, ClientTls(tmp_path / "ca.pem"))
    assert "IP address mismatch" in found.text
    assert not found.certain


def test_nothing_is_looked_at_where_calls_go_by_a_proxy(monkeypatch):
    asked = []
    monkeypatch.setattr(probing, "addresses_of", lambda *place: [place])
    monkeypatch.setattr(probing, "without_tls", asked.append)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost, .example.com,10.0.0.1")
    for host in ("hub.example.org", "notexample.com", "10.0.0.2", "[::1]"):
        assert found_at(f"{host}:7462", None) is None
    assert asked == []
    for host in ("localhost", "hub.example.com", "10.0.0.1"):
        found_at(f"{host}:7462", None)
    assert asked == [("localhost", 7462), ("hub.example.com", 7462), ("10.0.0.1", 7462)]


def test_names_that_begin_with_unix_are_hosts_and_sockets_are_not(monkeypatch):
    asked = []
    monkeypatch.setattr(probing, "addresses_of", lambda *place: [place])
    monkeypatch.setattr(probing, "without_tls", asked.append)
    for address in ("unix:7462", "unix:/tmp/x:7462", "unix-abstract:x:7462"):
        assert found_at(address, None) is None
    assert asked == []
    found_at("unix-7.example.com:7462", None)
    found_at("[::1]:7462", None)
    assert asked == [("unix-7.example.com", 7462), ("::1", 7462)]


def test_the_name_of_no_host_is_no_other_error():
    for host in ("a..b", "x" * 64 + ".example.com"):
        assert found_at(f"{host}:7462", None) is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_stands_before_a_server_that_is_not_there_yet_may_pass(tmp_path, status):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with answering(saying(b"HTTP/1.1 %d Later" % status)) as address:
        for tls in (None, ClientTls(tmp_path / "ca.pem")):
            found = found_at(address, tls)
            assert "it speaks HTTP/1" in found.text
            assert not found.certain
    with answering(saying(b"HTTP/1.1 404 Not Found")) as address:
        assert found_at(address, None).certain


def test_a_handshake_that_is_refused_may_pass(tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    def alert(connection):  # of what has no certificate yet: handshake_failure
        connection.recv(65_536)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")

    with answering(alert) as address:
        found = found_at(address, ClientTls(tmp_path / "ca.pem"))
    assert "the handshake of TLS fails" in found.text
    assert not found.certain


def test_what_answers_byte_by_byte_is_not_listened_to_for_long(monkeypatch):
    def slowly(connection):
        with suppress(OSError):
            for _ in range(50):
                connection.sendall(b"x")
                time.sleep(0.2)

    monkeypatch.setattr(probing, "SECONDS", 0.3)
    with answering(slowly) as address:
        began = time.monotonic()
        found_at(address, None)
        assert time.monotonic() - began < 5


@pytest.fixture
def name_of(monkeypatch):
    """Have a name mean several addresses, with a port each."""

    def name(*addresses):
        places = [(host, int(port)) for host, port in (one.rsplit(":", 1) for one in addresses)]
        monkeypatch.setattr(probing, "addresses_of", lambda name, port: places)
        return "hub.example.com:7462"

    return name


def test_what_is_at_one_address_is_not_certain_where_another_has_the_hub(tmp_path, name_of):
    foreign = saying(b"HTTP/1.1 404 Not Found")
    with serving(tmp_path) as server, answering(foreign) as first, answering(foreign) as second:
        assert found_at(name_of(first, server.address), None) is None
        assert found_at(name_of(first, second), None).certain
        # Nobody is there.
        assert found_at(name_of("127.0.0.1:1", first), None).certain
        with answering(saying(b"HTTP/1.1 503 Later")) as later:
            assert not found_at(name_of(first, later), None).certain


def test_of_a_name_of_very_many_addresses_nothing_is_certain(name_of):
    with answering(saying(b"HTTP/1.1 404 Not Found")) as first:
        assert not found_at(name_of(first, *["127.0.0.1:1"] * 4), None).certain


def test_each_address_of_a_name_is_known_once():
    assert ("127.0.0.1", 7462) in probing.addresses_of("localhost", 7462)
    places = probing.addresses_of("127.0.0.1", 7462)
    assert places == [("127.0.0.1", 7462)]
