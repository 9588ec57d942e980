"""Searches of many callers, which are gathered: each gets its own answer, or its own error."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import serving

import ehub
import ehub.aio
from ehub.client.bridge import await_only
from ehub.server import reading
from ehub.wire import ehub_pb2 as pb
from ehub.wire.searches import Searches


def filled(hub, rows=500, dims=8):
    items = hub.create_space("items", dims=dims, metric="l2")
    vectors = np.random.default_rng(1).standard_normal((rows, dims), np.float32)
    items.multiset([f"k{i}" for i in range(rows)], vectors)
    return items, vectors


def test_a_gathered_search_ends_when_the_last_who_asked_has_left():
    leaves, searching, go_on = [], threading.Event(), threading.Event()

    class Rows:
        def nearest_one(self, query, k, distance_max, ef, exact, stop):
            searching.set()
            assert go_on.wait(10)
            return self.nearest(query[np.newaxis], k, distance_max, None, ef, exact, stop)[:2]

        def nearest(self, queries, k, distance_max, filter, ef, exact, stop):
            for leave in leaves[1:] if len(queries) == 3 else []:
                assert not stop.is_set()
                leave()
            if stop.is_set():
                raise ehub.DeadlineError("stopped")
            return np.zeros(len(queries)), queries[:, 0], list(range(len(queries) + 1))

    searches, rows = Searches(threading.Event), Rows()

    def ask(_):
        query = np.zeros(1, np.float32)
        return searches.nearest("all", lambda: rows, query, (1, 1.0, 0, False), leaves.append)

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(ask, 0)
        assert searching.wait(10)
        others = [threads.submit(ask, i) for i in (1, 2, 3)]
        while len(searches._waiting.get("all", ())) < 3:
            time.sleep(0.001)
        go_on.set()
        for other in others:
            with pytest.raises(ehub.DeadlineError):
                other.result(10)
        assert len(first.result(10)) == 1


def test_concurrent_searches_answer_each_its_own(tmp_path):
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        items, vectors = filled(hub)
        wrong = []

        def search(first):
            for row in range(first, 500, 16):
                found = items.nearest_neighbors(1, vector=vectors[row])
                if found.keys.tolist() != [f"k{row}"]:
                    wrong.append(row)

        threads = [threading.Thread(target=search, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_so_many_searches_run_at_once_and_none_of_them_waits():
    both = threading.Barrier(2, timeout=10)

    class Rows:
        def nearest_one(self, *asked):
            both.wait()
            return np.zeros(1), np.zeros(1)

    searches = Searches(at_once=2)
    ask = (lambda: Rows(), np.zeros(1, np.float32), (1, 1.0, 0, False))
    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            found = [threads.submit(searches.nearest, "all", *ask) for _ in range(2)]
            assert [len(one.result(20)) for one in found] == [1, 1]
    assert not searches._searching
    assert not searches._waiting


def test_a_search_that_fails_lets_the_next_one_lead():
    searches, started = Searches(), threading.Event()

    class Rows:
        def nearest_one(self, query, *options):
            if query[0] == 0:
                started.set()
                while not searches._waiting:
                    time.sleep(0.001)
                raise ehub.InvalidVectorError("bad")
            return np.zeros(1), np.zeros(1)

    def ask(number):
        options = (1, 1.0, 0, False)
        return searches.nearest("all", lambda: Rows(), np.full(1, number, np.float32), options)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask, 0)
        assert started.wait(10)
        assert len(threads.submit(ask, 1).result(10)) == 1
        with pytest.raises(ehub.InvalidVectorError):
            first.result(10)
    assert not searches._searching


def test_waiting_searches_are_gathered_and_a_bad_one_spoils_no_other(tmp_path):
    with ehub.open(tmp_path) as hub:
        items, vectors = filled(hub)
        searches, sizes, started = Searches(), [], threading.Event()
        answers = {}

        def rows():
            sizes.append(len(sizes))
            if len(sizes) == 1:
                started.set()
                while len(searches._waiting.get("all", ())) < 8:
                    time.sleep(0.001)
            return items._now()

        def ask(i):
            query = vectors[i] if i != 5 else np.full(8, np.nan, np.float32)
            try:
                answers[i] = searches.nearest("all", rows, query, (1, np.inf, 0, False))
            except ehub.InvalidVectorError as error:
                answers[i] = error

        first = threading.Thread(target=ask, args=(0,))
        first.start()
        assert started.wait(10)
        others = [threading.Thread(target=ask, args=(i,)) for i in range(1, 9)]
        for thread in [*others]:
            thread.start()
        for thread in [first, *others]:
            thread.join()
        assert isinstance(answers.pop(5), ehub.InvalidVectorError)
        assert {i: one.keys.tolist() for i, one in answers.items()} == {
            i: [f"k{i}"] for i in range(9) if i != 5
        }
        assert searches._waiting == {}


class Interrupted(BaseException):
    """What a signal raises."""


class Held:
    """Rows whose first search waits until others do; `failing` is what later ones raise, once."""

    def __init__(self, searches, waiting, *failing):
        self.searches, self.waiting, self.failing = searches, waiting, list(failing)
        self.started, self.sizes = threading.Event(), []

    def nearest_one(self, query, *options):
        return self.nearest(query[np.newaxis], *options)[:2]

    def nearest(self, queries, *options):
        self.sizes.append(len(queries))
        if not self.started.is_set():
            self.started.set()
            while len(self.searches._waiting.get("all", ())) < self.waiting:
                time.sleep(0.001)
        elif self.failing:
            raise self.failing.pop(0)
        return np.zeros(len(queries)), queries[:, 0], list(range(len(queries) + 1))

    def ask(self):
        options = (1, 1.0, 0, False)
        return self.searches.nearest("all", lambda: self, np.zeros(1, np.float32), options)


def ends_of(rows, waiting):
    """How searches end: the first, which is alone, and those that wait for it."""
    with ThreadPoolExecutor(waiting + 1) as threads:
        first = threads.submit(rows.ask)
        assert rows.started.wait(10)
        others = [threads.submit(rows.ask) for _ in range(waiting)]
        ends = [one.exception(10) for one in (first, *others)]
    assert not rows.searches._searching
    assert not rows.searches._waiting
    return ends


@pytest.mark.parametrize("error", [ehub.UnavailableError("gone"), ehub.DeadlineError("late")])
def test_a_server_that_is_gone_is_asked_once_for_all_who_wait(error):
    error.__notes__ = ["a note"]
    rows = Held(Searches(), 3, error)
    first, *ends = ends_of(rows, 3)
    assert first is None
    assert [repr(one) for one in ends] == [repr(error)] * 3
    assert rows.sizes == [1, 3]
    # And whoever raises one, or notes something on it, changes nobody else's.
    assert len({id(one) for one in ends}) == len({id(one.__notes__) for one in ends}) == 3
    assert len({frames(one) for one in ends}) <= 2  # of the one that searched, and of the others


def frames(error):
    """How many frames an error was raised through."""
    return len(list(traceback.walk_tb(error.__traceback__)))


@pytest.mark.parametrize("failing", [(), (ehub.InvalidVectorError("bad"),)])
def test_a_signal_is_the_leaders_alone_and_the_others_begin_again(failing):
    signal = Interrupted()
    rows = Held(Searches(), 3, *failing, signal)
    ends = ends_of(rows, 3)
    assert ends.count(signal) == 1
    assert ends.count(None) == 3


def test_a_search_that_is_interrupted_while_it_waits_holds_up_no_other(monkeypatch):
    rows = Held(Searches(), 1)
    main = threading.get_ident()
    wait = threading.Event.wait

    def interrupted(event, *timeout):
        if threading.get_ident() == main:
            rows.waiting = 0
            raise Interrupted
        return wait(event, *timeout)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(rows.ask)
        assert rows.started.wait(10)
        monkeypatch.setattr(threading.Event, "wait", interrupted)
        with pytest.raises(Interrupted):
            rows.ask()
        monkeypatch.undo()
        assert len(first.result(10)) == 1
        assert not rows.searches._searching
        assert not rows.searches._waiting
        assert len(threads.submit(rows.ask).result(10)) == 1


def test_a_server_searches_on_the_cores_that_it_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7})
    assert reading.gathered_searches()._at_once == 3


def test_the_search_of_a_caller_who_has_left_already_is_ended(monkeypatch):
    class Left:
        def add_callback(self, callback):
            return False

    stop = threading.Event()
    monkeypatch.setattr(reading._store, "Stop", lambda: stop)
    assert reading.stop_of(Left()) is stop
    assert stop.is_set()


# --- asyncio ---


def counted(items, hold=None):
    """The sizes of the batches that the client of asyncio asks for; each waits for `hold`."""
    sizes, link = [], items._waits._now()._link
    call = link.read

    def read(name, request):
        if name == "Search":
            parsed = request
            if isinstance(request, bytes):
                parsed = pb.SearchRequest.FromString(request)
            sizes.append(len(parsed.vectors.values) // 4 // parsed.vectors.dims)
            if hold is not None:
                await_only(hold(len(sizes)))
        return call(name, request)

    link.read = read
    return sizes


def on_loop(path, ask):
    """What `ask(items, vectors)` returns, run in a client of asyncio."""

    async def run(address):
        async with await ehub.aio.connect(address) as hub:
            return await ask(await hub.get_space("items"), vectors)

    with serving(path) as server:
        with ehub.connect(server.address) as hub:
            _, vectors = filled(hub)
        return asyncio.run(run(server.address))


def test_tasks_that_search_at_once_share_calls_and_get_each_its_own(tmp_path):
    async def ask(items, vectors):
        sizes = counted(items)
        found = await asyncio.gather(
            *(items.nearest_neighbors(1, vector=vectors[row]) for row in range(16))
        )
        assert [one.keys.tolist() for one in found] == [[f"k{row}"] for row in range(16)]
        return sizes

    assert on_loop(tmp_path, ask) == [1, 15]


def test_tasks_whose_shared_call_fails_get_each_an_error_of_its_own(tmp_path):
    async def ask(items, vectors):
        async def fail(call):
            if call >= 2:
                raise ehub.UnavailableError("gone")

        counted(items, fail)
        found = await asyncio.gather(
            *(items.nearest_neighbors(1, vector=vectors[row]) for row in range(16)),
            return_exceptions=True,
        )
        errors = found[1:]
        assert {repr(one) for one in errors} == {"UnavailableError('gone')"}
        assert len({id(one) for one in errors}) == 15
        assert max(map(frames, errors)) < 2 * min(map(frames, errors))

    on_loop(tmp_path, ask)


@pytest.mark.parametrize("cancelled", [0, 1, 2, 15])
def test_a_task_that_is_cancelled_takes_no_other_search_with_it(tmp_path, cancelled):
    """The one that searches alone, the one that searches for others, and two of those."""

    async def ask(items, vectors):
        async def hold(call):
            if call <= 2:
                await asyncio.sleep(0.05)

        counted(items, hold)
        tasks = [
            asyncio.create_task(items.nearest_neighbors(1, vector=vectors[row]))
            for row in range(16)
        ]
        await asyncio.sleep(0.02 if cancelled == 0 else 0.07)
        tasks[cancelled].cancel()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert isinstance(found.pop(cancelled), asyncio.CancelledError)
        rows = [row for row in range(16) if row != cancelled]
        assert [one.keys.tolist() for one in found] == [[f"k{row}"] for row in rows]
        searches = items._waits._now()._link.searches
        assert not searches._searching
        assert not searches._waiting

    on_loop(tmp_path, ask)
