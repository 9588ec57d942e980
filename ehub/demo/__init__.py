"""The demo: embeddings of real text through the whole store, every answer checked against NumPy.

It needs no network and no data. `corpus` gathers texts, `embedding` makes vectors of them, `trial`
stores, reopens, searches and checks; `run_demo` is the three in order.
"""

from __future__ import annotations

import platform
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ehub.demo.corpus import collect_texts
from ehub.demo.embedding import embed
from ehub.demo.trial import SPACE, Progress, Report, Say, try_hub

__all__ = ["Report", "run_demo"]


def run_demo(*, rows: int, directory: Path | None, say: Say, progress: Progress) -> Report:
    """Run all of it; `say` gets a line per step, `progress` makes a bar while rows are stored."""
    report = Report()
    say(f"1/6 reading the library of Python {platform.python_version()}")
    started = time.perf_counter()
    texts = collect_texts(rows)
    keys = list(texts)
    report.read_seconds = time.perf_counter() - started
    say(f"2/6 embedding {len(keys):,} functions and classes: n-grams, IDF, random projection")
    started = time.perf_counter()
    vectors = embed(keys, list(texts.values()))
    report.embed_seconds = time.perf_counter() - started
    with place(directory) as path:
        try_hub(path, keys, vectors, report, say, progress)
    if directory is None:
        say("the hub is deleted again; ehub demo --keep DIRECTORY keeps it to look around in")
    else:
        quoted = shlex.quote(str(directory))
        say(f"the hub is kept: ehub search {quoted} {SPACE} --key {keys[0]}")
    return report


@contextmanager
def place(directory: Path | None) -> Iterator[Path]:
    """The hub's directory; a temporary one is deleted, however the demo ends."""
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="ehub-demo-") as temporary:
        yield Path(temporary, "hub")
