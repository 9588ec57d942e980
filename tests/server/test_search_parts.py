"""Batches of searches beyond a server's limits: clients cut them, and nobody sees that they did."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from served import CLIENTS, client_of, serving

import ehub
from ehub.client import search_parts
from ehub.client.remote_rows import RemoteRows
from ehub.server.config import Limits
from ehub.server.times import Times

DIMS = 8
ROWS = 200
KEYS = [f"k{i:0>{1 + i % 9}}" for i in range(ROWS)]
LIMITS = Limits(rows=100)


def vectors_of(seed, rows, dims=DIMS):
    return np.random.default_rng(seed).standard_normal((rows, dims), np.float32)


def shown(answers):
    return [(one.keys.tolist(), one.distances.tolist()) for one in answers]


@contextmanager
def both(path, kind, limits=LIMITS):
    """A space as a client sees it and as the server does, and how many searches were calls."""
    with serving(path, limits=limits) as server, client_of(server, kind) as hub:
        items = server.hub.create_space("items", dims=DIMS, metric="l2")
        labels = ["even" if i % 2 == 0 else "odd" for i in range(ROWS)]
        items.multiset(KEYS, vectors_of(1, ROWS), partition=labels)
        yield hub.get_space("items"), items


@pytest.fixture
def asked(monkeypatch):
    """The searches that were calls."""
    made, searched = [], RemoteRows._searched

    def noted(rows, request):
        made.append(rows.target)
        return searched(rows, request)

    monkeypatch.setattr(RemoteRows, "_searched", noted)
    return made


@pytest.mark.parametrize("kind", CLIENTS)
def test_answers_of_many_neighbors_are_those_of_one_call(tmp_path, kind, asked):
    queries = vectors_of(2, 35)
    options = {"partition": "odd"}, {"filter": KEYS[:50]}, {"max_distance": 9.0}, {}
    with both(tmp_path, kind) as (remote, own):
        for more in options:
            wanted = shown(own.multi_nearest_neighbors(10, vectors=queries, exact=True, **more))
            found = remote.multi_nearest_neighbors(10, vectors=queries, exact=True, **more)
            assert shown(found) == wanted
        assert len(asked) == 4 * 4
        wanted = shown(own.multi_nearest_neighbors(7, keys=KEYS, exact=True))
        assert shown(remote.multi_nearest_neighbors(7, keys=KEYS, exact=True)) == wanted
        # As many as there are rows, which is fewer than k.
        wanted = shown(own.multi_nearest_neighbors(1_000, vectors=queries[:3], exact=True))
        assert (
            shown(remote.multi_nearest_neighbors(1_000, vectors=queries[:1], exact=True))
            == (wanted[:1])
        )
        assert own._table.store.write_stats()["snapshots"] == 0, "one was not let go"


@pytest.mark.parametrize("kind", CLIENTS)
def test_tags_and_averages_are_cut_alike(tmp_path, kind):
    queries = vectors_of(3, 30)
    with both(tmp_path, kind) as (remote, own):
        own.tag("then")
        groups = {f"g{i}": KEYS[i : i + 9] for i in range(50)}
        own.create_average("profile", groups=groups)
        own.multidelete(KEYS[::3])
        pairs = (
            (remote.at("then"), own.at("then")),
            (
                remote.averages("profile"),
                own.averages("profile"),
            ),
        )
        for far, near in pairs:
            wanted = shown(near.multi_nearest_neighbors(9, vectors=queries, exact=True))
            assert shown(far.multi_nearest_neighbors(9, vectors=queries, exact=True)) == wanted


def test_all_parts_are_of_one_time(tmp_path, monkeypatch):
    queries = vectors_of(4, 60)
    with both(tmp_path, "grpc") as (remote, own):
        wanted = shown(own.multi_nearest_neighbors(10, vectors=queries, exact=True))
        searched = RemoteRows._searched

        def writing(rows, request):
            own.multidelete(list(own.keys()[:20]))
            return searched(rows, request)

        monkeypatch.setattr(RemoteRows, "_searched", writing)
        found = remote.multi_nearest_neighbors(10, vectors=queries, exact=True)
        assert len(own) < ROWS - 20
        assert shown(found) == wanted


@pytest.mark.parametrize("kind", CLIENTS)
def test_more_queries_than_fit_in_a_message_are_cut(tmp_path, kind, asked):
    queries = vectors_of(5, 40_000)
    with both(tmp_path, kind, Limits(message_bytes=1 << 20)) as (remote, own):
        wanted = shown(own.multi_nearest_neighbors(1, vectors=queries))
        assert shown(remote.multi_nearest_neighbors(1, vectors=queries)) == wanted
        assert len(asked) == 2
        many = [KEYS[i % ROWS] for i in range(200_000)]
        found = remote.multi_nearest_neighbors(1, keys=many)
        assert shown(found[:ROWS]) == shown(own.multi_nearest_neighbors(1, keys=KEYS))
        assert shown(found[-ROWS:]) == shown(found[:ROWS])
        assert len(asked) > 3


@pytest.mark.parametrize("kind", CLIENTS)
def test_answers_of_keys_that_are_too_long_for_a_message_are_cut(tmp_path, kind):
    keys = [f"{i:0>1000}" for i in range(ROWS)]
    with both(tmp_path, kind, Limits(message_bytes=1 << 20)) as (remote, own):
        own.delete_all()
        own.multiset(keys, vectors_of(1, ROWS))
        queries = vectors_of(7, 50)
        wanted = shown(own.multi_nearest_neighbors(60, vectors=queries, exact=True))
        assert shown(remote.multi_nearest_neighbors(60, vectors=queries, exact=True)) == wanted


def test_a_key_that_is_missing_is_named_by_its_place_among_all(tmp_path):
    with both(tmp_path, "grpc") as (remote, own):
        keys = [*KEYS[:93], "none", *KEYS[93:]]
        with pytest.raises(ehub.NotFoundError) as near:
            own.multi_nearest_neighbors(10, keys=keys)
        with pytest.raises(ehub.NotFoundError) as far:
            remote.multi_nearest_neighbors(10, keys=keys)
        assert str(far.value) == str(near.value)
        assert "(key 93 of 201)" in str(far.value)
        assert own._table.store.write_stats()["snapshots"] == 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_batches_of_a_sub_index_are_cut_too_and_hold_nothing(tmp_path, kind, asked):
    queries = vectors_of(6, 35)
    with both(tmp_path, kind, replace(LIMITS, snapshots=1)) as (remote, own):
        some = own.create_subindex("some", keys=KEYS[:150])
        far = remote.subindex("some")
        wanted = shown(some.multi_nearest_neighbors(10, vectors=queries, exact=True))
        assert shown(far.multi_nearest_neighbors(10, vectors=queries, exact=True)) == wanted
        wanted = shown(some.multi_nearest_neighbors(7, keys=KEYS[:150], exact=True))
        assert shown(far.multi_nearest_neighbors(7, keys=KEYS[:150], exact=True)) == wanted
        assert len(asked) > 6
        assert {one.WhichOneof("time") for one in asked} == {None}


def test_each_answer_of_a_sub_index_is_of_one_time_and_later_ones_may_be_of_a_later(
    tmp_path, monkeypatch
):
    with both(tmp_path, "grpc") as (remote, own):
        own.create_subindex("some", keys=KEYS[:150])
        searched, times = RemoteRows._searched, []

        def writing(rows, request):
            here = own.subindex("some").multi_nearest_neighbors(10, vectors=queries, exact=True)
            times.append(shown(here))
            answer = searched(rows, request)
            own.multidelete([one.key for one in here[-1]])
            return answer

        queries = vectors_of(4, 40)
        monkeypatch.setattr(RemoteRows, "_searched", writing)
        far = remote.subindex("some")
        found = shown(far.multi_nearest_neighbors(10, vectors=queries, exact=True))
        assert found == [times[i // 10][i] for i in range(40)]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_batch_around_fewer_rows_than_it_asks_for_is_one_call_that_holds_nothing(
    tmp_path, kind, asked
):
    with both(tmp_path, kind, replace(LIMITS, snapshots=1)) as (remote, own):
        own.multidelete(KEYS[20:])
        queries = vectors_of(2, 5)
        wanted = shown(own.multi_nearest_neighbors(1_000, vectors=queries, exact=True))
        found = remote.multi_nearest_neighbors(1_000, vectors=queries, exact=True)
        assert shown(found) == wanted
        assert [one.WhichOneof("time") for one in asked] == [None]


def test_a_batch_is_cut_although_rows_come_between_their_count_and_the_call(tmp_path, monkeypatch):
    count = RemoteRows.row_count

    def early(rows):
        return count(rows) if rows.target.WhichOneof("time") else 1

    monkeypatch.setattr(RemoteRows, "row_count", early)
    with both(tmp_path, "grpc") as (remote, own):
        queries = vectors_of(2, 35)
        wanted = shown(own.multi_nearest_neighbors(10, vectors=queries, exact=True))
        found = remote.multi_nearest_neighbors(10, vectors=queries, exact=True)
        assert shown(found) == wanted


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_snapshot_of_a_server_that_is_gone_is_let_go_by_one_try(tmp_path, kind, monkeypatch):
    tries = []

    def failing(service, request, context):
        tries.append(request)
        raise ehub.UnavailableError("gone")

    monkeypatch.setattr(Times, "CloseSnapshot", failing)
    with both(tmp_path, kind) as (remote, _):
        assert len(remote.multi_nearest_neighbors(10, vectors=vectors_of(2, 35))) == 35
        assert len(tries) == 1


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_batch_that_is_cut_is_asked_for_again_while_the_server_is_not_there(
    tmp_path, kind, monkeypatch
):
    taken, tries = Times.TakeSnapshot, []

    def failing(service, request, context):
        tries.append(request)
        if len(tries) == 1:
            raise ehub.UnavailableError("not yet")
        return taken(service, request, context)

    monkeypatch.setattr(Times, "TakeSnapshot", failing)
    with both(tmp_path, kind) as (remote, own):
        queries = vectors_of(2, 35)
        wanted = shown(own.multi_nearest_neighbors(10, vectors=queries, exact=True))
        found = remote.multi_nearest_neighbors(10, vectors=queries, exact=True)
        assert shown(found) == wanted
        assert len(tries) == 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_batch_of_a_space_that_is_gone_says_so(tmp_path, kind):
    queries = vectors_of(2, 35)
    with both(tmp_path, kind, replace(LIMITS, message_bytes=1 << 17)) as (remote, own):
        many = np.tile(queries, (200, 1))
        own.hub.delete_space("items")
        for batch in (queries, many):
            with pytest.raises(ehub.NotFoundError, match="items"):
                remote.multi_nearest_neighbors(10, vectors=batch)


def restarting(path, stack, monkeypatch, times):
    """A client of a server that is started again, with fewer rows, before each of `times` parts."""
    first = stack.enter_context(serving(path, limits=LIMITS))
    first.hub.create_space("items", dims=DIMS, metric="l2").multiset(KEYS, vectors_of(1, ROWS))
    servers, searched = [first], RemoteRows._searched

    def again(rows, request):
        if len(servers) <= times and rows.target.WhichOneof("time"):
            servers[-1].stop(0)
            servers[-1].hub.close()
            servers.append(stack.enter_context(serving(path, limits=LIMITS, port=first.port)))
            items = servers[-1].hub.get_space("items")
            items.multidelete(list(items.keys()[:20]))
        return searched(rows, request)

    monkeypatch.setattr(RemoteRows, "_searched", again)
    remote = stack.enter_context(ehub.connect(first.address, retry_seconds=60))
    return remote.get_space("items"), servers


def test_a_batch_is_answered_anew_as_a_whole_when_the_server_was_started_again(
    tmp_path, monkeypatch
):
    queries = vectors_of(2, 35)
    with ExitStack() as stack:
        remote, servers = restarting(tmp_path, stack, monkeypatch, 2)
        found = remote.multi_nearest_neighbors(10, vectors=queries, exact=True)
        own = servers[-1].hub.get_space("items")
        assert len(servers) == 3
        assert shown(found) == shown(own.multi_nearest_neighbors(10, vectors=queries, exact=True))
        assert own._table.store.write_stats()["snapshots"] == 0


def test_a_server_that_is_always_started_again_is_said_to_be(tmp_path, monkeypatch):
    with ExitStack() as stack:
        remote, servers = restarting(tmp_path, stack, monkeypatch, search_parts.SNAPSHOTS_MAX)
        with pytest.raises(ehub.UnavailableError, match=r"started again each time.*ask again"):
            remote.multi_nearest_neighbors(10, vectors=vectors_of(2, 35))
        assert len(servers) == search_parts.SNAPSHOTS_MAX + 1


def test_a_snapshot_of_the_user_that_is_gone_is_not_replaced(tmp_path):
    limits = Limits(message_bytes=1 << 20, snapshot_idle_seconds=0.2)
    with both(tmp_path, "grpc", limits) as (remote, own):
        held = remote.snapshot()
        while own._table.store.write_stats()["snapshots"]:
            time.sleep(0.05)
        with pytest.raises(ehub.NotFoundError, match="the snapshot was closed"):
            held.multi_nearest_neighbors(1, vectors=vectors_of(5, 40_000))
