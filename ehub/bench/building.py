"""Building an index in a process of its own, which is what makes its memory measurable.

All contenders answer in one process, in turn, because only so are they compared under the same
conditions. But the peak of a process that has held nine libraries tells of none of them. So each is
built in a fresh process that saves the index and ends; the process that asks loads it. Time is that
of `Contender.build()` alone. Memory is the highest resident set while building (the kernel's
VmHWM, reset just before), less what was resident then: the interpreter, the library, and the rows,
which the caller holds. Mapped files count while they are resident.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import numpy as np

from ehub.bench.contenders import CONTENDERS, quiet
from ehub.types import Metric

__all__ = ["Built", "Failed", "build_apart"]

PEAK_RESET = "5"  # what /proc/self/clear_refs takes for it: proc(5)


class Failed(Exception):
    """A contender cannot do what was asked of it; the others go on."""


@dataclass(frozen=True)
class Built:
    """What building one index took."""

    seconds: float
    index_bytes: int
    peak_bytes: int


def build_apart(name: str, rows: Path, metric: Metric, threads: int, directory: Path) -> Built:
    """Build a contender's index from the rows of a .npy file, and leave it in the directory."""
    directory.mkdir()
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe(duplex=False)
    arguments = (theirs, name, rows, metric, threads, directory)
    process = spawned.Process(target=build_here, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
        process.join()
    except EOFError:
        process.join()
        raise Failed(f"building ended with exit code {process.exitcode}") from None
    finally:
        process.kill()  # if Ctrl-C ended the wait: nobody needs the index any more
        ours.close()
    if isinstance(answer, str):
        raise Failed(answer)
    return cast("Built", answer)


def build_here(
    answer: Connection, name: str, rows: Path, metric: Metric, threads: int, directory: Path
) -> None:
    """What the process does: build, save, tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    try:
        answer.send(measured_build(name, rows, metric, threads, directory))
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")


def measured_build(
    name: str, rows_file: Path, metric: Metric, threads: int, directory: Path
) -> Built:
    """Build an index in this process, and save it."""
    contender = CONTENDERS[name]()
    __import__(contender.module)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    rows = np.load(rows_file, allow_pickle=False)
    with quiet():
        Path("/proc/self/clear_refs").write_text(PEAK_RESET)
        before = resident_bytes("VmRSS")
        started = time.perf_counter()
        contender.build(rows, metric, threads, directory)
        seconds = time.perf_counter() - started
        peak = resident_bytes("VmHWM") - before
        index_bytes = contender.save(directory)
        contender.close()
    return Built(seconds, index_bytes, max(0, peak))


def resident_bytes(field: str) -> int:
    """How much memory of this process is resident: VmRSS, now; VmHWM, at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"/proc/self/status has no {field}")
