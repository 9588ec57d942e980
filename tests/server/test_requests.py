"""A write that is sent again applies once: over lost answers, restarts and a full memory."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from served import serving

import ehub
from ehub.client.slots import Slots
from ehub.client.transport import METHODS
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import pack_array, vectors_message

CLIENT = bytes(range(16))


@pytest.fixture
def path(tmp_path):
    with ehub.open(tmp_path) as hub:
        hub.create_space("items", dims=2, metric="l2")
    return tmp_path


def keys_of(*names):
    array = np.empty(len(names), np.object_)
    array[:] = names
    return pack_array(array)


def set_of(value, *names):
    rows = np.full((len(names), 2), value, np.float32)
    what = pb.Set(keys=keys_of(*names), vectors=vectors_message(rows))
    return pb.Part(target=pb.Target(space="items"), set=what)


def delete_of(*names):
    return pb.Part(target=pb.Target(space="items"), delete=keys_of(*names))


def send(server, part, number, slot=0, client=CLIENT):
    """One attempt of a write, as it is on the wire."""
    request = pb.RequestId(client=client, slot=slot, number=number)
    with grpc.insecure_channel(server.address) as channel:
        write = METHODS["Write"].call(channel)
        return write(pb.WriteRequest(request=request, parts=[part]))


def code_of(call, *args, **options):
    with pytest.raises(grpc.RpcError) as failed:
        call(*args, **options)
    return failed.value.code()


def test_a_write_that_is_sent_again_is_answered_and_not_applied(path):
    with serving(path) as server:
        assert send(server, set_of(1, "a", "b"), 1).rows == 2
        send(server, set_of(2, "a"), 1, client=bytes(16))
        again = send(server, set_of(1, "a", "b"), 1)
        assert (again.rows, again.repeated) == (2, True)
        assert server.hub.get_space("items").get("a").tolist() == [2, 2]


def test_a_restart_remembers_what_was_applied(path):
    with serving(path) as server:
        send(server, set_of(1, "a", "b", "c"), 1)
        assert send(server, delete_of("a", "b"), 2).rows == 2
        send(server, set_of(5, "a"), 1, slot=1)
    with serving(path) as server:
        again = send(server, delete_of("a", "b"), 2)
        assert (again.rows, again.repeated) == (2, True)
        assert server.hub.get_space("items").get("a").tolist() == [5, 5]
        assert not send(server, delete_of("a"), 3).repeated


def test_numbers_that_are_neither_the_last_nor_the_next_are_refused(path):
    with serving(path) as server:
        send(server, set_of(1, "a"), 1)
        send(server, set_of(2, "a"), 2)
        for number in (1, 4):
            assert code_of(send, server, set_of(9, "a"), number) is grpc.StatusCode.ABORTED
        assert server.hub.get_space("items").get("a").tolist() == [2, 2]


def test_a_refused_write_leaves_its_number_free(path):
    with serving(path) as server:
        refused = code_of(send, server, set_of(np.nan, "a"), 1)
        assert refused is grpc.StatusCode.INVALID_ARGUMENT
        assert not send(server, set_of(1, "a"), 1).repeated


def test_writes_that_are_refused_make_no_client_forgotten(path):
    with serving(path, limits=Limits(clients=2)) as server:
        known = [bytes([client] * 16) for client in (1, 2)]
        for client in known:
            send(server, set_of(1, "a"), 1, client=client)
        for stranger in range(10, 20):
            refused = code_of(send, server, set_of(np.nan, "a"), 1, client=bytes([stranger] * 16))
            assert refused is grpc.StatusCode.INVALID_ARGUMENT
        for client in known:
            assert send(server, set_of(1, "a", "b"), 1, client=client).repeated
            assert not send(server, set_of(2, "a"), 2, client=client).repeated
        for client in (3, 4, 5):
            send(server, set_of(client, "a"), 1, client=bytes([client] * 16))
        assert len(server.hub._store.notes("request/")) == 2


def test_a_write_of_no_rows_leaves_its_number_free_over_a_restart(path):
    with serving(path) as server:
        send(server, set_of(1, "a"), 1)
        empty = send(server, set_of(1), 2)
        assert (empty.rows, empty.HasField("request")) == (0, False)
    with serving(path) as server:
        assert not send(server, set_of(7, "a"), 2).repeated
        assert server.hub.get_space("items").get("a").tolist() == [7, 7]


def test_a_client_that_was_forgotten_is_refused_and_never_applied_twice(path):
    with serving(path, limits=Limits(clients=2)) as server:
        for client in (1, 2, 3):
            send(server, set_of(client, "a"), 1, client=bytes([client] * 16))
        first = bytes([1] * 16)
        assert code_of(send, server, set_of(9, "a"), 2, client=first) is grpc.StatusCode.ABORTED
        assert server.hub.get_space("items").get("a").tolist() == [3, 3]
        assert len(server.hub._store.notes("request/")) == 2


def test_a_request_that_is_none_is_refused(path):
    with serving(path) as server:
        for wrong in ({"client": b"short"}, {"slot": 64}, {"number": 0}):
            about = {"client": CLIENT, "slot": 0, "number": 1} | wrong
            number = about.pop("number")
            refused = code_of(send, server, set_of(1, "a"), number, **about)
            assert refused is grpc.StatusCode.INVALID_ARGUMENT
        assert len(server.hub.get_space("items")) == 0


def test_a_lost_answer_is_asked_for_again(path, monkeypatch):
    """The client's own retries: the server applies, and the answer is lost on the way."""
    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        transport, lost = hub.transport, []
        unary = transport._unary

        def lossy(name, request, **timing):
            answer = unary(name, request, **timing)
            if name == "Write" and not lost:
                lost.append(name)
                raise ehub.UnavailableError("the answer is lost")
            return answer

        monkeypatch.setattr(transport, "_unary", lossy)
        items.set("a", [1, 1])
        assert lost == ["Write"]
        before = server.hub.info().seq
        items.set("b", [1, 1])
        assert server.hub.info().seq == before + 1  # one batch each, none twice


def test_the_last_numbers_are_checkpointed_with_the_rows(path):
    with serving(path) as server:
        send(server, set_of(1, "a"), 1)
        server.hub.checkpoint()
    with serving(path) as server:
        assert send(server, set_of(9, "a"), 1).repeated
        assert ehub.Space(server.hub, "items").get("a").tolist() == [1, 1]


def test_slots_are_used_again_and_never_by_two_writes_at_once():
    slots = Slots()
    taken = [slots.take() for _ in range(100)]
    assert len({(one.client, one.slot) for one in taken}) == 100
    slots.settle(taken[-1], applied=True)
    later = slots.take()
    assert (later.slot, later.number) == (taken[-1].slot, 2)
    slots.settle(later, applied=False)
    assert slots.take() == later
