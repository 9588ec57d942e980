"""A hub behind a server against the same hub in this process; clients and server share the cores.

    EHUB_BENCH_WORDNET=FILE python -m benchmarks.server

Beside the searches stand two echoes in the same process layout, which do nothing but send the
beginning of a request back: what a call of grpcio takes at least on this machine, and what a
message of a stream does that is driven as ours are, on sockets polled as `ehub serve` does. All of
it is measured once more while idle loops keep the cores awake: a virtual core that sleeps has to be
woken by its host, and a served search sleeps and wakes three times.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import h5py
import numpy as np
import psutil

import ehub
import ehub.aio
from benchmarks.ann_data import wordnet_file
from benchmarks.harness import SEED, scratch
from ehub.cli.serving import POLLING
from ehub.client.sync_line import Clock, SyncLine
from ehub.server.server_line import line_of
from ehub.wire.methods import CALLS

K = 10
CLIENTS = 16
BATCH = 256
QUERY_BYTES = 1536
ANSWER_BYTES = 150


def data() -> tuple[np.ndarray, np.ndarray]:
    """Rows and queries: the real set if the environment names it, else random ones."""
    file = wordnet_file()
    if file is not None:
        with h5py.File(file) as opened:
            return opened["train"][:], opened["test"][:]
    made = np.random.default_rng(SEED).standard_normal((20_000, 384), np.float32)
    return made, made[:2_000]


def filled(path: str, rows: np.ndarray) -> None:
    """A hub with all rows, indexed."""
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=rows.shape[1], metric="cosine", key_type="int")
        items.multiset(np.arange(len(rows)), rows)
        items.optimize()


def serving(path: str) -> tuple[subprocess.Popen[str], str]:
    """A server process, and its address."""
    command = [sys.executable, "-m", "ehub.server", path, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        said = json.loads(line)
        if said["event"] == "listening":
            return process, said["address"]
    raise RuntimeError("the server does not start")


def stopped(process: subprocess.Popen[str]) -> None:
    """End a server."""
    process.send_signal(signal.SIGTERM)
    process.communicate()


def latencies(search, queries: np.ndarray, count: int = 2_000) -> list[float]:
    """Of single searches one after the other, in microseconds."""
    for query in queries[:200]:
        search(query)
    taken = []
    for row in range(count):
        query = queries[row % len(queries)]
        began = time.perf_counter()
        search(query)
        taken.append((time.perf_counter() - began) * 1e6)
    return taken


def beginning(request: bytes, context: Any) -> bytes:
    """What a call of the echo answers: about as much as a search does."""
    return request[:ANSWER_BYTES]


def beginnings(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    """The same for the messages of a stream, taken and answered as the server's own are."""
    line, answer = line_of(context, lambda: None), None
    while (data := line.exchange(answer, lambda: None)) is not None:
        answer = beginning(data, context)
    yield from ()


def echo_server(ready) -> None:
    """Sends back, on as many threads as the server has."""
    server = grpc.server(ThreadPoolExecutor(64))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(beginning),
        "Calls": grpc.stream_stream_rpc_method_handler(beginnings),
    }
    service = CALLS.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    ready.put((server.add_insecure_port("127.0.0.1:0"), f"/{service}/Echo"))
    server.start()
    server.wait_for_termination()


@contextmanager
def echoing(experiments: str | None = None) -> Iterator[tuple[str, str]]:
    """The address of an echo in a process of its own, and the call that it answers alone."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=echo_server, args=(ready,), daemon=True)
    with experimental(experiments):
        process.start()
    port, path = ready.get()
    yield f"127.0.0.1:{port}", path
    process.kill()


def at_once(connect, queries: np.ndarray, per_client: int) -> float:
    """Searches a second of threads that search at once, each one after the other."""
    barrier = threading.Barrier(CLIENTS + 1)

    def run(client: int) -> None:
        items = connect()
        barrier.wait()
        for row in range(per_client):
            items.nearest_neighbors(K, vector=queries[(client * per_client + row) % len(queries)])

    threads = [threading.Thread(target=run, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return CLIENTS * per_client / (time.perf_counter() - began)


def one_of_many(address: str, queries: np.ndarray, count: int, start, taken) -> None:
    """A client in a process of its own: one search after the other."""
    with ehub.connect(address) as hub:
        items = hub.get_space("items")
        items.nearest_neighbors(K, vector=queries[0])
        start.wait()
        for row in range(count):
            items.nearest_neighbors(K, vector=queries[row % len(queries)])
        taken.put(count)


def processes(
    server: psutil.Process, address: str, queries: np.ndarray, count: int
) -> tuple[float, float]:
    """Searches a second of clients that are processes; processor us of the server for each."""
    context = multiprocessing.get_context("spawn")
    start, taken = context.Barrier(CLIENTS + 1), context.Queue()
    clients = [
        context.Process(
            target=one_of_many, args=(address, queries[i::CLIENTS], count, start, taken)
        )
        for i in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    start.wait()
    began, before = time.perf_counter(), server.cpu_times()
    for _ in clients:
        taken.get()
    rate = CLIENTS * count / (time.perf_counter() - began)
    after = server.cpu_times()
    spent = after.user + after.system - before.user - before.system
    for client in clients:
        client.join()
    return rate, spent / (CLIENTS * count) * 1e6


def batches(items, queries: np.ndarray, rounds: int = 8) -> float:
    """Searches a second in batches."""
    items.multi_nearest_neighbors(K, vectors=queries[:BATCH])
    began = time.perf_counter()
    for one in range(rounds):
        items.multi_nearest_neighbors(K, vectors=queries[one % 7 * BATCH : (one % 7 + 1) * BATCH])
    return rounds * BATCH / (time.perf_counter() - began)


def recall(items, queries: np.ndarray) -> float:
    """Of the first queries."""
    found = items.multi_nearest_neighbors(K, vectors=queries[:500])
    truth = items.multi_nearest_neighbors(K, vectors=queries[:500], exact=True)
    pairs = zip(found, truth, strict=True)
    return float(np.mean([np.isin(a.keys, b.keys).mean() for a, b in pairs]))


def ingest(hub, rows: np.ndarray, streamed: bool) -> float:
    """Rows a second: batches of 10,000 rows, of a stream or by one call each."""
    name = f"ingest-{time.monotonic_ns()}"
    space = hub.create_space(name, dims=rows.shape[1], metric="cosine", key_type="int")
    keys = np.arange(len(rows))
    began = time.perf_counter()
    if streamed:
        space.multiset(zip(keys.tolist(), rows, strict=True))
    else:
        for first in range(0, len(rows), 10_000):
            part = slice(first, first + 10_000)
            space.multiset(keys[part], rows[part])
    taken = time.perf_counter() - began
    hub.delete_space(name)
    return len(rows) / taken


def median_of(measure, rounds: int = 3) -> float:
    """The middle one of several."""
    return statistics.median(measure() for _ in range(rounds))


def say(what: str, value: float, unit: str, beside: str = "") -> None:
    """One line of the report."""
    print(f"{what:58} {value:12,.2f} {unit:10} {beside}", flush=True)


async def tasks(address: str, queries: np.ndarray, per_client: int) -> float:
    """Searches a second of tasks of one event loop, on one connection."""
    async with await ehub.aio.connect(address) as hub:
        items = await hub.get_space("items")

        async def run(client: int) -> None:
            for row in range(client, CLIENTS * per_client, CLIENTS):
                await items.nearest_neighbors(K, vector=queries[row % len(queries)])

        await run(0)
        began = time.perf_counter()
        await asyncio.gather(*map(run, range(CLIENTS)))
        return CLIENTS * per_client / (time.perf_counter() - began)


def in_turns(measures: dict[str, Callable[[], float]], rounds: int = 3) -> dict[str, float]:
    """The medians of several figures that are taken in turns."""
    taken = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: statistics.median(found) for name, found in taken.items()}


class Pair:
    """The same thing embedded and served."""

    def __init__(self, embedded: Any, served: Any) -> None:
        self.embedded, self.served = embedded, served

    def of(self, measure: Callable[[Any], float]) -> tuple[float, float]:
        """A figure of both, taken in turns."""
        sides = {"embedded": self.embedded, "served": self.served}
        found = in_turns({name: partial(measure, side) for name, side in sides.items()})
        return found["embedded"], found["served"]


def single_us(items: Any, queries: np.ndarray) -> float:
    """p50 of single searches."""
    return statistics.median(
        latencies(lambda query: items.nearest_neighbors(K, vector=query), queries)
    )


def one_caller(pair: Pair, queries: np.ndarray) -> None:
    """Searches of one caller, and in batches."""
    singles(pair, queries)
    together, batched = pair.of(lambda items: batches(items, queries))
    say("batches of 256, embedded", together, "searches/s")
    say("batches of 256, served", batched, "searches/s", f"{batched / together:.2f}x")


def singles(pair: Pair, queries: np.ndarray) -> None:
    """Single searches, and the echoes in turns with them."""
    request = b"x" * QUERY_BYTES
    with (
        echoing() as (address, path),
        echoing(POLLING) as (polled, _),
        grpc.insecure_channel(address) as channel,
        grpc.insecure_channel(polled) as streams,
    ):
        call, line = channel.unary_unary(path), SyncLine(streams, (), Clock())
        measures = {
            "alone": lambda: single_us(pair.embedded, queries),
            "served": lambda: single_us(pair.served, queries),
            "call": lambda: echo_us(lambda: call(request)),
            "line": lambda: echo_us(lambda: line.ask(request, None)),
        }
        say_singles(in_turns(measures), "")
        with awake():
            say_singles(in_turns(measures), ", cores awake")
        line.close()


def say_singles(found: dict[str, float], how: str) -> None:
    """The medians of single searches and of the echoes."""
    alone, served = found["alone"], found["served"]
    say(f"single search, embedded{how}: p50", alone, "us")
    say(f"single search, served{how}: p50", served, "us", f"{served - alone:,.0f} over embedded")
    say(f"echo of grpcio, a call{how}: p50", found["call"], "us")
    more = served - alone - found["line"]
    beside = f"a search takes {more:,.0f} more than it and the embedded one"
    say(f"echo of grpcio, a message of a stream{how}: p50", found["line"], "us", beside)


@contextmanager
def awake() -> Iterator[None]:
    """No core sleeps: each has a loop that runs when nothing else would (Linux)."""
    context = multiprocessing.get_context("spawn")
    loops = [context.Process(target=idle_loop, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    yield
    for loop in loops:
        loop.kill()


def idle_loop() -> None:
    """Run for ever, behind all others."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


def echo_us(ask: Callable[[], object]) -> float:
    """p50 of an echo."""
    return statistics.median(latencies(lambda query: ask(), np.zeros((200, 1))))


@contextmanager
def experimental(experiments: str | None) -> Iterator[None]:
    """While processes are started with these settings of grpcio; None: with its own."""
    if experiments is not None:
        os.environ["GRPC_EXPERIMENTS"] = experiments
    try:
        yield
    finally:
        os.environ.pop("GRPC_EXPERIMENTS", None)


def many_callers(server: psutil.Process, address: str, items: Any, queries: np.ndarray) -> None:
    """Searches of 16 at once."""
    shared = median_of(lambda: at_once(lambda: items, queries, 400))
    say("16 threads, one connection", shared, "searches/s")
    own = [ehub.connect(address).get_space("items") for _ in range(CLIENTS)]
    apart = median_of(lambda: at_once(iter(own).__next__, queries, 200))
    say("16 threads, a client each", apart, "searches/s")
    on_loop = median_of(lambda: asyncio.run(tasks(address, queries, 200)))
    say("16 tasks of asyncio, one connection", on_loop, "searches/s")
    for what, experiments in (("", None), (", polling as the server does", POLLING)):
        with experimental(experiments):
            figures = [processes(server, address, queries, 500) for _ in range(3)]
        rate, spent = sorted(figures)[1]
        beside = f"{spent:,.0f} us of the server's cores for each"
        say(f"16 processes, a connection each{what}", rate, "searches/s", beside)


def ingests(pair: Pair, rows: np.ndarray) -> None:
    """Rows that are written, of both at full durability."""
    for what, streamed in (("multiset of 10,000 rows each", False), ("a stream of pairs", True)):
        alone, served = pair.of(lambda hub, streamed=streamed: ingest(hub, rows, streamed))
        say(f"{what}, embedded", alone, "rows/s")
        say(f"{what}, served", served, "rows/s", f"{served / alone:.2f}x")


def main() -> None:
    """All figures, embedded and served in one run."""
    rows, queries = data()
    print(
        f"{len(rows):,} rows of {rows.shape[1]} dims; {os.cpu_count()} cores; ehub",
        ehub.__version__,
    )
    with scratch() as directory:
        path = str(directory / "hub")
        filled(path, rows)
        process, address = serving(path)
        try:
            with (
                ehub.open(path, read_only=True) as reader,
                ehub.open(directory / "own") as own,
                ehub.connect(address) as served,
            ):
                items = served.get_space("items")
                say("recall@10 of the index", recall(items, queries), "")
                one_caller(Pair(reader.get_space("items"), items), queries)
                many_callers(psutil.Process(process.pid), address, items, queries)
                ingests(Pair(own, served), rows)
        finally:
            stopped(process)


if __name__ == "__main__":
    main()
