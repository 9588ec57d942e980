"""The page's port: what it sends with every answer, what it refuses, and how it is kept open."""

from __future__ import annotations

import gzip
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import ehub
from ehub.access import Access, AuthSettings, Grant
from ehub.access.tokens import JwtSettings
from ehub.server.config import ServerConfig, Tls, read_config
from ehub.server.interceptor import AccessInterceptor
from ehub.server.service import service

pytest.importorskip("plotly", reason="the page needs plotly: pip install 'ehub[ui]'")

from paged import open_page, paged, trusting

from ehub.server import http_port
from ehub.server.page import assets, listener, reports
from ehub.server.page.page import Page

FILES = ["/", "/page.js", "/api.js", "/dom.js", "/plots.js", "/page.css", "/icon.svg", "/plotly.js"]
EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_page(tmp_path_factory.mktemp("port") / "hub") as one:
        one.hub.create_space(EVIL, dims=2).set(EVIL, [1, 0], partition=EVIL)
        yield one


def raw(page, request: bytes) -> bytes:
    """What is sent back to some bytes."""
    with socket.create_connection(("127.0.0.1", page.page.port), timeout=30) as one:
        one.sendall(request)
        answer = b""
        while part := one.recv(1 << 16):
            answer += part
    return answer


# --- files ---


@pytest.mark.parametrize("path", FILES)
def test_files_are_for_anybody_and_are_sent_once(tmp_path, path):
    with paged(tmp_path / "hub") as page:
        got = page.get(path)
        assert got.status == 200
        again = page.get(path, headers={"If-None-Match": got.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        packed = page.get(path, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == got.body


def test_there_are_no_other_files():
    own = {f"/{one.name}" for one in files("ehub.server.page").joinpath("static").iterdir()}
    assert own - {"/index.html"} | {"/", "/plotly.js"} == set(FILES)


def test_the_script_for_plots_is_that_of_the_installed_package(page):
    import plotly.offline

    assert page.get("/plotly.js").body.decode() == plotly.offline.get_plotlyjs()


def test_without_plotly_the_page_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(assets, "files", missing)
    with pytest.raises(ehub.UnavailableError, match=re.escape("pip install 'ehub[ui]'")):
        assets.plotly_script()


def test_nothing_comes_from_elsewhere_and_nothing_is_written_into_the_page_as_html():
    for one in files("ehub.server.page").joinpath("static").iterdir():
        text = one.read_text()
        assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", text), one.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
        ), one.name
    html = files("ehub.server.page").joinpath("static", "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


# --- what every answer has ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/plotly.js", 200),
        ("GET", "/api/spaces", 200),
        ("GET", "/api/map", 400),
        ("GET", "/api/map?space=nosuch", 404),
        ("GET", "/nosuch", 404),
        ("POST", "/api/spaces", 405),
        ("PUT", "/", 405),
        ("DELETE", "/api/spaces", 405),
        ("OPTIONS", "/api/spaces", 405),
        ("BREW", "/", 405),
    ],
)
def test_every_answer_tells_browsers_what_they_may_do(page, method, path, status):
    got = page.get(path, method=method)
    assert got.status == status
    policy = dict(part.split(" ", 1) for part in got.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Referrer-Policy"] == "no-referrer"
    assert got.headers["Connection"] == "close"
    assert got.headers["Server"] == "ehub"
    assert "Access-Control-Allow-Origin" not in got.headers
    if status == 405:
        assert got.headers["Allow"] == "GET, HEAD"
    if path.startswith("/api/"):
        assert got.headers["Content-Type"] == "application/json"
    if path.startswith("/api/") and status != 405:
        assert got.headers["Cache-Control"] == "no-store"
    if method == "HEAD":
        assert got.body == b""


@pytest.mark.parametrize("path", ["/api/space", "/api/map"])
def test_html_in_names_and_keys_is_never_sent_as_html(page, path):
    got = page.get(path, space=EVIL)
    assert got.headers["Content-Type"] == "application/json"
    assert EVIL in json.dumps(got.json, ensure_ascii=False).replace('\\"', '"')
    wrong = page.get("/api/map", space=f"{EVIL}{EVIL}")
    assert (wrong.status, wrong.headers["Content-Type"]) == (404, "application/json")


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/static/page.js",
        "/page.js/",
        "/./page.js",
        "/page.js%00",
        "/index.html",
        "/api/",
        "/api/../page.js",
        "/__init__.py",
        "http://127.0.0.1/page.js",
        "file:///etc/passwd",
    ],
)
def test_no_other_path_leads_anywhere(page, path):
    answer = raw(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'{"error": "there is no such page"}')


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", 421),
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated(page, request_, status):
    answer = raw(page, request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Security-Policy" in answer
    assert b"nonsense" not in answer


# --- other sites ---


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1234", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
    ],
)
def test_a_name_that_was_made_to_lead_here_is_refused(page, host, status):
    assert page.get("/api/spaces", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("site", "status"),
    [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)],
)
def test_pages_of_other_sites_may_not_ask(page, site, status):
    assert page.get("/api/spaces", headers={"Sec-Fetch-Site": site}).status == status


# --- tokens ---


def test_neither_tokens_nor_keys_get_into_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with paged(tmp_path / "hub") as page:
        page.hub.create_space("items", dims=2).set("secret-key", [1, 0])
        token = page.served.tokens["root"]
        for path, values in [
            ("/api/neighbors", {"space": "items", "key": "secret-key"}),
            ("/api/neighbors", {"space": "items", "key": "secret-key-2"}),
            (f"/api/spaces?token={token}", {}),
            (f"/{token}", {}),
            (f"/api/{token}", {}),
        ]:
            page.get(path, "root", **values)
        page.get("/api/spaces", token=f"{token}x")
        raw(page, f"{token}\r\n\r\n".encode())
    log = "\n".join(str(vars(record)) for record in caplog.records)
    assert "'path': '/api/neighbors'" in log
    assert token not in log
    assert "secret-key" not in log
    audit = "".join(one.read_text() for one in (tmp_path / "hub" / "audit").iterdir())
    assert token not in audit


def test_calls_without_a_token_see_what_the_config_gives_them(tmp_path):
    with paged(tmp_path / "hub", anonymous=["reader on space:public-*"]) as page:
        for name in ("public-a", "private"):
            page.hub.create_space(name, dims=2)
        assert [one["name"] for one in page.get("/api/spaces").json["spaces"]] == ["public-a"]
        assert page.get("/api/map", space="private").status == 404
        assert page.get("/api/hub").json["principal"] == "anonymous"


def test_a_json_web_token_opens_what_its_user_and_groups_may_see(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "key.pem").write_bytes(public)
    trusted = JwtSettings("https://login.example.com", "ehub", tmp_path / "key.pem")
    claims = {"iss": trusted.issuer, "aud": "ehub", "sub": "ann", "groups": ["ml"]}
    good, late = (
        jwt.encode({**claims, "exp": time.time() + seconds}, private, algorithm="ES256")
        for seconds in (600, -600)
    )
    with open_page(tmp_path / "hub", AuthSettings(jwt=trusted)) as page:
        page.hub.create_space("items", dims=2)
        page.hub.create_space("hidden", dims=2)
        Access(page.hub).grant("group:ml", Grant("reader", "space:items"))
        assert page.get("/api/hub", token=good).json["principal"] == "user:ann"
        shown = page.get("/api/spaces", token=good).json["spaces"]
        assert [one["name"] for one in shown] == ["items"]
        assert page.get("/api/map", token=good, space="hidden").status == 404
        assert page.get("/api/hub", token=late).status == 401


# --- where it listens ---


def page_at(path, **config):
    """A page that is not started."""
    told = ServerConfig(ui_port=0, **config)
    with ehub.open(path) as hub:
        guard = AccessInterceptor(hub, Access(hub))
        try:
            Page(guard, service(hub, told.limits), told).stop()
        finally:
            guard.close()


def test_it_refuses_to_be_reached_by_others_without_tls_and_authentication(tmp_path):
    with pytest.raises(ehub.InvalidArgumentError, match=r"TLS .* and authentication"):
        page_at(tmp_path / "hub", host="0.0.0.0")
    page_at(tmp_path / "hub", host="0.0.0.0", insecure=True)
    with ehub.open(tmp_path / "hub") as hub:
        Access(hub).create_key("root", [Grant("admin", "hub")])
    with pytest.raises(ehub.InvalidArgumentError, match=r"without TLS \("):
        page_at(tmp_path / "hub", host="0.0.0.0")


def test_a_port_that_is_taken_or_cannot_be_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = ServerConfig(ui_port=port)
        with pytest.raises(ehub.UnavailableError, match=f"cannot serve a page at .*:{port}"):
            listener.Listener(None, config)
    for port in (70_000, -1):
        with pytest.raises(ehub.InvalidArgumentError, match="expected 0 to 65,535"):
            listener.Listener(None, ServerConfig(ui_port=port))
    with pytest.raises(ehub.InvalidArgumentError, match="HTTP needs a host"):
        listener.Listener(None, ServerConfig(host="unix:/tmp/x", ui_port=0))


def test_the_port_is_set_by_a_file(tmp_path):
    path = tmp_path / "ehub.toml"
    path.write_text("ui_port = 8080\n")
    assert read_config(path).ui_port == 8080
    assert ServerConfig().ui_port is None
    path.write_text('ui_port = "8080"\n')
    with pytest.raises(ehub.InvalidArgumentError, match="ui_port is '8080'; expected int"):
        read_config(path)


def serve(path, *options):
    command = [sys.executable, "-m", "ehub.server", str(path), "--port", "0", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_command_serves_a_page_if_it_is_told_to_and_ends_it_on_sigterm(tmp_path):
    with serve(tmp_path / "hub", "--ui-port", "0") as process:
        told = next(line for line in process.stderr if '"url"' in line)
        url = json.loads(told)["url"]
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)[1])
        with socket.create_connection(("127.0.0.1", port)):  # an idle one keeps nobody waiting
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
    assert '"event": "closed"' in rest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with serve(tmp_path / "hub") as process:
        next(line for line in process.stderr if '"address"' in line)
        process.send_signal(signal.SIGTERM)
        assert '"url"' not in process.stderr.read()
        assert process.wait(30) == 0


# --- TLS ---


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def files_of(authority, directory: Path, *, client_ca=None) -> Tls:
    certificate = authority.issue_cert("localhost")
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    if client_ca is not None:
        client_ca.cert_pem.write_to_path(str(directory / "clients.pem"))
    return Tls(chain, key, None if client_ca is None else directory / "clients.pem")


def test_the_page_has_the_tls_of_the_server(tmp_path, authority):
    tls = files_of(authority, tmp_path)
    with open_page(tmp_path / "hub", tls=tls) as page:
        assert page.page.url.startswith("https://")
        got = page.get("/api/spaces", trust=trusting(authority))
        assert got.status == 200
        # The certificate says which names are ours.
        named = {"Host": "hub.example.com"}
        assert page.get("/api/spaces", trust=trusting(authority), headers=named).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            page.get("/", trust=trusting(trustme.CA()))
        assert raw(page, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""


def test_a_certificate_of_a_client_proves_who_it_is(tmp_path, authority):
    clients = trustme.CA()
    tls = files_of(authority, tmp_path, client_ca=clients)
    with open_page(tmp_path / "hub", AuthSettings(certificates=True), tls=tls) as page:
        page.hub.create_space("items", dims=2)
        who = "cert:dashboard.example.com"
        Access(page.hub).grant(who, Grant("reader", "space:items"))
        known = trusting(authority, clients.issue_cert("dashboard.example.com"))
        assert page.get("/api/hub", trust=known).json["principal"] == who
        shown = page.get("/api/spaces", trust=known).json["spaces"]
        assert [one["name"] for one in shown] == ["items"]
        other = trusting(authority, clients.issue_cert("other.example.com"))
        assert page.get("/api/spaces", trust=other).json["spaces"] == []
        with pytest.raises((ssl.SSLError, ConnectionError)):
            page.get("/api/spaces", trust=trusting(authority))


# --- hostile connections ---


def test_slow_connections_are_ended_and_others_are_answered_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(http_port, "CONNECTION_SECONDS", 1.0)
    with open_page(tmp_path / "hub") as page:
        port = page.page.port
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for one in slow:
            one.sendall(b"GET / HT")
        assert page.get("/").status == 200
        began = time.monotonic()
        for one in slow:  # each byte in time does not help
            one.settimeout(0.2)
            while time.monotonic() - began < 20:
                try:
                    one.sendall(b"x")
                    if one.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            one.close()
        assert time.monotonic() - began < 10


def test_no_more_connections_are_taken_than_there_are_places_and_they_come_free(tmp_path):
    with open_page(tmp_path / "hub") as page:
        port = page.page.port
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(listener.CONNECTIONS)]
        time.sleep(0.5)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as more:
            assert more.recv(1) == b""
        for one in held:
            one.close()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                assert page.get("/").status == 200
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("no place came free")


def test_who_does_not_finish_the_tls_handshake_keeps_nobody_waiting(tmp_path, authority):
    with (
        open_page(tmp_path / "hub", tls=files_of(authority, tmp_path)) as page,
        socket.create_connection(("127.0.0.1", page.page.port)),
    ):
        began = time.monotonic()
        assert page.get("/", trust=trusting(authority)).status == 200
        assert time.monotonic() - began < 5


def test_a_mistake_of_ours_tells_the_caller_a_number_and_the_log_the_rest(
    page, monkeypatch, caplog
):
    def broken(self, caller, values):
        raise ZeroDivisionError("secret")

    monkeypatch.setitem(reports.ROUTES, "/api/hub", reports.Route(broken))
    got = page.get("/api/hub")
    assert got.status == 500
    number = re.fullmatch(r"an internal error, (\w+) in the server's log", got.json["error"])[1]
    assert [record.error for record in caplog.records if hasattr(record, "error")] == [number]


def test_questions_that_take_all_cores_wait_for_each_other_but_not_for_ever(page, monkeypatch):
    monkeypatch.setattr(reports, "TURN_SECONDS", 0.1)
    held = page.page._listener.site._reports
    page.hub.create_space("busy", dims=2)
    with held._turn():
        got = page.get("/api/map", space="busy")
    assert (got.status, got.headers["Retry-After"]) == (503, "10")
    assert page.get("/api/map", space="busy").status == 200
