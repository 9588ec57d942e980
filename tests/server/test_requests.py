"""A write that is sent again applies once: over lost answers, restarts and a full memory."""

from __future__ import annotations

import itertools
import json

import grpc
import numpy as np
import pytest
from served import serving

import ehub
from ehub.client import batches
from ehub.client.slots import Slots
from ehub.client.transport import METHODS
from ehub.server.config import Limits
from ehub.server.requests import Requests
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


def part_of(keys, rows, partitions=(), of=(), space="items"):
    what = pb.Set(keys=keys_of(*keys), vectors=vectors_message(np.array(rows, np.float32)))
    what.partitions.extend(partitions)
    what.row_partitions = np.array(of, "<u4").tobytes()
    return pb.Part(target=pb.Target(space=space), set=what)


ROWS = [[1, 2], [3, 4], [5, 6]]
OTHERS = {
    "keys": part_of("abx", ROWS),
    "fewer": part_of("ab", ROWS[:2]),
    "cut elsewhere": part_of(["ab", "c", "d"], ROWS),
    "vectors": part_of("abc", [[9, 2], [3, 4], [5, 6]]),
    "a vector in the middle": part_of("abc", [[1, 2], [3, 9], [5, 6]]),
    "partition": part_of("abc", ROWS, ["us"]),
    "partitions": part_of("abc", ROWS, ["us", "eu"], [0, 1, 0]),
    "space": part_of("abc", ROWS, space="others"),
    "delete": delete_of("a", "b", "c"),
    "all": pb.Part(target=pb.Target(space="items"), delete_all=True),
}


@pytest.mark.parametrize(
    "first", [part_of("abc", ROWS), delete_of("old", "older")], ids=["set", "delete"]
)
@pytest.mark.parametrize("other", OTHERS)
def test_another_write_under_a_number_that_was_used_is_refused(path, first, other):
    with serving(path) as server:
        server.hub.create_space("others", dims=2, metric="l2")
        items = server.hub.get_space("items")
        items.multiset(["old", "older"], np.zeros((2, 2)))
        rows = send(server, first, 1).rows
        before = sorted(items)
        assert code_of(send, server, OTHERS[other], 1) is grpc.StatusCode.ABORTED
        assert (sorted(items), server.hub.get_space("others").keys().tolist()) == (before, [])
        again = send(server, first, 1)
        assert (again.rows, again.repeated) == (rows, True)
        assert not send(server, part_of("xyz", ROWS), 2).repeated
        with pytest.raises(grpc.RpcError, match="asked for something else; this one was not"):
            send(server, first, 2)
    with serving(path) as server:  # no file may have what tells them apart
        assert send(server, first, 2).repeated
        [said] = server.hub._store.notes("request/").values()
        assert len(json.loads(said)) == 3


def test_a_batch_that_is_cut_into_other_messages_is_the_same(path):
    request = pb.RequestId(client=CLIENT, slot=0, number=1)
    vectors = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)

    def messages(*cuts):
        for begin, end in itertools.pairwise((0, *cuts, 6)):
            part = part_of("abcdef"[begin:end], vectors[begin:end], ["us", "eu"], [0, 1] * 3)
            part.set.row_partitions = np.array([0, 1] * 3, "<u4")[begin:end].tobytes()
            yield pb.WriteRequest(request=request, parts=[part], more=end < 6)

    with serving(path) as server, grpc.insecure_channel(server.address) as channel:
        ingest = METHODS["Ingest"].call(channel)
        for number, cuts in enumerate([(), (2,), (1, 5)]):
            [answer] = ingest(messages(*cuts))
            assert (answer.rows, answer.repeated) == (6, number > 0)
        [whole] = messages()
        assert METHODS["Write"].call(channel)(whole).repeated


def test_a_batch_of_no_parts_is_refused_however_many_messages_it_has(path):
    with serving(path) as server, grpc.insecure_channel(server.address) as channel:
        for more in ([False], [True, False]):
            request = pb.RequestId(client=CLIENT, slot=0, number=1)
            messages = [pb.WriteRequest(request=request, more=one) for one in more]
            refused = code_of(list, METHODS["Ingest"].call(channel)(iter(messages)))
            assert refused is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_whose_array_changed_before_it_was_sent_again_is_told_and_goes_on(
    path, monkeypatch
):
    once, vectors = Requests.once, np.ones((100, 2), np.float32)

    def losing(self, asked, *told):
        once(self, asked, *told)
        monkeypatch.setattr(Requests, "once", once)
        vectors[:] = 7
        raise ehub.UnavailableError("the answer is lost")

    monkeypatch.setattr(batches, "CHUNK_BYTES", 200)
    monkeypatch.setattr(Requests, "once", losing)
    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        with pytest.raises(ehub.ConflictError, match="asked for something else"):
            items.multiset([f"k{i}" for i in range(100)], vectors)
        for value in (2, 3):
            items.set("k5", [value, value])
            assert items.get("k5").tolist() == [value, value]
        assert items.get("k6").tolist() == [1, 1]


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
            assert send(server, set_of(1, "a"), 1, client=client).repeated
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
