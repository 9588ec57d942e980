"""An erased key is gone: from every version, tag and average, and from every byte of the hub."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub._native import _store
from ehub.cli import run

DIMS = 16
SECRET = "secret-person-4711"
GROUP = "group-of-that-one"


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)


SECRET_VECTOR = vector(1_000_000)
OLD_VECTOR = vector(1_000_001)


def rows(first: int, n: int) -> dict[str, np.ndarray]:
    return {f"key{i}": vector(i) for i in range(first, first + n)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hub"


@pytest.fixture
def hub(path):
    with ehub.open(path) as hub:
        yield hub


def filled(hub: ehub.Hub) -> ehub.Space:
    """The secret key is overwritten, tagged, sealed, forked, deleted, averaged."""
    space = hub.create_space("people", DIMS, metric="l2")
    space.set(SECRET, OLD_VECTOR)
    space.multiset(rows(0, 20))
    space.tag("first")
    hub.checkpoint()
    space.set(SECRET, SECRET_VECTOR)
    space.multiset(rows(20, 20))
    space.tag("second")
    space.fork("branch", at="first").freeze()
    space.delete(SECRET)
    space.set(SECRET, SECRET_VECTOR)
    return space


def files_with(path: Path, needles: list[bytes]) -> list[str]:
    found = []
    for file in path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found += [str(file.relative_to(path)) for needle in needles if needle in content]
    return found


def needles() -> list[bytes]:
    return [SECRET.encode(), SECRET_VECTOR.tobytes(), OLD_VECTOR.tobytes()]


def contents(view) -> dict[str, bytes]:
    return {key: view.get(key).tobytes() for key in view}


def contents_at(space, tag) -> dict[str, bytes]:
    with space.at(tag) as view:
        return contents(view)


def test_no_file_has_a_byte_of_what_was_erased(hub, path):
    space = filled(hub)
    assert files_with(path, needles())
    receipt = space.erase([SECRET])
    assert receipt.complete
    assert files_with(path, needles()) == []
    assert not hub.verify().findings
    hub.close()
    assert files_with(path, needles()) == []


@pytest.mark.parametrize("large", [False, True], ids=["memory", "file"])
def test_rows_that_are_not_sealed_yet_are_erased_too(hub, path, large):
    space = hub.create_space("people", DIMS, metric="l2")
    more = rows(0, 6000 if large else 3)
    space.multiset({**more, SECRET: SECRET_VECTOR})
    space.erase([SECRET])
    assert files_with(path, needles()) == []
    assert contents(space) == {key: value.tobytes() for key, value in more.items()}
    assert len(space) == len(more)


def test_a_key_that_was_deleted_long_ago_is_erased_from_what_is_left(hub, path):
    space = hub.create_space("people", DIMS, metric="l2")
    space.multiset({**rows(0, 100), SECRET: SECRET_VECTOR})
    hub.checkpoint()
    space.delete(SECRET)
    space.set("other", vector(5))
    assert files_with(path, needles())
    receipt = space.erase([SECRET])
    assert [(one.rows, one.rows_live) for one in receipt.versions] == [(1, 0)]
    assert files_with(path, needles()) == []


def test_a_log_that_would_be_written_over_is_not_kept(hub, path):
    space = hub.create_space("people", DIMS, metric="l2")
    space.set(SECRET, SECRET_VECTOR)
    hub.checkpoint()
    space.delete(SECRET)
    hub.checkpoint()
    hub.checkpoint()
    space.erase([SECRET])
    assert files_with(path, needles()) == []


def test_tags_and_forks_change_by_the_erased_keys_and_nothing_else(hub):
    space = filled(hub)
    views = {tag.name: contents_at(space, tag) for tag in space.tags()}
    branch = contents(space.version("branch"))
    assert SECRET in views["first"]
    assert SECRET in views["second"]
    assert SECRET in branch
    space.erase([SECRET, "key3"])
    for name, before in views.items():
        del before[SECRET], before["key3"]
        with space.at(name) as view:
            assert contents(view) == before
    del branch[SECRET], branch["key3"]
    assert contents(space.version("branch")) == branch
    assert space.version("branch").frozen


def test_the_count_of_rows_and_a_search_follow(hub):
    space = filled(hub)
    before = len(space)
    space.erase([SECRET])
    assert len(space) == before - 1
    assert SECRET not in space
    assert SECRET not in space.nearest_neighbors(5, vector=SECRET_VECTOR).keys
    with pytest.raises(ehub.NotFoundError):
        space.get(SECRET)


def test_what_was_erased_stays_so_when_the_hub_is_opened_again(hub, path):
    space = filled(hub)
    space.erase([SECRET])
    expected = contents(space)
    hub.close()
    with ehub.open(path) as again:
        assert contents(again.get_space("people")) == expected
        assert SECRET not in again.get_space("people").at("first")
        assert not again.verify().findings


def test_a_restore_does_not_bring_it_back(hub):
    space = filled(hub)
    space.erase([SECRET])
    space.restore("first")
    assert SECRET not in space
    assert len(space) == 20


def test_a_key_that_is_written_again_is_a_new_one(hub):
    space = filled(hub)
    space.erase([SECRET])
    space.set(SECRET, vector(9))
    assert np.array_equal(space.get(SECRET), vector(9))
    assert SECRET not in space.at("second")


def test_integer_keys_are_erased(hub):
    space = hub.create_space("numbers", DIMS, metric="l2", key_type="int")
    space.multiset(np.arange(50), np.stack([vector(i) for i in range(50)]))
    space.tag("t")
    receipt = space.erase(np.array([7, 99]))
    assert receipt.keys_missing == 1
    assert 7 not in space
    assert 7 not in space.at("t")
    assert receipt.covers(7)
    assert receipt.covers(99)
    assert not receipt.covers(8)


def test_each_version_loses_the_keys_of_its_own_type(hub):
    space = filled(hub)
    numbers = space.create_version("numbers", key_type="int")
    numbers.multiset([1, 2], np.stack([vector(1), vector(2)]))
    space.erase([SECRET, 2])
    assert list(numbers) == [1]
    assert SECRET not in space


@pytest.mark.parametrize("keys", ["abc", b"raw", 5, {"a": 1}, [None], [1.5], [True], [7], [""]])
def test_what_cannot_be_keys_is_refused(hub, keys):
    space = filled(hub)
    before = contents(space)
    with pytest.raises((TypeError, ehub.InvalidKeyError)):
        space.erase(keys)
    assert contents(space) == before


def test_keys_that_are_not_there_are_counted(hub):
    space = filled(hub)
    receipt = space.erase(["nobody", "nobody", "key1"])
    assert len(receipt.key_hashes) == 2
    assert receipt.keys_missing == 1


def test_keys_that_are_stored_anywhere_are_not_missing(hub, monkeypatch):
    """In the log, in segments, dead, in a tag, in another version; and it is asked once for all."""
    space = hub.create_space("some", DIMS, metric="l2")
    space.multiset({f"old{i}": vector(i) for i in range(30)})
    hub.checkpoint()
    space.tag("t")
    space.multidelete(["old1", "old2"])
    space.multiset({"new": vector(1)})
    space.create_version("other").multiset({"elsewhere": vector(2)})
    space.create_version("numbers", key_type="int").multiset([7, -7], [vector(3), vector(4)])
    asked = []
    monkeypatch.setattr(
        "ehub._native._store.missing_keys",
        lambda *told, call=_store.missing_keys: asked.append(told) or call(*told),
    )
    there = ["old0", "old1", "new", "elsewhere", 7, -7]
    gone = [f"nobody{i}" for i in range(20)] + list(range(8, 20))
    plan = space.erasure_plan([*there, *gone])
    assert (plan.keys, plan.keys_missing) == (len(there) + len(gone), len(gone))
    assert len(asked) == 2  # of each type
    assert space.erase([*there, *gone]).keys_missing == len(gone)
    assert space.erasure_plan([*there, *gone]).keys_missing == len(there) + len(gone)


def test_the_receipt_says_what_was_done_and_not_to_whom(hub, path):
    space = filled(hub)
    plan = space.erasure_plan([SECRET])
    receipt = space.erase([SECRET])
    text = str(receipt) + json.dumps(receipt.to_dict())
    assert SECRET not in text
    assert receipt.covers(SECRET)
    assert not receipt.covers("key1")
    assert {one.version: one.rows for one in receipt.versions} == {
        one.version: one.rows for one in plan.versions
    }
    assert {record.path for record in receipt.removed} >= set(plan.files)
    assert receipt.logs_removed >= 1
    for record in receipt.written:
        file = path / record.path
        assert file.stat().st_size == record.bytes
    assert not any((path / record.path).exists() for record in receipt.removed)


# --- what stands in the way ---


def test_the_plan_changes_nothing_and_says_what_has_the_keys(hub):
    space = filled(hub)
    before = contents(space)
    plan = space.erasure_plan([SECRET, "nobody"])
    assert (plan.keys, plan.keys_missing, plan.blockers) == (2, 1, ())
    found = {one.version: one for one in plan.versions}
    assert found["initial"].tags == ("first", "second")
    assert found["initial"].rows == 4 - 1
    assert found["branch"].rows_live == 1
    assert any(file.startswith("wal/") for file in plan.files)
    assert any(file.endswith(".seg") for file in plan.files)
    assert contents(space) == before
    assert "branch" in str(plan)
    json.dumps(plan.to_dict())


def test_an_open_snapshot_is_named_and_refuses_the_erasure(hub):
    space = filled(hub)
    with space.snapshot() as snapshot:
        assert "has 1 open snapshot: close it" in str(space.erasure_plan([SECRET]))
        with pytest.raises(ehub.ConflictError, match="has 1 open snapshot, which"):
            space.erase([SECRET])
        with space.snapshot():
            assert "has 2 open snapshots: close them" in str(space.erasure_plan([SECRET]))
            with pytest.raises(ehub.ConflictError, match="has 2 open snapshots, which"):
                space.erase([SECRET])
        assert SECRET in snapshot
        assert SECRET in space
    assert space.erase([SECRET]).complete


def test_what_a_repair_left_refuses_the_erasure(hub, path):
    space = filled(hub)
    (path / "lost+found").mkdir()
    assert "lost+found" in str(space.erasure_plan([SECRET]))
    with pytest.raises(ehub.ConflictError, match=r"lost\+found"):
        space.erase([SECRET])
    assert SECRET in space


def test_a_hub_that_only_reads_plans_and_does_not_erase(hub, path):
    filled(hub)
    hub.close()
    with ehub.open(path, read_only=True) as reader:
        space = reader.get_space("people")
        assert space.erasure_plan([SECRET]).blockers
        with pytest.raises(ehub.ReadOnlyError):
            space.erase([SECRET])


# --- named averages ---


def test_memberships_and_means_forget_the_key(hub, path):
    space = filled(hub)
    average = space.create_average(
        "profile", groups={GROUP: [SECRET], "both": [SECRET, "key1"], "rest": ["key1", "key2"]}
    )
    mixed = average.get("both").tobytes()
    rest = average.get("rest").tobytes()
    space.erase([SECRET])
    assert files_with(path, [*needles(), mixed]) == []
    assert sorted(average.groups().tolist()) == ["both", "rest"]
    assert np.array_equal(average.get("both"), vector(1))
    assert average.get("rest").tobytes() == rest
    assert not hub.verify().findings
    hub.close()
    with ehub.open(path) as again:
        assert sorted(again.get_space("people").averages("profile").groups().tolist()) == [
            "both",
            "rest",
        ]


def test_a_membership_that_was_removed_before_is_erased_too(hub, path):
    space = filled(hub)
    average = space.create_average("profile", groups={"both": [SECRET, "key1"]})
    mixed = average.get("both").tobytes()
    average.update("both", remove=[SECRET])
    space.erase([SECRET])
    assert files_with(path, [*needles(), mixed]) == []
    assert np.array_equal(average.get("both"), vector(1))


@pytest.mark.parametrize("large", [False, True])
def test_a_group_that_is_named_like_an_erased_key_goes(hub, path, large):
    space = filled(hub)
    average = space.create_average("profile", groups={SECRET: ["key1"], "rest": ["key1"]})
    average.refresh()
    if large:
        hub.checkpoint()
    space.erase([SECRET])
    assert files_with(path, needles()) == []
    assert average.groups().tolist() == average.keys().tolist() == ["rest"]
    average.update(SECRET, add=["key2"])
    assert average.members(SECRET)[0].tolist() == ["key2"]


@pytest.mark.parametrize("sealed", [False, True])
def test_means_of_before_go_where_the_membership_is_long_gone(path, sealed):
    others = rows(0, 30)
    decoys = [f"nobody{i}" for i in range(60)]
    store = _store.Store(
        str(path), background=False, large_batch_bytes=16, carry_bytes_max=0, log_bytes_max=2048
    )
    with ehub.Hub(store) as hub:
        space = hub.create_space("people", DIMS, metric="l2")
        space.multiset(others | {SECRET: SECRET_VECTOR})
        groups = {f"group{key}": [key] for key in others}
        average = space.create_average("profile", groups)
        average.update("both", add=[SECRET, "key1", *decoys])
        if sealed:
            average.refresh()
            hub.checkpoint()
        mixed = average.get("both").tobytes()
        # Most rows of the memberships' segment are dead now, so a checkpoint leaves them out.
        average.update("both", remove=[SECRET, *decoys])
        average.refresh()
        if sealed:
            hub.checkpoint()
            hub.checkpoint()
            assert not any(SECRET in row for row in average._kept.stored_pairs())
        assert files_with(path, [mixed])
        space.erase([SECRET])
        assert files_with(path, [*needles(), mixed]) == []
        assert len(average) == 31
        assert hub.verify().findings == ()


# --- reader processes ---

READER = """
import sys, ehub
hub = ehub.open(sys.argv[1], read_only=True)
space = hub.get_space("people")
with space.snapshot() as held:
    print(len(held), flush=True)
    sys.stdin.readline()
    print(sum(1 for key in held if held.get(key) is not None), "SECRET" in held, flush=True)
hub.refresh()
print(len(space), flush=True)
sys.stdin.readline()
"""


def reader_of(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READER.replace("SECRET", SECRET), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_reader_keeps_its_snapshot_while_the_writer_compacts_restores_and_erases(hub, path):
    space = filled(hub)
    hub.checkpoint()
    with reader_of(path) as reader:
        count = int(reader.stdout.readline())
        assert count == len(space)
        assert space.erasure_plan([SECRET]).readers
        space.delete("key5")
        space.compact()
        space.restore("first")
        receipt = space.erase([SECRET])
        assert not receipt.complete
        assert receipt.held
        assert SECRET not in space
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline().split() == [str(count), "True"]
        assert int(reader.stdout.readline()) == len(space) == 20
        assert hub.finish_erasures(wait=10) == []
        assert files_with(path, needles()) == []
        reader.stdin.write("\n")
        reader.stdin.flush()


def test_what_readers_held_goes_when_the_hub_is_opened_again(hub, path):
    space = filled(hub)
    reader = ehub.open(path, read_only=True)
    assert not space.erase([SECRET]).complete
    hub.close()
    reader.close()
    assert files_with(path, needles())
    with ehub.open(path):
        assert files_with(path, needles()) == []


# --- the command ---


def test_the_command_asks_plans_and_erases(hub, path, tmp_path, capsys):
    filled(hub)
    hub.close()
    listed = tmp_path / "keys.txt"
    listed.write_text(f"{SECRET}\nnobody\n")
    erase = ["erase", str(path), "people", "--keys-from", str(listed)]
    assert run([*erase, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["keys"], plan["keys_missing"], plan["blockers"]) == (2, 1, [])
    assert run(erase) == 1  # nobody answers
    capsys.readouterr()
    assert run([*erase, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "complete" in shown
    assert SECRET not in shown
    assert files_with(path, needles()) == []


def test_the_command_needs_keys_of_the_right_kind(hub, path, capsys):
    hub.create_space("numbers", 2, key_type="int").set(5, [1, 0])
    hub.close()
    assert run(["erase", str(path), "numbers", "--yes"]) == 2
    assert run(["erase", str(path), "numbers", "five", "--yes"]) == 2
    assert run(["erase", str(path), "numbers", "5", "6", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys_missing"] == 1


# --- crashes ---

KILLED = """
import os, sys, ehub
hub = ehub.open(sys.argv[1])
hub.get_space("people").erase([sys.argv[2]])
print("erased", flush=True)
os.kill(os.getpid(), 9)
"""


def test_an_acknowledged_erasure_outlives_a_kill(hub, path):
    filled(hub)
    hub.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), SECRET],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -9
    assert done.stdout == "erased\n"
    with ehub.open(path) as again:
        assert SECRET not in again.get_space("people")
        assert files_with(path, needles()) == []
        assert not again.verify().findings


def test_graphs_are_built_again_without_the_rows(path):
    store = _store.Store(str(path), graph_rows_min=16, background=False)
    with ehub.Hub(store) as hub:
        space = hub.create_space("people", DIMS, metric="l2")
        space.multiset({**rows(0, 300), SECRET: SECRET_VECTOR})
        space.wait_indexed()
        assert space.index_stats().segments == 1
        receipt = space.erase([SECRET])
        assert any(record.path.startswith("index/") for record in receipt.removed)
        assert space.index_stats().rows_indexed == 300
        assert space.nearest_neighbors(1, vector=vector(7)).keys[0] == "key7"


def test_a_directory_in_the_place_of_a_graph_is_not_held(path):
    options = {"graph_rows_min": 16, "background": False}
    with ehub.Hub(_store.Store(str(path), **options)) as hub:
        space = hub.create_space("people", DIMS, metric="l2")
        space.multiset({**rows(0, 300), SECRET: SECRET_VECTOR})
        space.wait_indexed()
    (graph,) = (path / "index").iterdir()
    graph.unlink()
    (graph / "of somebody").mkdir(parents=True)
    with ehub.Hub(_store.Store(str(path), graph_rows_min=1_000, background=False)) as hub:
        assert hub.get_space("people").erase([SECRET]).complete
    assert (graph / "of somebody").is_dir()


def test_a_sub_index_loses_an_erased_key_and_goes_on(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=4, metric="l2")
        rows = np.eye(4, dtype=np.float32)
        items.multiset(list("abcd"), rows)
        some = items.create_subindex("some", keys=["a", "b", "z"])
        assert sorted(some.keys()) == ["a", "b"]
        assert items.erasure_plan(["a"]).blockers == ()
        assert items.erase(["a", "z"]).complete
        assert sorted(some.keys()) == ["b"]
        assert sorted(some.members()) == ["b"]
        assert hub.verify().findings == ()
    with ehub.open(tmp_path / "hub") as hub:
        assert sorted(hub.get_space("items").subindex("some").members()) == ["b"]


def test_a_sub_index_of_a_reader_loses_an_erased_key_too(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("people", DIMS, metric="l2")
        space.multiset(rows(0, 4))
        space.create_subindex("few", keys=["key1", "key2"])
        with ehub.open(tmp_path / "hub", read_only=True) as reader:
            few = reader.get_space("people").subindex("few")
            assert sorted(few.keys()) == ["key1", "key2"]
            space.erase(["key1"])
            space.set("key1", vector(1))
            reader.refresh()
            assert sorted(few.keys()) == ["key2"]
            assert few.nearest_neighbors(5, vector=vector(1)).keys == ["key2"]


def test_an_average_of_a_reader_loses_an_erased_member_and_group_too(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("people", DIMS, metric="l2")
        # Nobody has a row, so nothing but the memberships changes.
        average = space.create_average("profile", {SECRET: ["key1"], "both": [SECRET, "key1"]})
        average.refresh()
        with ehub.open(tmp_path / "hub", read_only=True) as reader:
            seen = reader.get_space("people").averages("profile")
            assert sorted(seen.groups()) == ["both", SECRET]
            space.erase([SECRET])
            reader.refresh()
            assert seen.groups().tolist() == ["both"]
            assert seen.members("both")[0].tolist() == ["key1"]
