"""Keys of an identity provider by URL: fetched aside, and nothing is believed without them."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import ehub
from ehub.access import NotAuthenticated, jwt_keys, read_settings
from ehub.access.tokens import JwtSettings, JwtVerifier

ISSUER, AUDIENCE = "https://login.example.com", "ehub"
FIRST, SECOND = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


def entry(private, key_id, **more):
    told = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    return {**told, "kid": key_id, "use": "sig", "alg": "RS256", **more}


def token(private, key_id, **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 600, **changes}
    return jwt.encode(claims, private, "RS256", headers={"kid": key_id})


class Provider:
    """An HTTP server with a key set, which counts who asks."""

    def __init__(self):
        self.asked = 0
        self.answer = self.slow = None
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked += 1
                if provider.slow is not None:
                    provider.slow.wait(20)
                status, headers, body = provider.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *about):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def has(self, *entries):
        self.answer = 200, {}, json.dumps({"keys": entries}).encode()

    def fails(self, status=500, body=b"", **headers):
        self.answer = status, headers, body

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def provider():
    one = Provider()
    one.has(entry(FIRST, "a"))
    yield one
    one.close()


@pytest.fixture
def verifier_of(provider):
    made = []

    def make():
        made.append(JwtVerifier(JwtSettings(ISSUER, AUDIENCE, provider.url)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def soon(monkeypatch, **seconds):
    """Let the thread that fetches keys wait for moments only."""
    for name, value in {"FETCH": 0.05, "AGAIN": 0.05, **seconds}.items():
        monkeypatch.setattr(jwt_keys, f"{name}_SECONDS", value)


def becomes(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def believed(verifier, text):
    try:
        return verifier.verify(text).name == "user:ann"
    except NotAuthenticated:
        return False


def test_a_token_is_believed_by_a_key_of_the_url_and_no_call_fetches(provider, verifier_of):
    verifier = verifier_of()
    for number in range(50):
        assert believed(verifier, token(FIRST, "a", jti=str(number)))
        assert not believed(verifier, token(SECOND, f"made-up-{number}"))
        assert not believed(verifier, token(SECOND, "a"))
    assert provider.asked == 1


def test_a_new_key_is_fetched_soon_when_a_token_names_it(provider, verifier_of, monkeypatch):
    soon(monkeypatch, FETCH=1000)
    verifier = verifier_of()
    provider.has(entry(FIRST, "a"), entry(SECOND, "b"))
    time.sleep(0.3)
    assert provider.asked == 1
    becomes(lambda: believed(verifier, token(SECOND, "b")))
    assert believed(verifier, token(FIRST, "a"))
    assert provider.asked == 2


def test_a_key_that_is_gone_proves_nothing_any_more(provider, verifier_of, monkeypatch):
    soon(monkeypatch)
    verifier, old = verifier_of(), token(FIRST, "a")
    assert believed(verifier, old)
    provider.has(entry(SECOND, "b"))
    becomes(lambda: not believed(verifier, old))
    assert believed(verifier, token(SECOND, "b"))


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, b""),
        (200, {}, b"nonsense"),
        (200, {}, b"[]"),
        (200, {}, b'{"keys": []}'),
        (200, {}, json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}).encode()),
        (200, {}, json.dumps({"keys": [{"kty": "AKP", "priv": "c2Vj", "kid": "a"}]}).encode()),
        (200, {}, b"[" * 100_000),
        (200, {"Content-Length": "100000"}, b"{"),
        (200, {}, b" " * (jwt_keys.SET_BYTES_MAX + 1)),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
    ],
)
def test_without_keys_nothing_is_believed_until_there_are_some(
    provider, verifier_of, monkeypatch, status, headers, body
):
    soon(monkeypatch)
    provider.fails(status, body, **headers)
    verifier, good = verifier_of(), token(FIRST, "a")
    with pytest.raises(NotAuthenticated, match="no keys of its issuer"):
        verifier.verify(good)
    provider.has(entry(FIRST, "a"))
    becomes(lambda: believed(verifier, good))
    provider.fails(status, body, **headers)  # the keys that it has go on for a while
    asked = provider.asked
    becomes(lambda: provider.asked > asked + 2)
    assert believed(verifier, good)
    soon(monkeypatch, KEEP=0.2)
    becomes(lambda: not believed(verifier, good))


def test_a_provider_that_does_not_answer_keeps_nobody_waiting(provider, verifier_of, monkeypatch):
    soon(monkeypatch, TIMEOUT=20.0)
    verifier = verifier_of()
    provider.slow = threading.Event()
    asked = provider.asked
    becomes(lambda: provider.asked > asked)
    began = time.monotonic()
    for number in range(20):
        assert believed(verifier, token(FIRST, "a", jti=str(number)))
        believed(verifier, token(SECOND, f"made-up-{number}"))
    assert time.monotonic() - began < 10
    provider.slow.set()


def test_keys_that_are_not_for_signatures_are_passed_by(provider, verifier_of):
    wrapping = entry(SECOND, "b", use="enc", alg="RSA-OAEP")
    provider.has(wrapping, entry(FIRST, "a"), {"kty": "new", "kid": "c", "alg": "X1"})
    verifier = verifier_of()
    assert believed(verifier, token(FIRST, "a"))
    assert not believed(verifier, token(SECOND, "b"))


@pytest.mark.parametrize(
    "url", ["http://login.example.com/k", "ftp://x/k", "file:///etc/keys", "https:///k", "://"]
)
def test_keys_come_from_where_nobody_else_can_put_them(url):
    with pytest.raises(ehub.InvalidArgumentError, match="https://"):
        JwtSettings(ISSUER, AUDIENCE, url)


def test_the_config_has_a_url_in_the_place_of_a_file():
    url = "https://login.example.com/jwks.json"
    told = {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": url}}
    assert read_settings(told, Path("/etc/ehub")).jwt == JwtSettings(ISSUER, AUDIENCE, url)
