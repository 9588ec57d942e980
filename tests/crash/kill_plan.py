"""What the writer that is killed does, and what must be left of it: known to both without a word.

Each thread of the writer has keys of its own and performs operations numbered from 0; operation n
of a thread follows from (seed, thread, n) alone. So a journal need only say which operation of
which thread began and which was acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

THREADS = 3
KEYS = 4000  # of each thread
DIMS = 40
SMALL, LARGE = 50, 2000  # rows; 2,000 of them go straight to a segment file
GROUP = 50  # the first keys of a thread: batches of SMALL rows set all of them to one value

KINDS = ("set", "small", "group", "large", "delete", "multidelete", "checkpoint")
CHANCES = (0.40, 0.15, 0.15, 0.08, 0.10, 0.10, 0.02)


@dataclass
class Operation:
    """One call of the writer; `rows` are numbers of keys."""

    kind: str
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, DIMS), np.float32))


def key(thread: int, row: int) -> str:
    """The name of a key."""
    return f"thread {thread} key {row}"


def operation(seed: int, thread: int, n: int) -> Operation:
    """Operation `n` of a thread."""
    random = np.random.default_rng([seed, thread, n])
    kind = str(random.choice(KINDS, p=CHANCES))
    if kind == "checkpoint":
        return Operation(kind)
    if kind == "group":
        vectors = np.full((GROUP, DIMS), n + 1, np.float32)
        return Operation(kind, np.arange(GROUP), vectors)
    count = {"set": 1, "small": SMALL, "large": LARGE, "delete": 1, "multidelete": SMALL}[kind]
    rows = random.choice(np.arange(GROUP, KEYS), count, replace=False)
    if kind in ("delete", "multidelete"):
        return Operation(kind, rows)
    return Operation(kind, rows, random.random((count, DIMS), np.float32))


class State:
    """What a thread's keys hold."""

    def __init__(self) -> None:
        self.vectors = np.zeros((KEYS, DIMS), np.float32)
        self.there = np.zeros(KEYS, bool)

    def after(self, done: Operation) -> State:
        """What they hold after an operation."""
        state = State()
        state.vectors, state.there = self.vectors.copy(), self.there.copy()
        state.there[done.rows] = done.kind not in ("delete", "multidelete")
        state.vectors[done.rows] = done.vectors if len(done.vectors) else 0
        return state

    def equals(self, vectors: np.ndarray, there: np.ndarray) -> bool:
        """Bit for bit."""
        return bool((there == self.there).all()) and vectors.tobytes() == self.vectors.tobytes()
