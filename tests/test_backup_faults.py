"""Whatever is cut short, older backups can be restored, and no half of a hub is taken for one.

The store fails at its n-th call, for every n, with and without having done what it was asked; and
processes are killed in the middle of backups and restores.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from backups import DIMS, FailingStore, contents, keys, vectors
from obstore import exceptions
from obstore.store import MemoryStore

import ehub
from ehub.backup import restoring
from ehub.backup.place import Place

KILLS = int(os.environ.get("EHUB_BACKUP_KILLS", "12"))
HOW = [{}, {"done": True}, {"stays": True}]


def small(path: Path) -> ehub.Hub:
    hub = ehub.open(path)
    items = hub.create_space("items", 8, metric="l2")
    items.multiset(keys(0, 100), vectors(100, 1, 8))
    items.tag("first")
    hub.checkpoint()
    items.multiset(keys(50, 100), vectors(100, 2, 8))
    return hub


def restored(where, to: Path, number: int | None = None) -> dict[str, object]:
    ehub.restore(where, to, number=number)
    with ehub.open(to) as hub:
        found = contents(hub)
    shutil.rmtree(to)
    return found


def leases_gone(store) -> None:
    """What a store that failed for good has left; its owner is this very process."""
    store.delete([one["path"] for page in store.list("locks") for one in page])


@pytest.mark.parametrize("how", HOW, ids=str)
def test_a_store_that_fails_at_any_call_harms_no_backup(tmp_path, how):
    with small(tmp_path / "hub") as hub:
        nth = 0
        while True:
            store = MemoryStore()
            hub.backup(store)
            expected = contents(hub)
            hub.get_space("items").set(f"more {nth}", [nth] * 8)
            failing = FailingStore(store, nth, **how)
            try:
                hub.backup(failing)
            except ehub.StorageError as error:
                assert "was to fail" in str(error)  # noqa: PT017 - it need not be raised
            assert restored(store, tmp_path / "first", 1) == expected
            for made in ehub.backups(store)[1:]:
                assert restored(store, tmp_path / "second", made.number) == contents(hub)
            leases_gone(store)
            last = hub.backup(store)
            assert restored(store, tmp_path / "third", last.number) == contents(hub)
            if not failing.failed:
                return
            nth += 1


@pytest.mark.parametrize("how", HOW, ids=str)
def test_a_pruning_that_fails_at_any_call_harms_no_backup_that_stays(tmp_path, how):
    with small(tmp_path / "hub") as hub:
        nth = 0
        while True:
            store = MemoryStore()
            for number in range(3):
                hub.get_space("items").multiset(keys(0, 40), vectors(40, number, 8))
                hub.backup(store)
            expected = contents(hub)
            failing = FailingStore(store, nth, **how)
            try:
                ehub.prune_backups(failing, keep_last=1)
            except ehub.StorageError as error:
                assert "was to fail" in str(error)  # noqa: PT017 - it need not be raised
            for made in ehub.backups(store):
                restored(store, tmp_path / "any", made.number)
            assert restored(store, tmp_path / "last") == expected
            leases_gone(store)
            assert [one.number for one in ehub.prune_backups(store, keep_last=1).kept] == [3]
            assert ehub.prune_backups(store, keep_last=1).objects == 0
            assert restored(store, tmp_path / "last") == expected
            if not failing.failed:
                return
            nth += 1


def test_a_restore_that_fails_at_any_call_leaves_nothing(tmp_path):
    store = MemoryStore()
    with small(tmp_path / "hub") as hub:
        hub.backup(store)
        expected = contents(hub)
    nth = 0
    while True:
        failing = FailingStore(store, nth)
        try:
            ehub.restore(failing, tmp_path / "new")
        except ehub.StorageError:
            assert not (tmp_path / "new").exists()
        if not failing.failed:
            break
        nth += 1
    with ehub.open(tmp_path / "new") as hub:
        assert contents(hub) == expected


class Killed(BaseException):
    """What a kill does to a process: nothing is tidied up."""


def test_a_restore_that_is_cut_short_at_any_step_is_no_hub_and_can_be_begun_anew(
    tmp_path, monkeypatch
):
    store = MemoryStore()
    with small(tmp_path / "hub") as hub:
        hub.backup(store)
        expected = contents(hub)
    target, steps = tmp_path / "new", 0
    monkeypatch.setattr(restoring, "give_up", lambda root, made: None)
    while True:
        with monkeypatch.context() as patched:
            left = [steps]

            def step(original, left=left):
                def call(*arguments, **options):
                    if left[0] == 0:
                        raise Killed
                    left[0] -= 1
                    return original(*arguments, **options)

                return call

            patched.setattr(restoring, "sync", step(restoring.sync))
            patched.setattr(restoring, "fetched", step(restoring.fetched))
            patched.setattr(Path, "rename", step(Path.rename))
            patched.setattr(os, "fsync", step(os.fsync))
            patched.setattr(shutil, "rmtree", step(shutil.rmtree))
            try:
                ehub.restore(store, target)
            except Killed:
                pass
            else:
                break
        if (target / "CURRENT").exists():
            with pytest.raises(ehub.ExistsError):
                ehub.restore(store, target)
        else:
            with pytest.raises(ehub.NotFoundError):
                ehub.open(target, read_only=True)
            if target.exists() and (target / restoring.STAGING).exists():
                with pytest.raises(ehub.ConflictError, match="restore it again"):
                    ehub.open(target)
            ehub.restore(store, target)
        with ehub.open(target) as hub:
            assert contents(hub) == expected
        shutil.rmtree(target)
        steps += 1
    assert steps > 15


# --- processes that are killed ---


def started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "ehub.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(seconds: float, *arguments: object) -> None:
    """Run a command for so long at most."""
    process = started(*arguments)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def time_of(*arguments: object) -> float:
    began = time.monotonic()
    assert started(*arguments).wait() == 0
    return time.monotonic() - began


def test_backups_prunings_and_restores_that_are_killed(tmp_path):
    """The hub goes on; each backup that is listed is one of its states."""
    choose = random.Random(4711)
    path, place, new = tmp_path / "hub", tmp_path / "backups", tmp_path / "new"
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(keys(0, 20_000), vectors(20_000, 0))
        hub.checkpoint()
        whole = time_of("backup", path, place)
        lengths = {1: len(items)}
        for n in range(1, KILLS + 1):
            items.multiset(keys(n * 20_000, 2_000), vectors(2_000, n))
            killed(choose.uniform(0.3, 1.1) * whole, "backup", path, place)
            killed(choose.uniform(0.3, 1.1) * whole, "restore-backup", place, new)
            if (new / "CURRENT").exists():
                with ehub.open(new) as copy:
                    assert copy.verify().findings == ()
                shutil.rmtree(new)
            for made in ehub.backups(place):
                lengths.setdefault(made.number, len(items))
            if n % 4 == 0:
                killed(
                    choose.uniform(0.5, 1.1) * whole,
                    "prune-backups", place, "--keep-last", 2, "--yes",
                )  # fmt: skip
        shutil.rmtree(new, ignore_errors=True)
        hub.backup(place)
        for made in ehub.backups(place):
            ehub.restore(place, new, number=made.number)
            with ehub.open(new) as copy:
                assert len(copy.get_space("items")) == lengths.get(made.number, len(items))
            shutil.rmtree(new)
        assert len(ehub.prune_backups(place, keep_last=1).kept) == 1  # no lease is left
        assert not list(place.glob("chunks/**/*#*"))
        assert restored(place, new) == contents(hub)


def test_a_bucket_without_credentials_says_where_they_come_from():
    class Bare:
        def put(self, *given, **options):
            raise exceptions.GenericError(
                "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token"
            )

    with pytest.raises(ehub.StorageError, match="come from the environment, as AWS_ACCESS_KEY_ID"):
        Place(Bare(), "s3://bucket").put("a", b"")
