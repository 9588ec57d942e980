"""Named averages: groups of keys whose means follow every write, whatever interrupts them."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import ehub
from ehub import memberships

DIMS = 4
RNG = np.random.default_rng(7)


def vectors(n, dims=DIMS):
    return RNG.standard_normal((n, dims)).astype(np.float32)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


@pytest.fixture
def items(hub):
    space = hub.create_space("items", DIMS, metric="l2")
    space.multiset(list("abcdef"), vectors(6))
    return space


@pytest.fixture
def profile(items):
    return items.create_average("profile", {"u1": ["a", "b"], "u2": ["c", "new"], "u3": ["none"]})


def mean(space, members, weights=None):
    return space.average(members, weights)


# --- what it shows ---


def test_a_group_shows_the_mean_of_its_members(items, profile):
    assert np.array_equal(profile.get("u1"), mean(items, ["a", "b"]))


def test_a_mean_is_bit_for_bit_that_of_multi_average(items):
    keys = [f"k{i}" for i in range(500)]
    items.multiset(keys, vectors(500))
    weights = RNG.standard_normal(500)
    groups = {f"g{i}": keys[i * 10 : i * 10 + 10] for i in range(50)}
    average = items.create_average("many", groups, weights)
    assert np.array_equal(average.multiget(groups), items.multi_average(groups, weights))


def test_a_group_that_is_missing_is_an_error_that_names_the_average(items, profile):
    items.create_version("other").set("a", [1, 2, 3, 4])
    other = items.version("other").create_average("profile", {"u1": ["a"]})
    means, base = profile.snapshot()
    with means, base:
        for view, of in (profile, ""), (means, ""), (other, "version 'other' of "):
            said = f"^average 'profile' of {of}space 'items' has no key 'u9' .key"
            with pytest.raises(ehub.NotFoundError, match=said):
                view.multiget(["u1", "u9"])
            with pytest.raises(ehub.NotFoundError, match=said):
                view.nearest_neighbors(1, key="u9")


def test_a_missing_member_counts_from_when_it_is_written(items, profile):
    assert np.array_equal(profile.get("u2"), items["c"])
    items["new"] = vectors(1)[0]
    assert np.array_equal(profile.get("u2"), mean(items, ["c", "new"]))


def test_a_group_without_an_existing_member_has_no_row_until_there_is_one(items, profile):
    assert "u3" not in profile
    assert profile.groups().tolist() == ["u1", "u2", "u3"]
    items["none"] = vectors(1)[0]
    assert np.array_equal(profile["u3"], items["none"])
    del items["none"]
    assert sorted(profile.keys().tolist()) == ["u1", "u2"]


def test_an_overwrite_and_a_delete_are_seen_by_the_next_read(items, profile):
    items["a"] = vectors(1)[0]
    assert np.array_equal(profile.get("u1"), mean(items, ["a", "b"]))
    del items["b"]
    assert np.array_equal(profile.get("u1"), items["a"])


def test_huge_values_leave_no_trace_when_they_are_overwritten(items, profile):
    for value in (1e30, -3e37, 1.0):
        items["a"] = np.full(DIMS, value, np.float32)
        assert np.array_equal(profile.get("u1"), mean(items, ["a", "b"]))


def test_all_members_gone_at_once(items, profile):
    items.delete_all()
    assert len(profile) == 0
    assert len(profile.groups()) == 3


def test_weights_that_sum_to_zero_have_no_mean(items):
    average = items.create_average("w", {"g": ["a", "b"]}, [1, -1])
    assert len(average) == 0
    average.update("g", ["b"], weights=[3])
    assert np.array_equal(average["g"], mean(items, ["a", "b"], [1, 3]))


def test_under_cosine_a_mean_without_direction_is_not_there(hub):
    space = hub.create_space("cosine", 2, metric="cosine")
    space.multiset(["a", "b", "tiny"], [[1, 0], [-1, 0], [1e-15, 0]])
    average = space.create_average("p", {"zero": ["a", "b"], "tiny": ["tiny"]})
    assert average.keys().tolist() == ["tiny"]
    assert average.metric == "cosine"
    space["b"] = [0, 1]
    assert average["zero"].tolist() == [0.5, 0.5]


def test_normalised_means_have_unit_length(items):
    average = items.create_average("unit", {"g": ["a", "b", "c"]}, normalize=True)
    assert np.array_equal(average["g"], items.average(["a", "b", "c"], normalize=True))
    assert items.averages("unit").normalize


def test_weights_keep_all_their_bits():
    values = np.array([0.1, -1e300, 5e-324, 2**53 + 2.0, -0.0, np.pi, np.nan])
    kept = memberships.from_pieces(memberships.as_pieces(values), np.float64)[:, 0]
    assert kept.tobytes() == values.tobytes()
    stamps = RNG.integers(0, 2**64, (5, 2), np.uint64)
    assert np.array_equal(memberships.from_pieces(memberships.as_pieces(stamps), np.uint64), stamps)


# --- read like a space ---


def test_it_is_read_and_searched_like_a_space(items):
    groups = {f"user-{i}": [key] for i, key in enumerate("abcdef")}
    average = items.create_average("profile", groups)
    assert average.name == "profile"
    assert average.space == "items"
    found = average.nearest_neighbors(3, key="user-0")
    truth = items.nearest_neighbors(3, key="a", exact=True)
    assert found.keys.tolist() == [f"user-{'abcdef'.index(key)}" for key in truth.keys]
    keys, rows = average.to_numpy()
    assert np.array_equal(rows, items.multiget([groups[key][0] for key in keys]))
    assert sorted(average) == sorted(groups)
    assert np.array_equal(average.multiget(["user-1"])[0], items["b"])
    many = average.multi_nearest_neighbors(1, vectors=items.multiget(["c", "d"]))
    assert [n.keys.tolist() for n in many] == [["user-2"], ["user-3"]]
    assert sum(len(keys) for keys, _ in average.scan(2)) == 6


def test_groups_and_members_may_be_integers(hub):
    space = hub.create_space("numbers", DIMS, metric="l2", key_type="int")
    space.multiset([-1, 0, 2**62], vectors(3))
    average = space.create_average("p", {7: [-1, 2**62], -8: np.array([0, 5])})
    assert average.key_type == "int"
    assert np.array_equal(average[7], mean(space, [-1, 2**62]))
    keys, weights = average.members(-8)
    assert keys.dtype == np.int64
    assert keys.tolist() == [0, 5]
    assert weights.tolist() == [1, 1]


def test_keys_with_any_characters_are_told_apart(items):
    items.multiset(["1:x", ":", "xé", "é\0"], vectors(4))
    groups = {"1": ["1:x", ":"], "1:1": ["x\u00e9"], "\u00e9": ["\u00e9\0", ":"]}
    items.create_average("odd", groups)
    again = items._as_version().averages("odd")
    again._kept._load()
    for group, members in groups.items():
        assert sorted(again.members(group)[0].tolist()) == sorted(members)
        assert np.allclose(again[group], mean(items, members))


def test_a_mean_that_is_not_there_is_an_error_that_says_why(profile):
    with pytest.raises(ehub.NotFoundError, match=r"average 'profile' has no mean of group 'u3'$"):
        profile.get("u3")
    with pytest.raises(ehub.NotFoundError, match="there is no such group"):
        profile.get("nobody")


# --- groups change ---


def test_update_adds_removes_and_weighs_members(items, profile):
    profile.update("u1", add=["c", "d"], remove=["a", "not a member"], weights=[2, 0.5])
    members, weights = profile.members("u1")
    assert dict(zip(members, weights, strict=True)) == {"b": 1, "c": 2, "d": 0.5}
    assert np.allclose(profile["u1"], mean(items, ["b", "c", "d"], [1, 2, 0.5]), rtol=1e-6)


def test_a_member_that_is_added_again_has_the_last_weight(items, profile):
    profile.update("u1", add=["a", "a"], weights=[5, 7])
    assert np.allclose(profile["u1"], mean(items, ["a", "b"], [7, 1]), rtol=1e-6)


def test_many_groups_change_in_one_batch(items, profile):
    before = profile._kept.base.store.seq
    profile.multi_update({"u1": ["e"], "u9": ["f"]}, weights={"u1": [2], "u9": [3]})
    assert profile._kept.base.store.seq == before + 1
    assert np.array_equal(profile["u9"], items["f"])
    assert np.allclose(profile["u1"], mean(items, ["a", "b", "e"], [1, 1, 2]), rtol=1e-6)


def test_a_group_goes_with_its_last_member(profile):
    profile.update("u1", remove=["a", "b"])
    assert profile.groups().tolist() == ["u2", "u3"]
    assert "u1" not in profile
    profile.delete("u2")
    assert len(profile) == 0
    assert profile.multidelete(["u3", "u3", "nobody"]) == 1
    with pytest.raises(ehub.NotFoundError, match="no group 'u2'"):
        profile.delete("u2")


def test_a_refused_update_changes_nothing(profile):
    refused = [
        (lambda: profile.update("u1", ["c"], ["c"]), ehub.InvalidArgumentError, "get and to lose"),
        (lambda: profile.update("u1", ["c"], weights=[np.nan]), ehub.InvalidArgumentError, "nan"),
        (lambda: profile.update("u1", ["c"], weights=[1, 2]), ehub.InvalidArgumentError, "shape"),
        (lambda: profile.update("u1", [3]), ehub.InvalidKeyError, "int"),
        (lambda: profile.update(3, ["c"]), ehub.InvalidKeyError, "int"),
        (lambda: profile.update("u1", "abc"), TypeError, "collection of keys"),
        (lambda: profile.update("u" * 600, ["c" * 600]), ehub.InvalidKeyError, "bytes"),
        (lambda: profile.multi_update([("u1", "c")]), TypeError, "mapping"),
        (lambda: profile.multidelete("u1"), TypeError, "collection"),
    ]
    for call, error, words in refused:
        with pytest.raises(error, match=words):
            call()
    assert profile.members("u1")[0].tolist() == ["a", "b"]
    assert profile.groups().tolist() == ["u1", "u2", "u3"]


# --- names ---


def test_averages_are_listed_found_and_deleted_by_name(hub, items, profile):
    items.create_average("other")
    assert items.averages() == ["other", "profile"]
    with pytest.raises(ehub.ExistsError, match="'profile' already"):
        items.create_average("profile")
    items.delete_average("profile")
    assert items.averages() == ["other"]
    for call in (items.averages, items.delete_average):
        with pytest.raises(ehub.NotFoundError, match="no average 'profile'"):
            call("profile")
    with pytest.raises(ehub.NotFoundError):
        profile.get("u1")
    again = items.create_average("profile", {"u1": ["c"]})
    assert again.keys().tolist() == ["u1"]


def test_a_refused_average_leaves_nothing(hub, items):
    before = len(hub._store.versions("items"))
    with pytest.raises(ehub.InvalidKeyError):
        items.create_average("p", {"g": [1]})
    with pytest.raises(ehub.InvalidArgumentError):
        items.create_average("\0p")
    with pytest.raises(TypeError):
        items.create_average("p", normalize=1)
    assert len(hub._store.versions("items")) == before
    assert items.averages() == []


def test_what_an_average_is_made_of_is_hidden(hub, items, profile):
    assert items.versions() == ["initial"]
    assert hub.spaces() == ["items"]
    with pytest.raises(ehub.NotFoundError):
        items.version(profile._table.version)
    with pytest.raises(ehub.InvalidArgumentError, match="the hub's own"):
        items.create_version("\0mine")


def test_deleting_the_version_or_the_space_deletes_its_averages(hub, items):
    version = items.create_version("v2")
    version.create_average("p", {"g": ["a"]})
    items.delete_version("v2")
    assert len(hub._store.versions("items")) == 1
    assert items.create_version("v2").averages() == []
    items.create_average("q", {"g": ["a"]})
    assert len(hub._averages) == 1
    hub.delete_space("items")
    assert hub._averages == {}
    assert hub._store.notes("average/") == {}
    assert hub.create_space("items", DIMS).averages() == []


def test_a_fork_begins_without_averages_and_leaves_those_of_its_source(items, profile):
    fork = items.fork("fork")
    assert fork.averages() == []
    fork["a"] = vectors(1)[0]
    assert np.array_equal(profile["u1"], mean(items, ["a", "b"]))


def test_a_frozen_version_can_have_averages(items):
    items.freeze()
    average = items.create_average("p", {"g": ["a"]})
    average.update("g", ["b"])
    assert np.array_equal(average["g"], mean(items, ["a", "b"]))


def test_a_space_has_the_averages_of_the_version_behind_default(items, profile):
    items.create_version("v2", dims=2)
    items.promote("v2")
    assert items.averages() == []
    items.rollback()
    assert items.averages() == ["profile"]


@pytest.mark.parametrize("gone", ["closed", "deleted"])
def test_an_average_that_is_gone_answers_no_call(hub, items, profile, gone):
    profile.refresh()
    if gone == "closed":
        hub.close()
    else:
        items.delete_average("profile")
    calls = [
        lambda: profile.get("u1"),
        lambda: profile.multiget(["u1"]),
        lambda: profile.nearest_neighbors(1, key="u1"),
        lambda: profile.groups(),
        lambda: profile.members("u1"),
        lambda: profile.update("u1", ["c"]),
        lambda: profile.update("u1", remove=["a"]),
        lambda: profile.delete("u1"),
        lambda: profile.stale(),
        lambda: profile.refresh(),
        lambda: profile.snapshot(),
        lambda: profile.optimize(),
        lambda: len(profile),
    ]
    for call in calls:
        with pytest.raises(ehub.ClosedError if gone == "closed" else ehub.NotFoundError):
            call()


# --- times ---


def test_a_snapshot_of_both_is_of_one_time(items, profile):
    means, base = profile.snapshot()
    with means, base:
        before = base.average(["a", "b"])
        items["a"] = vectors(1)[0]
        assert not np.array_equal(profile["u1"], before)
        assert np.array_equal(means["u1"], before)
        assert np.array_equal(base.average(["a", "b"]), before)


def test_means_follow_a_version_back_to_a_tag(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(["a", "b"], vectors(2))
        items.tag("before")
        old = mean(items, ["a", "b"])
        average = items.create_average("p", {"g": ["a", "b"], "h": ["b"]})
        items["a"] = vectors(1)[0]
        assert np.array_equal(average["g"], mean(items, ["a", "b"]))
        items.restore("before")
        assert np.array_equal(average["g"], old)
        items["a"] = vectors(1)[0]
        average.refresh()
    with ehub.open(tmp_path) as hub:  # nobody holds the time of the last refresh any more
        items = hub.get_space("items")
        items.restore("before")
        hub.checkpoint()
        items.compact()
        average = items.averages("p")
        assert average.stale() == 1
        assert np.array_equal(average["g"], old)
        assert average.stale() == 0


def test_a_reader_sees_what_the_writer_made_and_says_how_old_it_is(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(["a", "b"], vectors(2))
        average = items.create_average("p", {"g": ["a"], "h": ["b"]})
        average.refresh()
        with ehub.open(tmp_path, read_only=True) as reader:
            seen = reader.get_space("items").averages("p")
            assert np.array_equal(seen["g"], items["a"])
            assert seen.stale() == 0
            old = items["a"]
            items["a"] = vectors(1)[0]
            reader.refresh()
            assert seen.stale() == 1
            assert np.array_equal(seen["g"], old)
            with pytest.raises(ehub.ReadOnlyError, match="1 groups are older"):
                seen.snapshot()
            with pytest.raises(ehub.ReadOnlyError):
                seen.update("g", ["b"])
            average.refresh()
            reader.refresh()
            assert seen.stale() == 0
            assert np.array_equal(seen["g"], items["a"])
            assert seen.groups().tolist() == ["g", "h"]
            assert reader.verify().ok


def test_threads_see_means_of_one_time(items):
    average = items.create_average("p", {f"g{i}": ["a", "b"] for i in range(20)})
    stop = threading.Event()

    def write():
        value = 0.0
        while not stop.is_set():
            value += 1
            items.multiset(["a", "b"], np.full((2, DIMS), value, np.float32))

    writer = threading.Thread(target=write)
    items.multiset(["a", "b"], np.zeros((2, DIMS), np.float32))
    writer.start()
    try:
        for _ in range(100):
            rows = average.to_numpy()[1]
            assert rows.shape == (20, DIMS)
            assert (rows == rows[0, 0]).all()
    finally:
        stop.set()
        writer.join()


# --- interrupted and damaged ---


class Stopped(Exception):
    """The process ends here."""


def stop_at(monkeypatch, average, method, call):
    """Ends the process, as it were, before the n-th `_set` or `_unset` of a refresh."""
    calls = []
    original = getattr(average._kept, method)

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise Stopped
        return original(*arguments)

    monkeypatch.setattr(average._kept, method, counted)


@pytest.mark.parametrize(
    ("method", "call"), [("_set", 1), ("_unset", 1), ("_set", 2), ("_unset", 2)]
)
def test_a_refresh_that_a_crash_cuts_short_is_done_again(tmp_path, monkeypatch, method, call):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(list("abcd"), vectors(4))
        items.tag("old")
        average = items.create_average("p", {"g": ["a", "b"], "h": ["c"], "i": ["d"]})
        average.refresh()
        items["a"] = vectors(1)[0]
        items.multidelete(["c"])
        average.multidelete(["i"])
        stop_at(monkeypatch, average, method, call)
        with pytest.raises(Stopped):
            average.refresh()
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        average = items.averages("p")
        # Also back at the time that the stamps are of, while the means are not.
        for members in (["a", "b"], ["a", "b"]):
            assert np.array_equal(average["g"], mean(items, members))
            items.restore("old")
        assert np.array_equal(average["g"], mean(items, ["a", "b"]))
        assert np.array_equal(average["h"], items["c"])
        assert sorted(average.keys().tolist()) == ["g", "h"]
        assert hub.verify().ok


@pytest.mark.parametrize(("method", "call"), [("_set", 2), ("_unset", 1)])
def test_a_crash_before_the_stamps_and_a_restore_of_what_they_say(
    tmp_path, monkeypatch, method, call
):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(list("ab"), vectors(2))
        items.tag("old")
        average = items.create_average("p", {"g": ["a", "b"]})
        average.refresh()
        items["a"] = vectors(1)[0]
        stop_at(monkeypatch, average, method, call)
        with pytest.raises(Stopped):
            average.refresh()
        items.restore("old")
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        assert np.array_equal(items.averages("p")["g"], mean(items, ["a", "b"]))


def test_an_update_that_a_crash_cuts_short_counts_whole(tmp_path, monkeypatch):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(list("abc"), vectors(3))
        average = items.create_average("p", {"g": ["a", "b"]})
        average.refresh()
        rows = average._kept._rows

        class Failing:
            def __getattr__(self, name):
                if name == "multidelete":
                    raise Stopped
                return getattr(rows, name)

        monkeypatch.setattr(average._kept, "_rows", Failing())
        with pytest.raises(Stopped):
            average.update("g", ["c"], ["a"])
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        average = items.averages("p")
        assert sorted(average.members("g")[0].tolist()) == ["b", "c"]
        assert np.array_equal(average["g"], mean(items, ["b", "c"]))
        assert average._kept._rows.row_count() == 2


def test_an_unfinished_average_is_not_there_and_is_swept(tmp_path, monkeypatch):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS)
        hub._store.create_version("items", "\0" + f"{items._table.id}/1/means", DIMS, "l2", "str")
        assert items.averages() == []
        items.create_average("p", {"g": ["a"]})
        assert len(hub._store.versions("items")) == 4


def test_verify_finds_a_mean_that_is_not_that_of_its_members(hub, items, profile):
    profile.refresh()
    assert hub.verify().ok
    value = profile["u1"]
    value[2] += 1e-4
    profile._table.set("u1", value)
    found = hub.verify().findings
    assert [finding.what for finding in found] == [
        "the mean of group 'u1' is not that of its members"
    ]
    assert "average 'profile' of version 'initial' of space 'items'" in found[0].path
    assert np.array_equal(profile["u1"], mean(items, ["a", "b"]))  # a read mends it then
    assert hub.verify().ok


def test_verify_finds_a_mean_that_is_missing(hub, items, profile):
    profile.refresh()
    profile._table.delete("u2")
    assert len(hub.verify().findings) == 1


def test_verify_takes_old_means_for_what_they_are(hub, items, profile):
    profile.refresh()
    items["a"] = vectors(1)[0]
    assert profile.stale() == 1
    assert hub.verify().ok


def test_verify_lets_the_last_bit_differ_for_sums_depend_on_their_order(hub, items, profile):
    big = np.array([3e7, -3e7, 1e-3, 1], np.float32)
    items.multiset(["x", "y", "z"], [big, -big, big * 1e-8])
    profile.update("u1", ["x", "y", "z"], weights=[1 / 3, 1 / 3, 1 / 7])
    profile.refresh()
    row = profile["u1"]
    profile._table.set("u1", np.nextafter(row, np.float32(np.inf)))
    assert hub.verify().ok


# --- the command line ---


def test_the_command_prints_averages_of_keys_and_named_ones(cli, tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2", key_type="int")
        items.multiset([1, 2], [[1, 2], [3, 5]])
        items.create_average("p", {"g": [1, 2], "h": [9]}).refresh()
        items.create_average("q", {7: [1]})
    code, out, _ = cli("average", tmp_path, "items", 1, 2, "--json")
    assert code == 0
    assert json.loads(out)["means"] == [{"key": "average", "vector": [2, 3.5]}]
    code, out, _ = cli("average", tmp_path, "items", "--json")
    assert json.loads(out)["averages"] == [
        {"name": "p", "groups": 2, "means": 1, "old": 0},
        {"name": "q", "groups": 1, "means": 0, "old": 1},
    ]
    assert cli("average", tmp_path, "items")[1] == "p\t2\t1\t0\nq\t1\t0\t1\n"
    assert cli("average", tmp_path, "items", "--name", "p")[1] == "g\t2\tyes\nh\t1\tno\n"
    code, out, _ = cli("average", tmp_path, "items", "--name", "p", "--json")
    assert json.loads(out)["groups"][0] == {"group": "g", "members": 2, "has_mean": True}
    assert cli("average", tmp_path, "items", "--name", "p", "g")[1] == "g\t[2.0, 3.5]\n"
    code, _, err = cli("average", tmp_path, "items", "--name", "none")
    assert code == 1
    assert "no average 'none'" in err
    assert cli("average", tmp_path, "items", "--normalize")[0] == 2
    assert cli("average", tmp_path, "items", "--name", "q", "x")[0] == 2
