"""Averages are what numpy says in float64, whatever was written, on any number of cores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cores import one_core
from hypothesis import given, settings
from hypothesis import strategies as st
from indexed import open_hub

import ehub

DIMS = 4


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def items(hub):
    items = hub.create_space("items", dims=DIMS, metric="l2")
    items.multiset(["a", "b", "c"], [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 2, 0]])
    return items


# --- one average ---


def test_a_normalized_average_has_unit_length(items):
    mean = items.average(["a", "b"], normalize=True)
    expected = np.array([3.0, 4, 5, 6])
    np.testing.assert_allclose(mean, expected / np.linalg.norm(expected), rtol=1e-6)
    assert mean.dtype == np.float32
    huge = items.hub.create_space("huge", dims=DIMS, metric="l2")
    huge.set("a", [3e38] * 4)
    np.testing.assert_allclose(huge.average(["a"], [1e200], normalize=True), [0.5] * 4, rtol=1e-6)


def test_an_average_that_is_zero_cannot_be_normalized(items):
    items.multiset(["x", "y"], [[1, 2, 3, 4], [-1, -2, -3, -4]])
    assert items.average(["x", "y"]).tolist() == [0] * 4
    with pytest.raises(ehub.InvalidVectorError, match="is zero: it has no direction"):
        items.average(["x", "y"], normalize=True)
    with pytest.raises(TypeError, match="normalize is 'yes'"):
        items.average(["a"], normalize="yes")


def test_weights_need_no_sum_of_one(items):
    np.testing.assert_allclose(items.average(["a", "b"], [3e300, 1e300]), [2, 3, 4, 5], rtol=1e-6)
    with pytest.raises(ehub.InvalidArgumentError, match="zero or not finite"):
        items.average(["a", "b"], [1e308, 1e308])


# --- many groups ---


def test_a_mapping_of_groups_is_answered_in_its_order(items):
    means = items.multi_average({"late": ["b"], "early": ["a", "b"], 3: ("c", "c")})
    assert (means.dtype, means.shape) == (np.float32, (3, DIMS))
    assert means.tolist() == [[5, 6, 7, 8], [3, 4, 5, 6], [0, 0, 2, 0]]


def test_flat_keys_and_offsets_are_groups(items):
    means = items.multi_average(["b", "a", "b"], offsets=[0, 1, 3])
    assert means.tolist() == [[5, 6, 7, 8], [3, 4, 5, 6]]
    assert items.multi_average([], offsets=[0]).shape == (0, DIMS)
    assert items.multi_average({}).shape == (0, DIMS)
    assert items.multi_average({}, {}).shape == (0, DIMS)


def test_a_group_of_many_averages_is_the_average(items):
    for weights in (None, [1, 2, -0.5]):
        alone = items.average(["a", "b", "c"], weights)
        given_weights = None if weights is None else {"g": weights}
        together = items.multi_average({"g": ["a", "b", "c"]}, given_weights)
        assert together[0].tobytes() == alone.tobytes()


def test_weights_come_by_group_or_in_one_sequence(items):
    groups = {"x": ["a", "b"], "y": iter(["c", "a"])}
    by_group = items.multi_average(groups, {"y": np.array([2, 2]), "x": [3, 1]})
    groups["y"] = iter(["c", "a"])
    flat = items.multi_average(groups, np.array([3.0, 1, 2, 2]))
    assert by_group.tolist() == flat.tolist() == [[2, 3, 4, 5], [0.5, 1, 2.5, 2]]


def test_groups_of_integer_keys_come_as_arrays(hub):
    items = hub.create_space("numbers", dims=1, metric="l2", key_type="int")
    items.multiset(np.arange(10), np.arange(10)[:, None])
    groups = {"low": np.arange(3, dtype=np.int32), "high": np.array([8, 9], np.uint8)}
    assert items.multi_average(groups).tolist() == [[1], [8.5]]
    assert items.multi_average({"a": np.array([1], np.uint64), "b": [9]}).tolist() == [[1], [9]]
    assert items.multi_average(np.arange(10), offsets=np.array([0, 5, 10])).tolist() == [[2], [7]]


def test_a_missing_member_is_named(items):
    with pytest.raises(ehub.NotFoundError, match=r"has no key 'x' \(key 2 of 4\)"):
        items.multi_average({"g": ["a", "b"], "h": ["x", "y"]})


def test_missing_members_can_be_left_out_with_their_weights(items):
    groups = {"some": ["x", "a", "b"], "none": ["x"], "empty": [], "all": ["c"]}
    means, found = items.multi_average(groups, [100, 3, 1, 5, 1], default=None)
    assert means.tolist() == [[2, 3, 4, 5], [0] * 4, [0] * 4, [0, 0, 2, 0]]
    assert (found.dtype, found.tolist()) == (np.int64, [2, 0, 0, 1])
    with pytest.raises(ehub.InvalidArgumentError, match="default is 0"):
        items.multi_average(groups, default=0)


def test_a_group_without_an_average_is_named(items):
    items.multiset(["n", "h", "i"], [[-1, -2, -3, -4], [3e38] * 4, [-3e38] * 4])
    for groups, weights, options, error, message in [
        ({"g": ["a"], "e": []}, None, {}, ValueError, "group 'e' is empty"),
        ({"g": ["a"], "e": ["a", "b"]}, [1, 1, -1], {}, ValueError, "weights of group 'e'"),
        ({"g": ["a"], "e": ["a"]}, [1, np.nan], {}, ValueError, "weights of group 'e'"),
        (
            {"z": ["a", "n"]},
            None,
            {"normalize": True},
            ehub.InvalidVectorError,
            "group 'z' is zero",
        ),
        ({"o": ["h", "i"]}, [2, -1], {}, ehub.InvalidVectorError, "group 'o' is too large"),
        ({"e": ["a"]}, [0], {"default": None}, ValueError, "weights of group 'e'"),
    ]:
        with pytest.raises(error, match=message):
            items.multi_average(groups, weights, **options)
    with pytest.raises(ehub.InvalidArgumentError, match="group 1 is empty"):
        items.multi_average(["a", "b"], offsets=[0, 1, 1, 2])


BAD_GROUPS = {
    "no offsets": ((["a"],), {}, "needs a mapping"),
    "mapping and offsets": (({"g": ["a"]},), {"offsets": [0, 1]}, "needs no offsets"),
    "a set": (({"a", "b"},), {"offsets": [0, 2]}, "order is arbitrary"),
    "a string for keys": (({"g": "abc"},), {}, "group 'g' is 'abc'"),
    "a number for keys": (({"g": 5},), {}, "group 'g' is 5"),
    "offsets beyond": ((["a", "b"],), {"offsets": [0, 3]}, "expected 0 to 2"),
    "offsets from 1": ((["a", "b"],), {"offsets": [1, 2]}, "from 1 to 2"),
    "offsets that fall": ((["a", "b"],), {"offsets": [0, 2, 1, 2]}, "group 1 goes from 2 to 1"),
    "offsets of floats": ((["a"],), {"offsets": [0.0, 1.0]}, "expected integers"),
    "no offset": ((["a"],), {"offsets": np.empty(0, np.int64)}, r"expected \(g \+ 1,\)"),
    "few weights": (({"g": ["a", "b"]}, [1]), {}, r"weights have shape \(1,\)"),
    "few weights of a group": (({"g": ["a"], "h": ["b"]}, {"g": [1], "h": []}), {}, "group 'h'"),
    "weights of others": (({"g": ["a"]}, {"x": [1]}), {}, "'x' is not in both"),
    "weights by group, flat keys": ((["a"], {"g": [1]}), {"offsets": [0, 1]}, "and groups are not"),
    "weights of text": (({"g": ["a"]}, ["1"]), {}, "expected numbers"),
    "two dims": (({"g": np.array([["a"]], object)},), {}, "expected one dimension"),
}


WRONG_TYPES = {"a set", "a string for keys", "a number for keys", "offsets of floats"}
WRONG_TYPES |= {"weights of text"}


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_what_are_no_groups_is_refused(items, name):
    arguments, options, message = BAD_GROUPS[name]
    error = TypeError if name in WRONG_TYPES else ehub.InvalidArgumentError
    with pytest.raises(error, match=message):
        items.multi_average(*arguments, **options)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.lists(st.integers(0, 30), min_size=1, max_size=20)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 30), max_size=5)),
        st.tuples(st.just("checkpoint"), st.none()),
        st.tuples(st.just("compact"), st.none()),
    ),
    min_size=1,
    max_size=12,
)
GROUPS = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.125, 8, width=32)), max_size=30), max_size=8
)


@settings(max_examples=60)
@given(operations=OPERATIONS, groups=GROUPS, seed=st.integers(0, 9), weighted=st.booleans())
def test_many_averages_are_those_of_numpy_whatever_was_written(
    tmp_path_factory, operations, groups, seed, weighted
):
    rng = np.random.default_rng(seed)
    model: dict[int, np.ndarray] = {}
    limits = {"carry_bytes_max": 0, "large_batch_bytes": 256, "segment_bytes_max": 512}
    with open_hub(tmp_path_factory.mktemp("hub"), **limits) as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        for operation, keys in operations:
            if operation == "set":
                vectors = rng.standard_normal((len(keys), DIMS), dtype=np.float32)
                items.multiset(keys, vectors)
                model.update(zip(keys, vectors, strict=True))
            elif operation == "delete":
                items.multidelete(keys)
                for key in keys:
                    model.pop(key, None)
            else:
                (hub.checkpoint if operation == "checkpoint" else items.compact)()
        named = {i: [key for key, _ in group] for i, group in enumerate(groups)}
        weights = [weight for group in groups for _, weight in group] if weighted else None
        means, found = items.multi_average(named, weights, default=None)
    for i, group in enumerate(groups):
        there = [(model[key], weight) for key, weight in group if key in model]
        assert found[i] == len(there)
        expected = np.zeros(DIMS)
        if there:
            rows = np.array([row for row, _ in there], np.float64)
            shares = [weight for _, weight in there] if weighted else None
            expected = np.average(rows, axis=0, weights=shares)
        np.testing.assert_allclose(means[i], expected, rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A space in whose groups there is work for several threads, large groups and small ones."""
    with ehub.open(tmp_path_factory.mktemp("large"), durability="off") as hub:
        items = hub.create_space("items", dims=32, metric="l2", key_type="int")
        vectors = np.random.default_rng(0).standard_normal((40_000, 32), dtype=np.float32)
        items.multiset(np.arange(30_000), vectors[:30_000])
        hub.checkpoint()
        items.multiset(np.arange(20_000, 40_000), vectors[20_000:], partition="late")
        yield items, vectors


def large_groups() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = np.concatenate([[50_000], rng.integers(1, 40, 4000), [4096, 4097, 30_000]])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return rng.integers(0, 40_000, offsets[-1]), offsets, rng.random(offsets[-1]) + 0.1


def test_large_and_small_groups_are_right(large):
    items, vectors = large
    keys, offsets, weights = large_groups()
    means = items.multi_average(keys, offsets=offsets)
    weighted = items.multi_average(keys, weights, offsets=offsets)
    rows = vectors.astype(np.float64)
    for g in (0, 1, 2, 1000, 4000, 4001, 4002, 4003):
        members = slice(offsets[g], offsets[g + 1])
        np.testing.assert_allclose(means[g], rows[keys[members]].mean(axis=0), rtol=1e-5, atol=1e-7)
        expected = np.average(rows[keys[members]], axis=0, weights=weights[members])
        np.testing.assert_allclose(weighted[g], expected, rtol=1e-5, atol=1e-7)


def test_groups_of_a_mapping_may_be_lists_tuples_and_arrays(large):
    items, vectors = large
    kinds = [list, tuple, np.array, lambda keys: keys.astype(np.uint32), set, iter]
    chosen = np.random.default_rng(2).permutation(40_000)[: len(kinds) * 50].reshape(-1, 50)
    expected = vectors[chosen].mean(axis=1, dtype=np.float64)
    for some in (kinds, kinds[:2], kinds[2:4]):
        groups = {f"group {i}": kind(chosen[i]) for i, kind in enumerate(some)}
        means = items.multi_average(groups)
        np.testing.assert_allclose(means, expected[: len(some)], rtol=1e-5, atol=1e-7)


def test_rows_of_every_age_are_found_at_every_time(tmp_path):
    """Keys overwritten, deleted and written again, in many segments and in memory."""
    rng = np.random.default_rng(3)
    with ehub.open(tmp_path, durability="off") as hub:
        items = hub.create_space("items", dims=1, metric="l2")
        names = np.array([f"key {i}" for i in range(3000)], object)
        now: dict[str, float] = {}
        moments = []
        for turn in range(8):
            written = rng.permutation(3000)[: 2500 - 300 * turn]
            partition = [f"{number % 2}" for number in written]
            items.multiset(names[written], np.full((len(written), 1), turn), partition=partition)
            now.update(dict.fromkeys(names[written], float(turn)))
            gone = names[rng.permutation(3000)[:100]]
            items.multidelete(gone)
            for name in gone:
                now.pop(name, None)
            if turn % 3 != 2:
                hub.checkpoint()
            moments.append((items.snapshot(), dict(now)))
        for snapshot, then in moments:
            found, there = snapshot.multiget(names, default=None)
            assert dict(zip(names[there], found[there, 0].tolist(), strict=True)) == then
            means, counts = snapshot.multi_average(names, offsets=[0, 1500, 3000], default=None)
            halves = [
                [then[name] for name in half if name in then]
                for half in (names[:1500], names[1500:])
            ]
            assert counts.tolist() == list(map(len, halves))
            np.testing.assert_allclose(means[:, 0], list(map(np.mean, halves)), rtol=1e-6)
            snapshot.close()
        _, odd = items.partition("1").multiget(names, default=None)
        assert odd.tolist() == [name in now and int(name[4:]) % 2 == 1 for name in names]


def test_the_number_of_cores_does_not_change_a_bit(large):
    items, _ = large
    keys, offsets, weights = large_groups()

    def answers():
        return [
            items.multi_average(keys, weights, offsets=offsets).tobytes(),
            items.multi_average(keys, offsets=offsets, normalize=True).tobytes(),
            items.average(keys[:50_000]).tobytes(),
            items.multiget(keys).tobytes(),
            *(mean.tobytes() for mean in items.partition_averages().values()),
        ]

    many = answers()
    with one_core():
        assert answers() == many


def test_the_first_missing_of_very_many_keys_is_named(large):
    items, _ = large
    keys = np.arange(39_999).repeat(2)
    keys[[60_001, 60_000, 77_777]] = [-2, -1, -3]
    for call in (items.multiget, items.average):
        with pytest.raises(ehub.NotFoundError, match=r"has no key -1 \(key 60000 of 79998\)"):
            call(keys)
    _, found = items.multiget(keys, default=None)
    assert np.flatnonzero(~found).tolist() == [60_000, 60_001, 77_777]
    offsets = np.append(np.arange(0, len(keys), 7), len(keys))
    for _ in range(20):
        with pytest.raises(ehub.NotFoundError, match=r"has no key -1 \(key 60000 of 79998\)"):
            items.multi_average(keys, offsets=offsets)
    _, found = items.multi_average(keys, offsets=offsets, default=None)
    np.testing.assert_array_equal(found, np.add.reduceat(keys >= 0, offsets[:-1], dtype=np.int64))


def test_a_group_has_the_same_bits_wherever_its_rows_lie_and_whatever_is_beside_it(tmp_path):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((30_000, 48), dtype=np.float32)
    keys = [f"key {i}" + "é" * (i % 3) for i in range(len(vectors))]
    sizes = rng.integers(0, 60, 1500)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    chosen = rng.integers(0, len(keys) + 300, offsets[-1])  # some are not there
    members = [keys[i] if i < len(keys) else f"none {i}" for i in chosen.tolist()]
    weights = rng.random(len(members)) + 0.1
    expected = None
    with ehub.open(tmp_path, durability="off") as hub:
        for name, pieces in (("whole", 1), ("many", 5)):
            items = hub.create_space(name, dims=48, metric="l2")
            for part in np.array_split(np.arange(len(keys)), pieces):
                items.multiset([keys[i] for i in part.tolist()], vectors[part])
                hub.checkpoint()
            items.multiset(keys[:2000], vectors[:2000])  # in memory, and dead where they were
            means, found = items.multi_average(members, weights, offsets=offsets, default=None)
            assert found.tolist() == [
                int((chosen[begin:end] < len(keys)).sum())
                for begin, end in itertools.pairwise(offsets)
            ]
            for g in np.flatnonzero(found)[::97].tolist():
                one = slice(offsets[g], offsets[g + 1])
                alone, _ = items.multi_average({g: members[one]}, {g: weights[one]}, default=None)
                assert alone[0].tobytes() == means[g].tobytes()
            assert expected in (None, means.tobytes())
            expected = means.tobytes()


def test_damage_that_comes_first_is_not_hidden_by_a_missing_key_behind_it(tmp_path):
    rows, dims = 60_000, 64
    damaged, missing = 4090, 5000  # in what the first two threads take
    vectors = np.random.default_rng(6).standard_normal((rows, dims), dtype=np.float32)
    with ehub.open(tmp_path, durability="off") as hub:
        hub.create_space("items", dims=dims, metric="l2", key_type="int")
        hub.get_space("items").multiset(np.arange(rows), vectors)
        hub.checkpoint()
    file = tmp_path / "segments" / "000000000001.f32"
    with file.open("r+b") as opened:
        opened.seek(damaged * 4 * dims)
        opened.write(vectors[damaged - 1].tobytes())
    keys = np.arange(rows)
    keys[missing] = -1
    for _ in range(30):
        with (
            ehub.open(tmp_path, durability="off") as hub,
            pytest.raises(ehub.CorruptionError, match=file.name),
        ):
            hub.get_space("items").multi_average(keys, offsets=np.arange(0, rows + 1, 10))


# --- partitions ---


def test_each_partition_has_its_average(items):
    items.multiset(list("pqr"), [[2] * 4, [4] * 4, [-1] * 4], partition=["x", "x", "y"])
    items.hub.checkpoint()
    items.multiset(["s"], [[9] * 4], partition="x")
    items.set("r", [7] * 4, partition="x")
    averages = items.partition_averages()
    assert {name: mean.tolist() for name, mean in averages.items()} == {"x": [5.5] * 4}
    assert items.partition_averages(normalize=True)["x"].tolist() == [0.5] * 4
    items.set("t", [0] * 4, partition="zero")
    with pytest.raises(ehub.InvalidVectorError, match="average of partition 'zero' is zero"):
        items.partition_averages(normalize=True)


def test_a_space_without_partitions_has_no_averages_of_them(items):
    assert items.partition_averages() == {}


def test_a_reader_averages_too(items):
    groups = {"g": ["a", "b"]}
    with ehub.open(items.hub.path, read_only=True) as reader:
        seen = reader.get_space("items")
        assert seen.multi_average(groups).tolist() == items.multi_average(groups).tolist()
        assert seen.average(["a"]).tolist() == [1, 2, 3, 4]
