"""Every exception that a server answers with is raised again by the client, whatever it says."""

from __future__ import annotations

import errno

import grpc
import pytest
from served import serving

import ehub
from ehub import errors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import DETAIL, code_of, detail_of, exception_of

Code = grpc.StatusCode
ANSWERS = [name for name in errors.__all__ if name != "EhubError"]


@pytest.mark.parametrize("name", [*ANSWERS, "TypeError", "MemoryError"])
def test_an_exception_is_the_same_again(name):
    kind = getattr(errors, name, None) or {"TypeError": TypeError, "MemoryError": MemoryError}[name]
    code = code_of(kind("what happened"))
    assert code is not None
    packed = detail_of(kind("what happened")).SerializeToString()
    again = exception_of(code, "what happened", [("other", "x"), (DETAIL, packed)])
    assert (type(again), str(again)) == (kind, "what happened")


def test_an_error_of_the_system_keeps_its_number_and_tells_no_path():
    error = ehub.StorageError(errno.ENOSPC, "No space left on device", "/srv/hub/secret")
    detail = detail_of(error)
    again = exception_of(Code.INTERNAL, None, [(DETAIL, detail.SerializeToString())])
    assert (type(again), again.errno) == (ehub.StorageError, errno.ENOSPC)
    assert "/srv" not in detail.message


@pytest.mark.parametrize("text", ["x", "語", "\N{GRINNING FACE}", "\ud800", "\n", "%"])
def test_an_error_of_any_length_and_any_character_reaches_the_client(tmp_path, monkeypatch, text):
    def refuse(space):
        raise ehub.ConflictError(text * 10_000)

    with serving(tmp_path / "hub") as server, ehub.connect(server.address) as hub:
        space = hub.create_space("items", dims=2)
        monkeypatch.setattr(ehub.Space, "versions", refuse)
        with pytest.raises(ehub.ConflictError) as failed:
            space.versions()
        assert len(str(failed.value)) > 200


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (Code.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", ValueError),
        (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", ConnectionError),
        (Code.CANCELLED, "CANCELLED", ConnectionError),
        (Code.UNAUTHENTICATED, None, PermissionError),
        (Code.DEADLINE_EXCEEDED, None, TimeoutError),
        (Code.UNKNOWN, "from a proxy", ehub.EhubError),
    ],
)
def test_what_comes_without_details_is_told_by_its_code(code, details, kind):
    for trailing in (None, [], [(DETAIL, b"\xff\xff")]):
        error = exception_of(code, details, trailing)
        assert isinstance(error, kind)
        assert isinstance(error, ehub.EhubError)
        assert str(error) == (details or code.name)


def test_details_that_lie_are_an_error_like_any():
    detail = pb.ErrorDetail(kind="StorageError", message="m", metadata={"errno": "x"})
    error = exception_of(Code.INTERNAL, "m", [(DETAIL, detail.SerializeToString())])
    assert (type(error), str(error)) == (ehub.StorageError, "m")
    odd = pb.ErrorDetail(kind="SystemExit", message="m").SerializeToString()
    assert type(exception_of(Code.NOT_FOUND, "m", [(DETAIL, odd)])) is ehub.NotFoundError
