"""A hub keeps its spaces: made, found, deleted, reopened, followed, verified, repaired."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import ehub

PACKAGE_PARENT = str(Path(ehub.__file__).parent.parent)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@contextmanager
def python(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs `script` with the package under test, and ends well."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PACKAGE_PARENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


def rows(count: int, dims: int = 4, seed: int = 0) -> tuple[list[str], np.ndarray]:
    vectors = np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)
    return [f"key-{i}" for i in range(count)], vectors


def test_a_hub_is_made_where_there_is_none(tmp_path):
    with ehub.open(tmp_path / "new" / "hub") as hub:
        assert hub.spaces() == []
        assert len(hub) == 0
        assert list(hub) == []
    assert (tmp_path / "new" / "hub" / "CURRENT").exists()


def test_a_path_may_be_a_string_or_bytes_that_the_file_system_knows(tmp_path):
    with ehub.open(str(tmp_path / "a")) as hub:
        assert hub.path == str(tmp_path / "a")
    with ehub.open(os.fsencode(tmp_path / "b")) as hub:
        assert hub.path == str(tmp_path / "b")
    with pytest.raises(TypeError):
        ehub.open(3.5)


@pytest.mark.parametrize("path", ["", b"", "hub\0", "a\0b/hub"], ids=repr)
def test_a_path_that_names_nothing_is_refused_before_anything_is_made(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for call in (ehub.open, ehub.repair, lambda path: ehub.connect(ehub.LocalConfig(path))):
        with pytest.raises(ehub.InvalidArgumentError, match="the path of a hub is"):
            call(path)
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A store that cannot be closed well."""

    read_only = True

    def close(self):
        raise ehub.StorageError(errno.ENOSPC, "no space left")


def test_the_error_of_a_block_is_not_hidden_by_that_of_closing():
    with pytest.raises(RuntimeError, match="the reason") as caught, ehub.Hub(FullDisk()):
        raise RuntimeError("the reason")
    assert caught.value.__notes__ == ["closing the hub failed as well: [Errno 28] no space left"]
    with pytest.raises(ehub.StorageError, match="no space left"), ehub.Hub(FullDisk()):
        pass


def test_a_relative_path_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ehub.open("hub") as hub:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        hub.create_space("items", dims=2).set("a", [1, 2])
        hub.checkpoint()
    with ehub.open(tmp_path / "hub") as hub:
        assert "a" in hub.get_space("items")


def test_a_space_is_what_it_was_created_as(hub):
    for metric in ("cosine", "l2", "ip"):
        for key_type in ("str", "int"):
            name = f"{metric}-{key_type}"
            for space in (
                hub.create_space(name, 7, metric=metric, key_type=key_type),
                hub.get_space(name),
            ):
                facts = (space.name, space.dims, space.metric, space.key_type)
                assert facts == (name, 7, metric, key_type)
                assert space.hub is hub
                assert len(space) == 0


def test_a_space_is_cosine_with_string_keys_unless_told_otherwise(hub):
    space = hub.create_space("items", dims=3)
    assert (space.metric, space.key_type) == ("cosine", "str")


def test_the_hub_knows_its_spaces_by_name(hub):
    names = ["b", "a", "früchte 🍎", "with space", "slash/es"]
    for name in names:
        hub.create_space(name, dims=2)
    assert sorted(hub.spaces()) == sorted(names)
    assert sorted(hub) == sorted(names)
    assert len(hub) == len(names)
    assert all(name in hub for name in names)
    assert "c" not in hub
    assert 5 not in hub


def test_a_space_that_exists_is_not_created_again(hub):
    hub.create_space("items", dims=2).set("a", [1, 2])
    with pytest.raises(ehub.ExistsError, match="items"):
        hub.create_space("items", dims=3)
    assert hub.get_space("items").dims == 2
    assert len(hub.get_space("items")) == 1


def test_a_missing_space_is_a_key_error_that_names_it(hub):
    with pytest.raises(ehub.NotFoundError, match="nothing"):
        hub.get_space("nothing")
    with pytest.raises(KeyError, match="nothing"):
        hub.delete_space("nothing")


@pytest.mark.parametrize("dims", [0, -1, 65_536, 1 << 40])
def test_impossible_dims_are_refused(hub, dims):
    with pytest.raises(ehub.InvalidArgumentError, match="dims"):
        hub.create_space("items", dims=dims)
    assert hub.spaces() == []


@pytest.mark.parametrize("dims", [True, 3.0, "3", None])
def test_dims_of_another_type_are_refused(hub, dims):
    with pytest.raises(TypeError, match="dims"):
        hub.create_space("items", dims=dims)


def test_dims_may_be_a_numpy_integer_and_as_many_as_the_limit(hub):
    assert hub.create_space("items", dims=np.int64(65_535)).dims == 65_535


@pytest.mark.parametrize(
    ("option", "value"),
    [("metric", "euclidean"), ("metric", 2), ("key_type", "bytes"), ("key_type", str)],
)
def test_an_unknown_choice_is_an_error_that_lists_the_choices(hub, option, value):
    error = ehub.InvalidArgumentError if isinstance(value, str) else TypeError
    with pytest.raises(error, match=f'{option}.*expected one of "'):
        hub.create_space("items", dims=2, **{option: value})


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800"])
def test_an_impossible_name_is_refused(hub, name):
    with pytest.raises(ehub.InvalidArgumentError):
        hub.create_space(name, dims=2)
    assert hub.spaces() == []


@pytest.mark.parametrize("name", [None, 5, b"items"])
def test_a_name_is_a_string(hub, name):
    with pytest.raises(TypeError):
        hub.create_space(name, dims=2)
    with pytest.raises(TypeError):
        hub.get_space(name)


def test_a_deleted_space_is_gone_and_its_name_is_free(hub):
    old = hub.create_space("items", dims=2)
    old.set("a", [1, 2])
    hub.delete_space("items")
    assert "items" not in hub
    new = hub.create_space("items", dims=3)
    assert len(new) == 0
    new.set("b", [1, 2, 3])
    with pytest.raises(ehub.NotFoundError):
        old.get("a")
    assert hub.get_space("items").get("b").tolist() == [1, 2, 3]


def test_everything_is_there_after_a_reopen(tmp_path):
    keys, vectors = rows(500)
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=4, metric="l2")
        items.multiset(keys, vectors)
        hub.create_space("numbers", dims=2, metric="ip", key_type="int").set(-5, [1, 2])
    with ehub.open(tmp_path) as hub:
        assert sorted(hub.spaces()) == ["items", "numbers"]
        items = hub.get_space("items")
        assert items.metric == "l2"
        assert (items.multiget(keys) == vectors).all()
        assert hub.get_space("numbers").get(-5).tolist() == [1, 2]


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_a_closed_hub_has_all_at_every_durability(tmp_path, durability):
    with ehub.open(tmp_path, durability=durability) as hub:
        hub.create_space("items", dims=2).set("a", [1, 2])
        hub.save()
        hub.get_space("items").set("b", [3, 4])
    with ehub.open(tmp_path) as hub:
        assert sorted(hub.get_space("items").keys()) == ["a", "b"]


def test_an_unknown_durability_or_option_is_an_error(tmp_path):
    with pytest.raises(ehub.InvalidArgumentError, match="durability"):
        ehub.open(tmp_path, durability="fast")
    with pytest.raises(TypeError):
        ehub.open(tmp_path, cache_size=5)


def test_what_was_acknowledged_survives_a_checkpoint(hub):
    keys, vectors = rows(300)
    items = hub.create_space("items", dims=4)
    items.multiset(keys, vectors)
    hub.checkpoint()
    items.set(keys[0], [9, 9, 9, 9])
    hub.checkpoint()
    assert items.get(keys[0]).tolist() == [9, 9, 9, 9]
    assert (items.multiget(keys[1:]) == vectors[1:]).all()


def test_a_hub_at_a_glance(hub):
    keys, vectors = rows(100)
    hub.create_space("a", dims=4).multiset(keys, vectors)
    before = hub.info()
    hub.create_space("b", dims=4).multiset(keys[:10], vectors[:10])
    info = hub.info()
    assert (info.path, info.read_only, info.spaces, info.rows) == (hub.path, False, 2, 110)
    assert info.seq > before.seq
    assert info.disk_bytes > 0


def test_a_hub_says_what_it_is(tmp_path):
    hub = ehub.open(tmp_path)
    assert repr(hub) == f"<ehub.Hub {str(tmp_path)!r}>"
    space = hub.create_space("items", dims=3)
    assert repr(space) == "<ehub.Space 'items' dims=3 metric='cosine' key_type='str'>"
    hub.close()
    assert hub.closed
    assert repr(hub) == f"<ehub.Hub {str(tmp_path)!r} closed>"
    with ehub.open(tmp_path, read_only=True) as reader:
        assert reader.read_only
        assert repr(reader) == f"<ehub.Hub {str(tmp_path)!r} read_only>"


def test_a_hub_and_a_space_are_not_pickled(hub):
    for thing in (hub, hub.create_space("items", dims=2)):
        with pytest.raises(TypeError, match="cannot be pickled: open"):
            pickle.dumps(thing)


# --- other processes ---


def test_a_second_writer_is_told_the_pid_of_the_first(tmp_path):
    here = rf"in this process \(pid {os.getpid()} on host"
    with ehub.open(tmp_path), pytest.raises(ehub.LockedError, match=here):
        ehub.open(tmp_path)
    script = "import ehub, sys; hub = ehub.open(sys.argv[1]); print('open', flush=True); input()"
    with python(script, tmp_path) as other:
        assert other.stdout.readline() == "open\n"
        there = rf"in another process \(pid {other.pid} on host"
        with pytest.raises(ehub.LockedError, match=there):
            ehub.open(tmp_path)
        other.stdin.write("end\n")
    ehub.open(tmp_path).close()


def test_a_program_that_never_closes_its_hub_leaves_a_clean_one(tmp_path):
    script = """
import sys, ehub
hub = ehub.open(sys.argv[1], durability="off")
hub.create_space("items", dims=2).multiset(["a", "b"], [[1, 2], [3, 4]])
"""
    with python(script, tmp_path):
        pass
    with ehub.open(tmp_path, read_only=True) as hub:
        assert hub.get_space("items").multiget(["b", "a"]).tolist() == [[3, 4], [1, 2]]
        assert hub.verify().ok


FOLLOWER = """
import sys, ehub
hub = ehub.open(sys.argv[1], read_only=True)
for line in sys.stdin:
    hub.refresh()
    print({name: sorted(hub.get_space(name).keys().tolist()) for name in hub}, flush=True)
"""


def test_a_reader_in_another_process_follows_the_writer(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2)
        items.set("a", [1, 2])
        with python(FOLLOWER, tmp_path) as follower:

            def look() -> dict[str, list[str]]:
                follower.stdin.write("\n")
                follower.stdin.flush()
                return ast.literal_eval(follower.stdout.readline())

            assert look() == {"items": ["a"]}
            items.multiset(["b", "c"], [[1, 2], [3, 4]])
            assert look() == {"items": ["a", "b", "c"]}
            hub.checkpoint()
            assert look() == {"items": ["a", "b", "c"]}
            items.delete("a")
            hub.create_space("more", dims=1, metric="l2").set("z", [1])
            assert look() == {"items": ["b", "c"], "more": ["z"]}
            hub.delete_space("more")
            items.compact()
            assert look() == {"items": ["b", "c"]}
            hub.close()
            assert look() == {"items": ["b", "c"]}


def test_a_reader_stands_still_until_it_refreshes(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2)
        items.set("a", [1, 2])
        with ehub.open(tmp_path, read_only=True) as reader:
            seen = reader.get_space("items")
            items.set("b", [1, 2])
            assert seen.keys().tolist() == ["a"]
            reader.refresh()
            assert sorted(seen.keys()) == ["a", "b"]
        hub.refresh()  # for a writer there is nothing to do


def test_a_reader_writes_nothing(tmp_path):
    ehub.open(tmp_path).close()
    with ehub.open(tmp_path) as hub:
        hub.create_space("items", dims=2).set("a", [1, 2])
    with ehub.open(tmp_path, read_only=True) as reader:
        items = reader.get_space("items")
        calls = [
            lambda: items.set("b", [1, 2]),
            lambda: items.multiset({"b": [1, 2]}),
            lambda: items.delete("a"),
            lambda: items.multidelete(["a"]),
            lambda: items.delete_all(),
            lambda: items.compact(),
            lambda: reader.create_space("more", dims=2),
            lambda: reader.delete_space("items"),
            lambda: reader.checkpoint(),
        ]
        for call in calls:
            with pytest.raises(ehub.ReadOnlyError):
                call()
        assert items.keys().tolist() == ["a"]


def test_a_write_of_nothing_is_no_error_where_nothing_may_be_written(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2)
        items.set("a", [1, 2], partition="us")
        items.create_subindex("few", keys=["a"])
        items.create_average("mean", groups={"g": ["a"]})
    with ehub.open(tmp_path, read_only=True) as reader:
        items = reader.get_space("items")
        few = items.subindex("few")
        writes = [
            lambda: items.multiset({}),
            lambda: items.multiset([], np.empty((0, 2))),
            lambda: items.multidelete([]),
            lambda: items.partition("us").multidelete([]),
            lambda: items.averages("mean").multidelete([]),
            lambda: few.add([]),
            lambda: few.remove([]),
        ]
        assert [write() for write in writes] == [0] * len(writes)
    for write in writes:
        with pytest.raises(ehub.ClosedError):
            write()


def test_a_reader_needs_a_hub_that_exists(tmp_path):
    with pytest.raises(ehub.NotFoundError, match="nowhere"):
        ehub.open(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()


# --- damage ---


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damaged_hub(path: Path) -> tuple[list[str], np.ndarray]:
    """A closed hub of 2,000 rows with a flipped bit in its vectors."""
    keys, vectors = rows(2000, dims=64)
    with ehub.open(path) as hub:
        hub.create_space("items", dims=64).multiset(keys, vectors)
        hub.checkpoint()
    [segment] = (path / "segments").glob("*.f32")
    damage(segment)
    return keys, vectors


def test_verify_reports_a_sound_hub_as_sound(hub):
    keys, vectors = rows(2000, dims=64)
    hub.create_space("items", dims=64).multiset(keys, vectors)
    hub.checkpoint()
    report = hub.verify(progress=True)
    assert report.ok
    assert report.findings == ()
    assert report.rows == 2000
    assert report.files > 0
    assert report.bytes >= vectors.nbytes


def test_verify_finds_one_flipped_bit_and_names_the_file(tmp_path):
    damaged_hub(tmp_path)
    with ehub.open(tmp_path, read_only=True) as hub:
        report = hub.verify()
    assert not report.ok
    assert any(".f32" in f"{finding.path} {finding.what}" for finding in report.findings)


def test_a_damaged_vector_is_never_handed_out(tmp_path):
    keys, vectors = damaged_hub(tmp_path)
    with ehub.open(tmp_path, read_only=True) as hub:
        items = hub.get_space("items")
        refused = []
        for key, vector in zip(keys, vectors, strict=True):
            try:
                assert items.get(key).tobytes() == vector.tobytes()
            except ehub.CorruptionError as error:
                refused.append(str(error))
    assert 0 < len(refused) < len(keys)
    assert all(".f32" in message for message in refused)


def test_repair_keeps_all_that_is_sound(tmp_path):
    keys, vectors = damaged_hub(tmp_path)
    report = ehub.repair(tmp_path)
    assert report.rows_kept + report.rows_dropped == len(keys)
    assert 0 < report.rows_dropped < len(keys)
    assert report.dropped
    assert (tmp_path / "lost+found").is_dir()
    with ehub.open(tmp_path) as hub:
        assert hub.verify().ok
        found_vectors, found = hub.get_space("items").multiget(keys, default=None)
        assert found.sum() == report.rows_kept
        assert (found_vectors[found] == vectors[found]).all()


def test_a_hub_in_use_is_not_repaired(tmp_path):
    with ehub.open(tmp_path), pytest.raises(ehub.LockedError):
        ehub.repair(tmp_path)


def test_nobody_waits_for_the_disk_where_means_are_made_again(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        items.multiset(list("abcd"), np.eye(4, 2))
        average = items.create_average("p", {"g": ["a", "b"], "h": ["c"]})
        average.refresh()
        items["a"] = [3, 4]
        items.multidelete(["c"])
        synced = hub._store.write_stats()["syncs"]
        average.refresh()
        assert hub._store.write_stats()["syncs"] == synced
        items["b"] = [3, 4]
        assert hub._store.write_stats()["syncs"] != synced
        assert np.array_equal(average["g"], items.average(["a", "b"]))
        assert average.keys().tolist() == ["g"]
