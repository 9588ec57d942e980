"""Who finds no hub at an address is told what is there instead, at once where that stays so."""

from __future__ import annotations

import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
import trustme
from http2 import ACK, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame
from listening import answering, free_port
from served import CLIENTS, client_of, serving

import ehub
from ehub.cli.reaching import Server, way_to
from ehub.client.transport import ClientTls
from ehub.server.config import Limits, Tls
from ehub.wire import access_pb2

# What a client that tries again would take.
RETRY_SECONDS = 60.0


class At:
    """What `client_of` needs to know of a server."""

    def __init__(self, address):
        self.address = address


def refused(address, kind, tls=None, *, at_once=True):
    """What a client says that finds no hub."""
    began = time.monotonic()
    with (
        pytest.raises(ehub.UnavailableError) as failed,
        client_of(At(address), kind, tls=tls, retry_seconds=RETRY_SECONDS if at_once else 0.2),
    ):
        pass
    assert time.monotonic() - began < RETRY_SECONDS / 3
    assert repr(address) in str(failed.value)
    return str(failed.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates: of a CA that is trusted, of another one, for this machine and for others."""
    path = tmp_path_factory.mktemp("tls")
    good, other = trustme.CA(), trustme.CA()
    made = {
        "here": good.issue_cert("localhost", "127.0.0.1"),
        "elsewhere": good.issue_cert("example.com"),
        "strange": other.issue_cert("localhost", "127.0.0.1"),
    }
    for name, cert in made.items():
        cert.cert_chain_pems[0].write_to_path(path / f"{name}.pem")
        cert.private_key_pem.write_to_path(path / f"{name}.key")
    good.cert_pem.write_to_path(path / "ca.pem")
    other.cert_pem.write_to_path(path / "strange-ca.pem")
    return path


def own(files, name):
    return Tls(files / f"{name}.pem", files / f"{name}.key")


@contextmanager
def http1(wrap=lambda one: one):
    """The address of a server of HTTP/1."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *text):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.socket = wrap(server.socket)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def not_found(connection):
    """Answer every call of HTTP/2 by 404, as proxies do."""
    connection.sendall(frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, ACK, 0, b""))
    stream = 1
    while data := connection.recv(65_536):
        if b"/Hello" in data or b"grpc" in data:
            # 0x8d is ":status: 404" in the table of HPACK.
            connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x8d"))
            stream += 2


@pytest.fixture
def other():
    """The address of a server of gRPC that knows no call."""
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address
    server.stop(None).wait()


@pytest.mark.parametrize("kind", CLIENTS)
def test_another_server_of_grpc_is_told_at_once(other, kind):
    said = refused(other, kind)
    assert "no Embeddinghub server (gRPC says UNIMPLEMENTED: " in said
    assert "check host and port, and whether a proxy" in said


def test_who_lacks_another_call_than_the_first_may_be_an_older_hub(other):
    with (
        way_to(other, Server()) as way,
        pytest.raises(ehub.FormatError, match="Method not found"),
    ):
        way.call("ListAccess", access_pb2.ListAccessRequest())


@pytest.mark.parametrize("kind", CLIENTS)
def test_what_answers_404_is_told_at_once(kind):
    with answering(not_found) as address:
        said = refused(address, kind)
    assert "no Embeddinghub server" in said
    assert "404" in said


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_of_http_1_is_told_at_once(kind, files):
    trust = ClientTls(files / "ca.pem")
    with http1() as address:
        for tls in (None, trust):
            assert "no Embeddinghub server (it speaks HTTP/1)" in refused(address, kind, tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "here.pem", files / "here.key")
    with http1(lambda one: context.wrap_socket(one, server_side=True)) as address:
        assert "no Embeddinghub server (it has TLS, but not HTTP/2)" in refused(
            address, kind, trust
        )


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_what_is_wrong_with_tls_is_told_at_once_whatever_other_addresses_say(
    tmp_path, files, kind, host
):
    trust = ClientTls(files / "ca.pem")
    with serving(tmp_path / "a", tls=own(files, "here")) as server:
        address = f"{host}:{server.port}"
        with client_of(At(address), kind, tls=trust) as hub:
            assert hub.spaces() == []
        assert "wants TLS: connect with tls=" in refused(address, kind)
        said = refused(address, kind, ClientTls(files / "strange-ca.pem"))
        assert "not to be trusted (unable to get local issuer certificate)" in said
        assert "not to be trusted (" in refused(address, kind, ClientTls())
    with serving(tmp_path / "b", tls=own(files, "elsewhere")) as server:
        address = f"{host}:{server.port}"
        # Of an address gRPC may think otherwise.
        said = refused(address, kind, trust, at_once=host == "localhost")
        assert f"not valid for '{host}'" in said
        with client_of(At(address), kind, tls=replace(trust, server_name="example.com")) as hub:
            assert hub.spaces() == []
    with serving(tmp_path / "c") as server:
        address = f"{host}:{server.port}"
        assert "has no TLS: connect without tls=" in refused(address, kind, trust)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_wants_another_certificate_is_asked_about_that(tmp_path, files, host):
    mutual = replace(own(files, "here"), client_ca=files / "ca.pem")
    trust = ClientTls(files / "ca.pem")
    strange = replace(trust, certificate=files / "strange.pem", key=files / "strange.key")
    with serving(tmp_path, tls=mutual) as server:
        address = f"{host}:{server.port}"
        said = refused(address, "grpc", trust, at_once=False)
        assert "does it want a certificate of yours (certificate=, key=)?" in said
        said = refused(address, "grpc", strange, at_once=False)
        assert "does it trust the certificate of yours (certificate=)?" in said


def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path):
    port, found = free_port(), []

    def connect():
        with ehub.connect(f"127.0.0.1:{port}", retry_seconds=RETRY_SECONDS) as hub:
            found.append(hub.spaces())

    waiting = threading.Thread(target=connect)
    waiting.start()
    time.sleep(0.5)
    with serving(tmp_path, port=port):
        waiting.join(RETRY_SECONDS)
    assert found == [[]]


# --- time ---


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_call_that_is_late_says_whose_time_it_was_and_how_to_have_more(
    tmp_path, monkeypatch, kind
):
    done = threading.Event()
    monkeypatch.setattr(ehub.Space, "versions", lambda space: done.wait(10))
    late = {
        None: r"within 2 seconds, the server's limit .*connect with a larger timeout_seconds",
        1.5: r"within 1\.5 seconds, the timeout_seconds .*more, or with None .* which is 2 sec",
    }
    with serving(tmp_path, limits=Limits(deadline_seconds=2)) as server:
        server.hub.create_space("items", dims=2)
        for seconds, said in late.items():
            with client_of(server, kind, timeout_seconds=seconds) as hub:
                items = hub.get_space("items")
                with pytest.raises(ehub.DeadlineError, match=said):
                    items.versions()
        done.set()
