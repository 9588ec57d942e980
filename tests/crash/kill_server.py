"""Forks processes that work on a hub and are killed while they do; run by test_kill.py.

It imports ehub once and opens no hub itself, so a process costs a fork. Commands come on stdin, one
a line; each forks a child that names its pid and then reports on stdout:

- `write <path> <seed>`: threads perform the operations of kill_plan.py until the child is killed;
- `names <path> <seed> <file>`: performs those of names_plan.py, from the state in the file on;
- `hold <path>`: a reader that holds snapshots beside the writer checks that they stay the same;
- `read <path>`: a reader beside the writer checks what it sees until it is killed;
- `dump <path> <file>`: opens the hub as a writer, saves all it holds, and waits to be killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import kill_plan
import names_hub
import numpy as np

import ehub


def say(line: str) -> None:
    """One line to the test; whole, whichever thread says it."""
    os.write(1, (line + "\n").encode())


def space_of(hub: ehub.Hub) -> ehub.Space:
    """The space that all threads write to."""
    if "items" in hub:
        return hub.get_space("items")
    return hub.create_space("items", dims=kill_plan.DIMS, metric="l2")


def perform(hub: ehub.Hub, items: ehub.Space, thread: int, done: kill_plan.Operation) -> None:
    """One operation, with the call that a user would make."""
    keys = [kill_plan.key(thread, row) for row in done.rows]
    if done.kind == "checkpoint":
        hub.checkpoint()
    elif done.kind == "set":
        items.set(keys[0], done.vectors[0])
    elif done.kind in ("delete", "multidelete"):
        items.multidelete(keys)
    else:
        items.multiset(keys, done.vectors)


def write(path: str, number: str) -> None:
    """Work for ever."""
    seed = int(number)
    hub = ehub.open(path)
    items = space_of(hub)

    def work(thread: int) -> None:
        for n in range(1_000_000):
            done = kill_plan.operation(seed, thread, n)
            say(f"begin {thread} {n}")
            perform(hub, items, thread, done)
            say(f"done {thread} {n}")

    for thread in range(kill_plan.THREADS):
        threading.Thread(target=work, args=(thread,)).start()
    say("writing")


def read(path: str) -> None:
    """Follow the writer, whoever it is now, and check that no group is torn and none goes back."""
    keys = [
        [kill_plan.key(thread, row) for row in range(kill_plan.GROUP)]
        for thread in range(kill_plan.THREADS)
    ]
    hub = ehub.open(path, read_only=True)
    items = hub.get_space("items")
    say("reading")
    for round_number in range(1_000_000):
        hub.refresh()
        for thread in range(kill_plan.THREADS):
            vectors, found = items.multiget(keys[thread], default=None)
            if found.any() and not (found.all() and (vectors == vectors[0, 0]).all()):
                say(f"torn {thread}: {found.sum()} keys, values {np.unique(vectors).tolist()}")
        if round_number % 50 == 0:
            say(f"read {round_number}")


def dump(path: str, file: str) -> None:
    """Save what the hub holds."""
    hub = ehub.open(path)
    keys = [
        kill_plan.key(thread, row)
        for thread in range(kill_plan.THREADS)
        for row in range(kill_plan.KEYS)
    ]
    vectors, found = space_of(hub).multiget(keys, default=None)
    np.savez(file, vectors=vectors, found=found, rows=len(space_of(hub)))
    say("dumped")
    time.sleep(1000)


def child(command: str, arguments: list[str]) -> None:
    """What a forked process does; it only ends by being killed, or by failing."""
    try:
        say(f"pid {os.getpid()}")
        commands = {
            "write": write,
            "read": read,
            "dump": dump,
            "names": partial(names_hub.write, say),
            "hold": partial(names_hub.hold, say),
        }
        commands[command](*arguments)
        time.sleep(1000)
    except BaseException as error:
        say(f"failed {type(error).__name__}: {error}")
        os._exit(1)


def main() -> None:
    """Fork for each command; say when a child is dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.excepthook = lambda args: say(f"failed {args.exc_type.__name__}: {args.exc_value}")
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split("\t")
        if command == "reap":
            os.waitpid(int(arguments[0]), 0)
            say(f"dead {arguments[0]}")
        elif os.fork() == 0:
            child(command, arguments)
            os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
