"""A pipe where a hub has a file is an error at once: nobody waits until somebody writes into it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from indexed import open_hub

import ehub

FILES = ("CURRENT", "LOCK", "manifest-*", "wal/*.log", "segments/*.f32", "segments/*.seg")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A hub with a segment, and a log that has more than it."""
    place = tmp_path_factory.mktemp("pipes")
    with open_hub(place / "hub", background=False, carry_bytes_max=0) as hub:
        items = hub.create_space("items", 8, metric="l2", key_type="int")
        items.multiset(np.arange(100), np.ones((100, 8), np.float32))
        hub.checkpoint()
        items.multiset([1], np.zeros((1, 8), np.float32))
        shutil.copytree(hub.path, place / "copy")  # as if its process was killed here
    return place / "copy"


@pytest.fixture(params=FILES)
def pipe(request, whole, tmp_path):
    """A file of a hub that is a pipe instead."""
    hub = shutil.copytree(whole, tmp_path / "hub")
    file = sorted(hub.glob(request.param))[-1]
    file.unlink()
    os.mkfifo(file)
    return file


def read_all(path: Path, **options: object) -> None:
    with ehub.open(path, **options) as hub:
        hub.get_space("items").to_numpy()
        hub.get_space("items").multiget(list(range(100)))


CALLS = {
    "write": read_all,
    "read": lambda path: read_all(path, read_only=True),
    "back up": lambda path: ehub.open(path, read_only=True).backup(path.parent / "backups"),
}


def error_of(pipe: Path, call: object, *given: object) -> BaseException | None:
    """What a call ends with that meets a pipe."""
    with ExitStack() as held, ThreadPoolExecutor(1) as threads:
        work = threads.submit(call, *given)
        if not wait([work], 10).done:
            held.callback(os.close, os.open(pipe, os.O_RDWR))  # so that it ends
            pytest.fail("it waits for a pipe")
        return work.exception()


@pytest.mark.parametrize("what", CALLS)
def test_a_pipe_in_the_place_of_a_file_is_an_error_that_names_it(pipe, tmp_path, what):
    error = error_of(pipe, CALLS[what], tmp_path / "hub")
    assert isinstance(error, ehub.EhubError), error
    assert pipe.name in str(error)
    assert "a FIFO" in str(error)


def test_a_repair_does_not_wait_for_a_pipe(pipe, tmp_path):
    error = error_of(pipe, ehub.repair, tmp_path / "hub")
    assert error is None or isinstance(error, ehub.EhubError), error
