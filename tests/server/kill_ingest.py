"""Kill a server again and again while several clients write, and look at what is left.

`python tests/server/kill_ingest.py CYCLES` does it for long; test_kill.py does it shortly. Clients
retry by themselves. In the end every row that was acknowledged must be there with the value that
was acknowledged last, no other row, and as many batches in the hub as were acknowledged: a write
that was applied twice would be one more.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from listening import free_port

import ehub

DIMS = 16
ROWS = 50
CLIENTS = 4
# A graceful end notes the end of the audit log in the hub.
AUDIT_BATCHES = 1


@dataclass
class Writer:
    """A client that writes batches, and remembers what was acknowledged."""

    number: int
    address: str
    stop: threading.Event
    rows: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    error: BaseException | None = None

    def run(self) -> None:
        """Write until told to stop."""
        try:
            with ehub.connect(self.address, retry_seconds=60) as hub:
                items = hub.get_space("items")
                step = 0
                while not self.stop.is_set():
                    step += 1
                    self.write(items, step)
        except BaseException as error:
            self.error = error

    def write(self, items: ehub.Space, step: int) -> None:
        """One call: mostly a batch, at times a delete, or a stream of several batches."""
        names = [f"{self.number}-{i}" for i in range(step % 7 * ROWS, (step % 7 + 1) * ROWS)]
        if step % 10 == 9:
            there = [name for name in names if name in self.rows]
            assert items.multidelete(names) == len(there)
            self.batches += bool(there)
            for name in there:
                del self.rows[name]
            return
        vectors = np.full((ROWS, DIMS), step, np.float32)
        if step % 10 == 5:
            assert items.multiset(zip(names, vectors, strict=True)) == ROWS
        else:
            assert items.multiset(names, vectors) == ROWS
        self.batches += 1
        self.rows.update(dict.fromkeys(names, float(step)))


def started(path: Path, port: int) -> subprocess.Popen[str]:
    """A server that listens."""
    command = [sys.executable, "-m", "ehub.server", str(path), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            return process
    raise AssertionError("the server does not start")


def attack(path: Path, cycles: int, seed: int = 0) -> int:
    """Kill the server so many times; how many batches were acknowledged."""
    with ehub.open(path) as hub:
        hub.create_space("items", dims=DIMS, metric="l2")
        first = hub.info().seq
    port, chance, stop = free_port(), random.Random(seed), threading.Event()
    writers = [Writer(i, f"127.0.0.1:{port}", stop) for i in range(CLIENTS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    process = started(path, port)
    for thread in threads:
        thread.start()
    for _ in range(cycles):
        time.sleep(chance.uniform(0.05, 0.6))
        process.kill()
        process.communicate()
        process = started(path, port)
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0
    return compared(path, writers, first)


def compared(path: Path, writers: list[Writer], first: int) -> int:
    """What is left against what was acknowledged."""
    for writer in writers:
        if writer.error is not None:
            raise writer.error
    expected = {key: value for writer in writers for key, value in writer.rows.items()}
    with ehub.open(path) as hub:
        keys, vectors = hub.get_space("items").to_numpy()
        found = dict(zip(keys.tolist(), vectors[:, 0].tolist(), strict=True))
        batches = hub.info().seq - first - AUDIT_BATCHES
    assert found == expected
    assert len(keys) == len(found)
    acknowledged = sum(writer.batches for writer in writers)
    assert batches == acknowledged, (batches, acknowledged)
    return acknowledged


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
        made = attack(Path(directory, "hub"), kills)
        sys.stdout.write(f"{kills} kills, {made} batches acknowledged: all there, none twice\n")
