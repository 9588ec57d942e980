"""Only tokens that are what they claim are believed; others are refused, and crash nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

import ehub
from ehub.access import Access, AuthSettings, NotAuthenticated, keys, read_settings
from ehub.access.tokens import JwtSettings, JwtVerifier

ISSUER, AUDIENCE = "https://login.example.com", "ehub"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def claims(**changes):
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600}
    return {name: value for name, value in (whole | changes).items() if value is not None}


def encoded(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def by_hand(header, body, sign=lambda signed: b""):
    signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(body).encode())}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(RSA))
    return path


@pytest.fixture
def verifier(key_file):
    return JwtVerifier(JwtSettings(ISSUER, AUDIENCE, key_file, algorithms=("RS256",)))


@pytest.fixture(scope="module")
def any_verifier(tmp_path_factory):
    """One for all examples of a property: any algorithm, one key."""
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    path.write_bytes(pem(RSA))
    return JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))


# --- JSON web tokens ---


def test_a_token_of_the_provider_proves_its_user_and_groups(verifier):
    token = jwt.encode(claims(groups=["ml", "", 7, "ops"]), RSA, "RS256")
    principal = verifier.verify(token)
    assert principal.names == ("user:ann", "group:ml", "group:ops")
    assert principal.how == "jwt"
    assert verifier.verify(token) == principal  # from memory


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": 9_000_000_000},
        {"iat": 9_000_000_000},
        {"aud": "other"},
        {"aud": None},
        {"aud": ["x", "y"]},
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "\0hidden"},
        {"sub": "x" * 300},
        {"groups": 7},
        {"groups": ["g"] * 2_000},
    ],
    ids=repr,
)
def test_a_token_with_a_wrong_or_missing_claim_is_refused(verifier, changes):
    with pytest.raises(NotAuthenticated):
        verifier.verify(jwt.encode(claims(**changes), RSA, "RS256"))


def test_a_clock_may_be_off_by_the_leeway_and_no_more(key_file):
    settings = JwtSettings(ISSUER, AUDIENCE, key_file, ("RS256",), leeway_seconds=30)
    now = int(time.time())
    assert JwtVerifier(settings).verify(jwt.encode(claims(exp=now - 20), RSA, "RS256"))
    assert JwtVerifier(settings).verify(jwt.encode(claims(nbf=now + 20), RSA, "RS256"))
    with pytest.raises(NotAuthenticated, match="expired"):
        JwtVerifier(settings).verify(jwt.encode(claims(exp=now - 40), RSA, "RS256"))


def test_what_is_known_of_a_token_ends_with_it(key_file):
    settings = JwtSettings(ISSUER, AUDIENCE, key_file, ("RS256",), leeway_seconds=0)
    verifier = JwtVerifier(settings)
    token = jwt.encode(claims(exp=int(time.time()) + 2), RSA, "RS256")
    verifier.verify(token)
    time.sleep(2.1)
    with pytest.raises(NotAuthenticated, match="expired"):
        verifier.verify(token)


def test_a_token_that_was_too_early_is_believed_when_its_time_has_come(key_file):
    settings = JwtSettings(ISSUER, AUDIENCE, key_file, ("RS256",), leeway_seconds=0)
    verifier = JwtVerifier(settings)
    token = jwt.encode(claims(nbf=int(time.time()) + 2), RSA, "RS256")
    with pytest.raises(NotAuthenticated):
        verifier.verify(token)
    time.sleep(2.1)
    assert verifier.verify(token).name == "user:ann"


@pytest.mark.parametrize("name", ["none", "None", "NONE", ""])
def test_a_token_that_says_it_is_not_signed_is_refused(verifier, name):
    with pytest.raises(NotAuthenticated, match="algorithm"):
        verifier.verify(by_hand({"alg": name, "typ": "JWT"}, claims()))


@pytest.mark.parametrize("secret", ["pem", "der", "empty"])
def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(verifier, secret):
    public = RSA.public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    known = {"pem": pem(RSA), "der": der, "empty": b""}[secret]
    for algorithm, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        token = by_hand(
            {"alg": algorithm, "typ": "JWT"},
            claims(),
            lambda signed, digest=digest: hmac.new(known, signed, digest).digest(),
        )
        with pytest.raises(NotAuthenticated, match="algorithm"):
            verifier.verify(token)


def test_a_token_of_another_key_or_algorithm_is_refused(verifier):
    for private, algorithm in ((OTHER_RSA, "RS256"), (RSA, "PS256"), (RSA, "RS512"), (EC, "ES256")):
        with pytest.raises(NotAuthenticated):
            verifier.verify(jwt.encode(claims(), private, algorithm))


def test_a_key_that_the_token_brings_itself_is_not_looked_at(verifier):
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))
    for header in ({"jwk": own}, {"jku": "https://evil.example.com/jwks"}, {"x5u": "file:///x"}):
        with pytest.raises(NotAuthenticated):
            verifier.verify(jwt.encode(claims(), OTHER_RSA, "RS256", headers=header))


@pytest.mark.parametrize(
    "key_id", ["../../etc/passwd", "' OR 1=1", "", "\0", "x" * 10_000, None, 7, ["a"]], ids=repr
)
def test_the_name_of_a_key_opens_nothing(tmp_path, key_id):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [named(RSA, "first"), named(EC, "second")]}))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    header = {"alg": "RS256", "kid": key_id}
    token = by_hand(header, claims(), lambda signed: b"x" * 256)
    with pytest.raises(NotAuthenticated):
        verifier.verify(token)


def test_every_cut_and_every_flipped_byte_of_a_token_is_refused(key_file):
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, key_file, algorithms=("RS256",)))
    token = jwt.encode(claims(), RSA, "RS256")
    for end in range(0, len(token), 7):
        with pytest.raises(NotAuthenticated):
            verifier.verify(token[:end])
    for place in range(0, len(token) - 1, 5):  # the last character has bits that mean nothing
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(NotAuthenticated):
            verifier.verify(token[:place] + other + token[place + 1 :])


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda b: b.decode("latin-1"))))
def test_random_text_is_no_token(any_verifier, text):
    with pytest.raises(NotAuthenticated):
        any_verifier.verify(text)
    assert keys.parse(text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "x"]), inner)
        ),
        max_leaves=8,
    ),
    st.dictionaries(st.sampled_from(["sub", "aud", "iss", "exp"]), st.integers() | st.text()),
)
def test_random_json_in_the_place_of_a_header_is_no_token(any_verifier, header, body):
    with pytest.raises(NotAuthenticated):
        any_verifier.verify(by_hand(header, body))


def test_a_token_may_not_be_endless(verifier):
    with pytest.raises(NotAuthenticated, match="characters"):
        verifier.verify("a" * 10_000)


def test_what_is_known_of_tokens_has_bounds(verifier):
    good = jwt.encode(claims(), RSA, "RS256")
    verifier.verify(good)
    for number in range(5_000):
        with pytest.raises(NotAuthenticated):
            verifier.verify(f"a.b.{number}")
    assert len(verifier._bad._verdicts) <= 4_096
    assert len(verifier._good._verdicts) == 1  # made-up tokens push out no good ones


# --- keys of the provider ---


def named(private, key_id, **more):
    kinds = {rsa.RSAPrivateKey: "RSAAlgorithm", ec.EllipticCurvePrivateKey: "ECAlgorithm"}
    kind = next((name for cls, name in kinds.items() if isinstance(private, cls)), "OKPAlgorithm")
    document = json.loads(getattr(jwt.algorithms, kind).to_jwk(private.public_key()))
    return {**document, "kid": key_id, **more}


def test_a_key_set_has_its_keys_by_name(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [named(RSA, "r"), named(EC, "e"), named(ED, "d")]}))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    for private, algorithm, key_id in ((RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")):
        token = jwt.encode(claims(), private, algorithm, headers={"kid": key_id})
        assert verifier.verify(token).name == "user:ann"
        for wrong in ({"kid": "x"}, {}, {"kid": "r" if key_id != "r" else "e"}):
            with pytest.raises(NotAuthenticated):
                verifier.verify(jwt.encode(claims(), private, algorithm, headers=wrong))


UNKNOWN_KEYS = [
    {"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA"},
    {"kty": "OKP", "crv": "X448", "x": "AAAA"},
    {"kty": "AKP", "pub": "AAAA"},
    {"kty": "RSA", "n": "AAAA"},
    {"crv": "P-256"},
]


@pytest.mark.parametrize("other", UNKNOWN_KEYS, ids=lambda one: json.dumps(one)[:30])
def test_keys_that_nobody_here_knows_are_left_out_of_a_set(tmp_path, other):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**other, "kid": "o"}, named(RSA, "r")]}))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    assert verifier.verify(jwt.encode(claims(), RSA, "RS256", headers={"kid": "r"}))
    with pytest.raises(NotAuthenticated, match="not one that this server knows"):
        verifier.verify(jwt.encode(claims(), RSA, "RS256", headers={"kid": "o"}))
    path.write_text(json.dumps({"keys": [{**other, "kid": "o"}]}))
    with pytest.raises(ehub.InvalidArgumentError, match="no keys"):
        JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))


def test_a_key_is_used_for_the_algorithm_it_is_for(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [named(RSA, "r", alg="PS256")]}))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path, algorithms=("RS256", "PS256")))
    with pytest.raises(NotAuthenticated, match="PS256"):
        verifier.verify(jwt.encode(claims(), RSA, "RS256", headers={"kid": "r"}))
    assert verifier.verify(jwt.encode(claims(), RSA, "PS256", headers={"kid": "r"}))


def test_keys_rotate_while_the_server_runs_and_old_tokens_end_with_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr("ehub.access.jwt_keys.FILE_SECONDS", 0)
    path = tmp_path / "key.pem"
    path.write_bytes(pem(RSA))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    old, new = (jwt.encode(claims(), one, "RS256") for one in (RSA, OTHER_RSA))
    verifier.verify(old)
    path.write_bytes(pem(OTHER_RSA) + b"\n")
    assert verifier.verify(new)
    with pytest.raises(NotAuthenticated):
        verifier.verify(old)
    path.unlink()  # in the middle of being replaced
    assert verifier.verify(new)


def test_a_verdict_by_keys_that_have_just_gone_is_not_kept(tmp_path, monkeypatch):
    """The file changes after one thread has taken its keys and before it has judged by them."""
    monkeypatch.setattr("ehub.access.jwt_keys.FILE_SECONDS", 0)
    path = tmp_path / "key.pem"
    path.write_bytes(pem(RSA))
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    old, new = (jwt.encode(claims(), one, "RS256") for one in (RSA, OTHER_RSA))
    judge = verifier._judge

    def judge_late(token, keys):
        monkeypatch.undo()
        monkeypatch.setattr("ehub.access.jwt_keys.FILE_SECONDS", 0)
        path.write_bytes(pem(OTHER_RSA) + b"\n")
        assert verifier.verify(new)
        return judge(token, keys)

    monkeypatch.setattr(verifier, "_judge", judge_late)
    assert verifier.verify(old)
    with pytest.raises(NotAuthenticated):
        verifier.verify(old)


@pytest.mark.parametrize("kind", [lambda end: str(int(end)), float], ids=["text", "float"])
def test_the_end_of_a_token_may_be_any_number_that_is_one(key_file, kind):
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, key_file))
    token = jwt.encode(claims(exp=kind(time.time() + 60)), RSA, "RS256")
    assert verifier.verify(token).name == "user:ann"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{",
        "[]",
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        '{"keys": [7]}',
        "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----",
    ],
)
def test_a_file_without_public_keys_is_refused_at_the_start(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ehub.InvalidArgumentError):
        JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))


def test_private_keys_and_keys_of_one_name_are_refused(tmp_path):
    path = tmp_path / "keys"
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA))
    for entries in ([private], [named(RSA, "a"), named(EC, "a")], [named(RSA, None), named(EC, 1)]):
        path.write_text(json.dumps({"keys": entries}))
        with pytest.raises(ehub.InvalidArgumentError):
            JwtVerifier(JwtSettings(ISSUER, AUDIENCE, path))
    with pytest.raises(ehub.NotFoundError):
        JwtVerifier(JwtSettings(ISSUER, AUDIENCE, tmp_path / "missing"))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "HS512", "rs256", ""])
def test_such_algorithms_cannot_be_configured(tmp_path, algorithm):
    with pytest.raises(ehub.InvalidArgumentError, match="never believed"):
        JwtSettings(ISSUER, AUDIENCE, tmp_path, algorithms=("RS256", algorithm))


# --- the config ---


def test_the_table_of_the_config_becomes_settings(tmp_path, key_file):
    table = {
        "anonymous": ["reader on space:public-*"],
        "certificates": True,
        "jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "key.pem", "algorithms": ["RS256"]},
    }
    settings = read_settings(table, tmp_path)
    assert str(settings.anonymous[0]) == "reader on space:public-*"
    assert settings.certificates
    assert settings.jwt == JwtSettings(ISSUER, AUDIENCE, key_file, ("RS256",))
    assert read_settings({}, tmp_path) == AuthSettings()


@pytest.mark.parametrize(
    "table",
    [
        {"anonimous": []},
        {"anonymous": "reader on hub"},
        {"anonymous": ["reader"]},
        {"old_clients": [7]},
        {"certificates": "yes"},
        {"jwt": 7},
        {"jwt": {"issuer": ISSUER}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "secret": "s"}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "algorithms": "RS256"}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "algorithms": []}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "algorithms": ["none"]}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "leeway_seconds": "1"}},
        {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "keys": "k", "leeway_seconds": 1e9}},
        {"jwt": {"issuer": ISSUER, "audience": "", "keys": "k"}},
        {"jwt": {"issuer": ISSUER, "audience": ["a"], "keys": "k"}},
    ],
    ids=repr,
)
def test_a_mistake_in_the_config_is_refused(tmp_path, table):
    with pytest.raises(ehub.InvalidArgumentError):
        read_settings(table, tmp_path)


# --- API keys ---


def test_a_key_has_its_prefix_and_its_parts():
    token, key_id, digest = keys.new_key()
    assert token.startswith("ehub_")
    assert keys.parse(token) == (key_id, token.split("_")[2])
    assert digest == hashlib.sha256(token.split("_")[2].encode()).hexdigest()
    assert token.replace("_", "").isalnum()


def test_every_typo_in_a_key_is_recognised():
    token, _, _ = keys.new_key()
    for place in range(len(token)):
        for other in "aZ0_é":
            if token[place] != other:
                assert keys.parse(token[:place] + other + token[place + 1 :]) is None
        assert keys.parse(token[:place]) is None
        assert keys.parse(token[:place] + token[place + 1 :]) is None
    assert keys.parse(token + "0") is None
    assert keys.parse(token + "\n") is None


def test_a_made_up_key_with_a_right_checksum_is_refused_like_a_revoked_one(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub)
        token, key = access.create_key("a")
        made_up = keys.new_key()[0]
        secret = made_up.split("_")[2]
        body = f"ehub_{key.id}_{secret}"
        same_id = f"{body}_{keys.check_of(body)}"
        answers = set()
        for attempt in (made_up, same_id):
            with pytest.raises(NotAuthenticated) as caught:
                access.authenticate(attempt)
            answers.add(str(caught.value))
        access.revoke(key.id)
        with pytest.raises(NotAuthenticated) as caught:
            access.authenticate(token)
        assert answers == {str(caught.value)}


def test_no_error_repeats_the_token(tmp_path, verifier):
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub)
        for token in ("ehub_secretsecret", "secret.secret.secret", "secret"):
            for refuses in (access.authenticate, verifier.verify):
                with pytest.raises(NotAuthenticated) as caught:
                    refuses(token)
                assert "secret" not in str(caught.value)
