"""What hostile callers send: typed errors, no crash, and no name that they may not see."""

from __future__ import annotations

import base64
import hmac
import json
import random
import socket
import string
import time
import warnings

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.descriptor import FieldDescriptor
from guarded import METHODS, Guarded, bearer, guarded
from http2 import conversation

import ehub
from ehub.access import AuthSettings, Grant
from ehub.access.tokens import JwtSettings
from ehub.client.connection import options_for
from ehub.server import admission
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import OLD, methods_of

Code = grpc.StatusCode
OLD_METHODS = {f"old {name}": method for name, method in methods_of(OLD).items()}
EVERY = METHODS | OLD_METHODS

# What a caller is told when something went wrong that nobody thought of.
MISTAKES = {Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.UNIMPLEMENTED}
# In names of all that callers may not know of.
HUSH = "hush"

CALLERS = {
    "root": ["admin on hub"],
    "nobody": [],
    "other": ["editor on space:other"],
    "part": ["writer on space:items/partition:us"],
}


def fill(hub):
    """What requests are about, and beside it what most callers may not know of."""
    for name in ("items", "hush-space"):
        if name not in hub:
            made = hub.create_space(name, dims=2, metric="l2")
            made.multiset(["us-1", "us-2"], [[1, 1], [2, 2]], partition="us")
            made.multiset(["hush-1", "hush-2"], [[3, 3], [4, 4]], partition="hush-part")
            made.create_version("next")
            made.create_subindex("us", keys=["us-1", "hush-1"])
            if name != "items":
                made.tag("hush-tag")
                made.alias("hush-alias", "initial")
                made.create_average("hush-average", {"hush-group": ["us-1"]})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    grants = [(name, *given) for name, given in CALLERS.items()]
    with guarded(tmp_path_factory.mktemp("hush") / "hub", grants) as one:
        fill(one.hub)
        yield one


def raw(served, method, data, caller):
    """A call with these bytes as its request, or its requests: code, and all that was told."""
    metadata = bearer(served.tokens[caller])
    kind = getattr(served.channel, method.shape)(method.path)
    sent = iter(data) if method.request_streams else data[0]
    try:
        answer = kind(sent, metadata=metadata, timeout=60)
        for _ in answer if method.response_streams else ():
            pass
    except grpc.RpcError as error:
        trailing = b"".join(bytes(str(value), "utf8") for _, value in error.trailing_metadata())
        return error.code(), f"{error.details()} {trailing!r}"
    return Code.OK, ""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Connections that have sent what is no request do not wait before the next one."""
    monkeypatch.setattr(admission, "OFFENCE_SECONDS", 0)


# --- requests that were made up ---

NAMES = ["items", "items", "items", "hush-space", "none-such", "", "\0", "a\nb", "é" * 200]
TEXTS = [
    "",
    "initial",
    "next",
    "us",
    "hush-part",
    "default",
    "str",
    "cosine",
    "{",
    "\0x",
    "x" * 2000,
]
BYTES = [b"", b"us-1", b"\4\0", b"\4\0\4\0", b"\xff\xff", b"\0" * 7, b"\0" * 8, b"\1" * 16]
WHOLE = [0, 1, 2, 7, 64, 65_536, (1 << 31) - 1, (1 << 32) - 1]
REAL = [0.0, 1.0, -1.0, float("nan"), float("inf"), 1e300, 1e-300]


def made_up(kind, rng, depth=0):
    """A message with some of its fields, of values that may or may not make sense."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if rng.random() < (0.15 if field.name not in ("target", "space", "parts") else 0.0):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["k"] = rng.choice(TEXTS)
        elif field.message_type:
            if depth < 4:
                made = made_up(field.message_type._concrete_class, rng, depth + 1)
                into = getattr(message, field.name)
                into.append(made) if field.is_repeated else into.CopyFrom(made)
        elif field.is_repeated:
            getattr(message, field.name).append(value_of(field, rng))
        else:
            setattr(message, field.name, value_of(field, rng))
    return message


def value_of(field, rng):
    kinds = FieldDescriptor
    if field.cpp_type == kinds.CPPTYPE_STRING:
        if field.type == kinds.TYPE_BYTES:
            return rng.choice(BYTES)
        return rng.choice(NAMES if field.name in ("space", "name") else TEXTS)
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
        return rng.choice(REAL)
    return rng.choice(WHOLE[:-1] if field.cpp_type == kinds.CPPTYPE_INT32 else WHOLE)


def mutated(data, rng):
    """Bytes that were a message."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0:
                del out[place:]
            case 1:
                out[place:place] = rng.randbytes(rng.randrange(1, 5))
            case 2:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 3:
                out[place:place] = out[place // 2 : place]
    return bytes(out)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", EVERY)
def test_made_up_and_mutated_requests_end_in_typed_errors_that_leak_nothing(served, name, caller):
    rng = random.Random(f"{name} {caller}")
    method = EVERY[name]
    for turn in range(16):
        fill(served.hub)
        messages = [made_up(method.request, rng).SerializeToString() for _ in range(2)]
        if turn % 2:
            messages = [mutated(one, rng) for one in messages]
        code, told = raw(served, method, messages, caller)
        assert code not in MISTAKES, (code, told, messages)
        if caller != "root":
            require_hushed(told, messages)
    assert str(served.hub.path) not in told


def require_hushed(told, messages):
    """No name was told that was not in the request."""
    for name in ("hush-tag", "hush-alias", "hush-average", "hush-group", "hush-part", "hush-1"):
        assert name not in told or any(name.encode() in one for one in messages), told


def test_the_hub_is_sound_after_all_of_it(served):
    served.call("Checkpoint", pb.CheckpointRequest(), served.tokens["root"])
    assert served.hub.verify().findings == ()
    assert served.connect().get_space("hush-space").get("hush-1").tolist() == [3, 3]


def test_an_unreadable_request_is_the_callers_mistake(served):
    for name in ("Get", "Ingest", "CreateKey"):
        code, told = raw(served, METHODS[name], [b"\xff\xff\xff"], "root")
        assert code is Code.INVALID_ARGUMENT
        assert "is no ehub.v1." in told
    code, _ = raw(served, OLD_METHODS["old MultiSet"], [b"\xff"], "root")
    assert code is Code.INVALID_ARGUMENT


# --- bytes that are no HTTP/2, or end too soon ---


def sent(address, data):
    """What the server answers to these bytes, after which nothing comes."""
    host, port = address.rsplit(":", 1)
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while part := wire.recv(65_536):
                answer += part
        except OSError:
            pass
    return answer


def test_cut_and_garbled_frames_hold_no_thread_and_stop_nobody(tmp_path):
    with guarded(tmp_path / "hub", limits=Limits(calls=4, streams=2)) as served:
        served.hub.create_space("items", dims=2)
        request = pb.CountRequest(target=pb.Target(space="items")).SerializeToString()
        framed = b"\0" + len(request).to_bytes(4, "big") + request
        token, address = served.tokens["root"], served.server.address
        whole = conversation(token, framed)
        assert b"grpc-status" in sent(address, whole)
        rng = random.Random(5)
        for cut in sorted(rng.sample(range(len(whole)), 60)):
            sent(address, whole[:cut])
            garbled = bytearray(whole)
            garbled[cut] ^= 1 << rng.randrange(8)
            sent(address, bytes(garbled))
        for message in (
            b"\0" + (100).to_bytes(4, "big") + request,  # more was promised
            b"\0\xff\xff\xff\xff" + request,
            b"\1" + framed[1:],  # compressed, it says
            b"\7" + framed[1:],
            framed + framed,
            b"\0\0",
            rng.randbytes(200),
        ):
            for _ in range(4):
                sent(address, conversation(token, message))
        assert served.refusal("Count", pb.CountRequest.FromString(request), token) == (None, None)


# --- tokens that were made up ---


def test_no_made_up_token_is_believed_and_none_is_repeated(tmp_path):
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    settings = AuthSettings(jwt=JwtSettings("https://idp", "ehub", tmp_path / "key.pem"))
    served = Guarded(tmp_path / "hub", settings)
    try:
        served.access.grant("user:ann", Grant("reader", "hub"))
        claims = {"iss": "https://idp", "aud": "ehub", "sub": "ann", "exp": time.time() + 60}

        def signed(key=private, algorithm="RS256", header=None, **changes):
            return jwt.encode(claims | changes, key, algorithm, header)

        assert served.refusal("Info", pb.InfoRequest(), signed())[0] is None
        wrong = [
            *(
                forged({"alg": alg}, claims)
                for alg in ("none", "nOnE", "RS256", "", None, ["RS256"])
            ),
            forged({"alg": "HS256"}, claims, public),
            forged({"alg": "RS256"}, claims, public),
            signed(rsa.generate_private_key(public_exponent=65_537, key_size=2_048)),
            forged({"alg": "RS256", "kid": "../../dev/null"}, claims, b""),
            signed(aud="another"),
            signed(aud=["a", "b"]),
            signed(iss="https://evil"),
            signed(exp=time.time() - 60),
            signed(nbf=time.time() + 600),
            signed().rpartition(".")[0] + ".",
            *made_up_tokens(served.tokens["root"]),
        ]
        for token in wrong:
            code, error = served.refusal("Info", pb.InfoRequest(), token)
            assert code is Code.UNAUTHENTICATED, token
            assert isinstance(error, ehub.PermissionDeniedError)
            assert not token or token not in str(error)
            assert "root" not in str(error)
    finally:
        served.close()


def forged(header, claims, secret=None):
    """A token that nobody signed, or signed with a secret that everybody knows."""
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT"} | header, claims)]
    text = b".".join(map(base64url, parts))
    signature = b"" if secret is None else hmac.digest(secret, text, "sha256")
    return (text + b"." + base64url(signature)).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def made_up_tokens(good):
    """Some that look like `good`, and some that look like nothing."""
    rng = random.Random(7)
    printable = string.ascii_letters + string.digits + "._-+/= ~"  # what gRPC sends
    for _ in range(30):
        yield "".join(rng.choices(printable, k=rng.randrange(0, 200))).strip()
        place = rng.randrange(len(good))
        yield good[:place] + rng.choice(string.ascii_letters) * 2 + good[place + 1 :]
    yield good + "x"
    yield good.upper()
    yield "ehub_" + "0" * 8 + good[13:]


# --- names in errors ---


def test_a_partition_that_is_not_there_is_told_without_the_others(tmp_path):
    grants = [
        ("r", "reader on space:items/partition:u*"),
        ("w", "writer on space:items/partition:u*"),
    ]
    with guarded(tmp_path / "hub", grants) as served:
        items = served.hub.create_space("items", dims=2)
        items.multiset(["a"], [[1, 1]], partition="us")
        items.multiset(["b"], [[1, 1]], partition="hush-part")
        for caller in ("r", "w"):
            with served.connect(caller) as hub:
                part = hub.get_space("items").partition("uz")
                attempts = [lambda part=part: len(part)]
                if caller == "w":
                    attempts += [part.delete_all, lambda part=part: part.multidelete(["a"])]
                for attempt in attempts:
                    with pytest.raises(ehub.NotFoundError, match="no partition 'uz'") as failed:
                        attempt()
                    assert HUSH not in str(failed.value)


@pytest.mark.parametrize("kind", [ehub.CorruptionError, ehub.StorageError])
def test_where_the_hub_is_is_told_to_its_log_alone(tmp_path, monkeypatch, caplog, kind):
    with guarded(tmp_path / "hub") as served:
        remote = served.connect().create_space("items", dims=2)
        path = f"{served.hub.path}/segments/7.seg"

        def damaged(space):
            text = f"{path}: damaged at 4096"
            raise kind(text) if kind is ehub.CorruptionError else kind(5, text)

        monkeypatch.setattr(ehub.Space, "versions", damaged)
        with pytest.raises(kind, match=r"segments/7\.seg: damaged at 4096") as failed:
            remote.versions()
    assert str(tmp_path) not in str(failed.value)
    assert [path in getattr(record, "error", "") for record in caplog.records].count(True) == 1


def test_hidden_versions_cannot_be_deleted(tmp_path):
    with guarded(tmp_path / "hub", [("e", "editor on space:items")]) as served:
        items = served.hub.create_space("items", dims=2)
        items.set("a", [1, 1])
        items.create_average("m", {"g": ["a"]})
        hidden = [one.version for one in served.hub._store.versions("items")][1:]
        assert hidden
        for version in hidden:
            request = pb.DeleteVersionRequest(space="items", version=version)
            assert served.refusal("DeleteVersion", request, served.tokens["e"])[0] is Code.NOT_FOUND
        assert items.averages("m").get("g").tolist() == [1, 1]


# --- what else is said ---


@pytest.mark.parametrize(
    ("address", "warns"),
    [
        ("db.example.com:7462", True),
        ("10.0.0.1:7462", True),
        ("127.0.0.1.example.com:7462", True),
        ("[2001:db8::1]:7462", True),
        ("localhost:7462", False),
        ("127.0.0.1:7462", False),
        ("[::1]:7462", False),
        ("unix:/run/ehub.sock", False),
    ],
)
def test_a_token_is_not_sent_in_the_open_without_a_warning(address, warns):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        options_for(address, "secret", None, None, 0)
        options_for(address, None, None, None, 0)
        options_for(address, "secret", True, None, 0)
    assert len(told) == warns
    assert [one for one in told if "secret" in str(one.message)] == []


def test_json_of_a_model_that_is_none_is_the_callers_mistake(served):
    for text in ("{", "[" * 100_000, "5", '{"name": 5}'):
        request = pb.CreateSpaceRequest(space="m", schema=pb.Schema(dims=2, model_json=text))
        code, _ = served.refusal("CreateSpace", request, served.tokens["root"])
        assert code is Code.INVALID_ARGUMENT
