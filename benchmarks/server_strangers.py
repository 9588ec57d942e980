"""What a server's idle, slow and hostile clients cost the others.

    python -m benchmarks.server_strangers

The server is guarded by a key, as one that strangers can reach has to be. Everything runs on this
machine, the hostile clients too: what they take of its cores counts against the server. How much
that is, searches tell that are made while the same flood goes to another server, a bare one of
grpcio. Searches with a flood and without take turns, and the percentiles are of all turns: that of
one is off by a factor of two.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

import ehub
from benchmarks.harness import SEED
from benchmarks.server import experimental, latencies, say, serving, stopped
from ehub.access import Access, Grant
from ehub.cli.serving import POLLING
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import SERVICE, methods_of

ROWS, DIMS, K = 30_000, 128, 10
IDLE = 200
FLOODERS = 4
SEARCHES = 2_000
TURNS = 3
# More than a server takes in one message, by its default limit.
OVERSIZED = 65 << 20
SEARCH = methods_of(SERVICE)["Search"]


def filled(path: str) -> tuple[str, np.ndarray]:
    """A guarded hub with an indexed space; a token that may read it, and queries."""
    rows = np.random.default_rng(SEED).standard_normal((ROWS, DIMS), np.float32)
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(ROWS), rows)
        items.optimize()
        token, _ = Access(hub).create_key("reader", [Grant.parse("reader on hub")])
    return token, rows[:SEARCHES]


# --- clients that do nothing ---


def idle(address: str, count: int, connected: Any, leave: Any) -> None:
    """Hold connections, in a process of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(address, options) for _ in range(count)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(30)
    connected.set()
    leave.wait()


def idle_megabytes(server: psutil.Process, address: str) -> float:
    """What the server's memory grows by for connections that are idle."""
    context = multiprocessing.get_context("spawn")
    connected, leave = context.Event(), context.Event()
    before = server.memory_info().rss
    process = context.Process(target=idle, args=(address, IDLE, connected, leave))
    process.start()
    connected.wait()
    time.sleep(1)
    grown = server.memory_info().rss - before
    leave.set()
    process.join()
    return grown / 1e6


# --- clients that send what is of no use ---


def oversized(token: str) -> tuple[bytes, str]:
    """A message that is too large."""
    return b"\0" * OVERSIZED, token


def malformed(token: str) -> tuple[bytes, str]:
    """A message that is none."""
    return b"\xff" * 1_000, token


def unauthenticated(token: str) -> tuple[bytes, str]:
    """A search of somebody who is nobody."""
    request = pb.SearchRequest(target=pb.Target(space="items"), options=pb.SearchOptions(k=K))
    request.vectors.MergeFrom(pb.Vectors(dims=DIMS, values=b"\0" * 4 * DIMS))
    return request.SerializeToString(), token[:-1] + "x"


def bare_server(ready: Any) -> None:
    """A server of grpcio that does nothing, with our limit."""
    options = [("grpc.max_receive_message_length", Limits().message_bytes)]
    server = grpc.server(ThreadPoolExecutor(64), options=options)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    service = grpc.method_handlers_generic_handler(SERVICE.full_name, {"Search": handler})
    server.add_generic_rpc_handlers((service,))
    ready.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


@contextmanager
def elsewhere() -> Iterator[str]:
    """The address of another server, which is in use within the block."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    with experimental(POLLING):
        process = context.Process(target=bare_server, args=(ready,), daemon=True)
        process.start()
    try:
        yield f"127.0.0.1:{ready.get()}"
    finally:
        process.kill()


def flood(address: str, request: bytes, token: str, sent: Any, stop: Any) -> None:
    """Send the same request without pause from several threads, in a process of its own."""
    metadata = (("authorization", f"Bearer {token}"),)
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]

    def run() -> None:
        with grpc.insecure_channel(address, options) as channel:
            call = channel.unary_unary(SEARCH.path)
            while not stop.is_set():
                try:
                    call(request, metadata=metadata, timeout=60)
                    raise SystemExit("a bad call was answered")
                except grpc.RpcError:
                    with sent.get_lock():
                        sent.value += 1

    threads = [threading.Thread(target=run) for _ in range(FLOODERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def flooded(address: str, request: bytes, token: str) -> Iterator[Any]:
    """While a flood goes on; how many calls of it were refused."""
    context = multiprocessing.get_context("spawn")
    sent, stop = context.Value("q", 0), context.Event()
    process = context.Process(target=flood, args=(address, request, token, sent, stop))
    process.start()
    while sent.value < FLOODERS:
        time.sleep(0.05)
    try:
        yield sent
    finally:
        stop.set()
        process.join()


# --- one that is served meanwhile ---


class Searching:
    """Searches one after the other, alone or beside something else."""

    def __init__(self, items: Any, queries: np.ndarray) -> None:
        self._items, self._queries = items, queries

    def taken(self) -> list[float]:
        """What each of them takes, in microseconds."""
        return latencies(
            lambda query: self._items.nearest_neighbors(K, vector=query), self._queries, SEARCHES
        )

    def beside_flood(self, what: str, address: str, request: bytes, token: str) -> None:
        """Beside calls that are refused, and without them, in turns."""
        alone, found, rates = list[float](), list[float](), list[float]()
        for _ in range(TURNS):
            alone += self.taken()
            with flooded(address, request, token) as sent:
                before, began = sent.value, time.perf_counter()
                found += self.taken()
                rates.append((sent.value - before) / (time.perf_counter() - began))
        told(what, found, alone, f"({statistics.median(rates):,.0f}/s)")

    def beside_slow_reader(self) -> None:
        """Beside a stream that is not read on."""
        alone, slow = self.taken(), self._items.scan(1_000)
        next(slow)
        told("a slow reader of a stream", self.taken(), alone)
        assert sum(len(keys) for keys, _ in slow) == ROWS - 1_000


def told(what: str, found: list[float], alone: list[float], more: str = "") -> None:
    """A line: p99, beside that of a server with nothing else to do."""
    (p50, p99), (p50_alone, p99_alone) = (np.percentile(one, (50, 99)) for one in (found, alone))
    ratios = f"{p99 / p99_alone:.2f}x, p50 {p50:,.0f} us {p50 / p50_alone:.2f}x"
    say(f"{what}: p99 of a search", p99, "us", f"{ratios} {more}")


def main() -> None:
    """All figures, of one server."""
    with tempfile.TemporaryDirectory() as directory, elsewhere() as other:
        token, queries = filled(str(Path(directory, "hub")))
        process, address = serving(str(Path(directory, "hub")))
        try:
            with ehub.connect(address, token=token) as hub:
                print(f"{ROWS:,} rows of {DIMS} dims; {os.cpu_count()} cores; {ehub.__version__}")
                searching = Searching(hub.get_space("items"), queries)
                idle_of_it = idle_megabytes(psutil.Process(process.pid), address)
                say(f"memory of {IDLE} idle connections", idle_of_it, "MB")
                searching.beside_slow_reader()
                for kind in (oversized, malformed, unauthenticated):
                    what = f"a flood of {kind.__name__} calls"
                    searching.beside_flood(what, address, *kind(token))
                searching.beside_flood("oversized calls elsewhere", other, *oversized(token))
        finally:
            stopped(process)


if __name__ == "__main__":
    main()
