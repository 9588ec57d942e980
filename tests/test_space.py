"""A space by key: what is written is read, bit for bit; batches whole; failures change nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ehub
import ehub.space

DIMS = 4


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def items(hub):
    return hub.create_space("items", dims=DIMS, metric="l2")


def random_rows(count: int, dims: int = DIMS, seed: int = 0) -> tuple[list[str], np.ndarray]:
    vectors = np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)
    return [f"key-{i}" for i in range(count)], vectors


def contents(space: ehub.Space) -> dict[object, bytes]:
    keys, vectors = space.to_numpy()
    assert len(set(keys.tolist())) == len(keys) == len(space)
    return {key: vector.tobytes() for key, vector in zip(keys.tolist(), vectors, strict=True)}


# --- one row ---


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector=hnp.arrays(np.float32, DIMS, elements=FINITE))
def test_a_vector_comes_back_bit_for_bit(items, vector):
    items.set("a", vector)
    assert items.get("a").tobytes() == vector.tobytes()
    items.multiset(["b"], vector[np.newaxis])
    assert items.multiget(["b", "a"]).tobytes() == 2 * vector.tobytes()


def test_extreme_numbers_come_back_bit_for_bit(items):
    info = np.finfo(np.float32)
    vector = np.array([info.max, -info.smallest_subnormal, -0.0, info.tiny], np.float32)
    items.set("a", vector)
    items.hub.checkpoint()
    assert items.get("a").tobytes() == vector.tobytes()


def test_a_vector_that_was_got_is_an_array_of_your_own(items):
    items.set("a", [1, 2, 3, 4])
    vector = items.get("a")
    assert (vector.dtype, vector.shape, vector.flags.owndata) == (np.float32, (DIMS,), True)
    vector[:] = 0
    assert items.get("a").tolist() == [1, 2, 3, 4]


def test_the_caller_keeps_the_array_that_was_given(items):
    vector = np.ones(DIMS, np.float32)
    items.set("a", vector)
    vector[:] = 2
    assert items.get("a").tolist() == [1, 1, 1, 1]


def test_setting_again_overwrites(items):
    items.set("a", [1, 2, 3, 4])
    items.set("a", [5, 6, 7, 8])
    assert items.get("a").tolist() == [5, 6, 7, 8]
    assert len(items) == 1


def test_a_space_is_a_mapping_where_that_is_clear(items):
    items["a"] = [1, 2, 3, 4]
    assert items["a"].tolist() == [1, 2, 3, 4]
    assert "a" in items
    assert "b" not in items
    assert list(items) == ["a"]
    del items["a"]
    assert "a" not in items
    assert len(items) == 0
    with pytest.raises(KeyError):
        items["a"]
    with pytest.raises(KeyError):
        del items["a"]


def test_a_missing_key_is_a_key_error_that_names_key_and_space(items):
    for call in (items.get, items.delete):
        with pytest.raises(ehub.NotFoundError) as caught:
            call("nothing")
        assert isinstance(caught.value, KeyError)
        assert str(caught.value) == "space 'items' has no key 'nothing'"


def test_a_deleted_row_can_be_set_again(items):
    items.set("a", [1, 2, 3, 4])
    items.hub.checkpoint()
    items.delete("a")
    assert len(items) == 0
    items.set("a", [5, 6, 7, 8])
    assert items.get("a").tolist() == [5, 6, 7, 8]


# --- many rows ---


@pytest.mark.parametrize("count", [0, 1, 1000, 50_000])
def test_a_batch_of_any_size_comes_back(items, count):
    keys, vectors = random_rows(count)
    assert items.multiset(keys, vectors) == count
    assert len(items) == count
    assert items.multiget(keys).tobytes() == vectors.tobytes()
    backwards = items.multiget(keys[::-1])
    assert (backwards.shape, backwards.dtype) == ((count, DIMS), np.float32)
    assert (backwards == vectors[::-1]).all()


def test_the_last_of_a_repeated_key_wins(items):
    assert items.multiset(["a", "b", "a", "a"], np.arange(16).reshape(4, 4)) == 4
    assert len(items) == 2
    assert items.get("a").tolist() == [12, 13, 14, 15]
    assert items.get("b").tolist() == [4, 5, 6, 7]
    assert items.multiget(["a", "a"]).tolist() == 2 * [[12, 13, 14, 15]]


def test_a_mapping_is_a_batch(items):
    assert items.multiset({"a": [1, 2, 3, 4], "b": np.ones(4)}) == 2
    assert items.multiset({}) == 0
    assert items.multiget(["b", "a"]).tolist() == [[1, 1, 1, 1], [1, 2, 3, 4]]


@pytest.mark.parametrize("batch_rows", [1, 7, 10_000])
def test_a_stream_of_pairs_is_stored_in_batches(items, monkeypatch, batch_rows):
    monkeypatch.setattr(ehub.version, "STREAM_BATCH_ROWS", batch_rows)
    keys, vectors = random_rows(100)
    seq = items.hub.info().seq
    assert items.multiset(zip(keys, vectors, strict=True)) == 100
    assert items.hub.info().seq - seq == -(-100 // batch_rows)
    assert items.multiget(keys).tobytes() == vectors.tobytes()


def test_a_stream_may_hold_whatever_can_be_a_vector(items):
    column = np.asfortranarray(np.arange(8, dtype=np.float32).reshape(4, 2))[:, 1]
    backwards = np.arange(4, dtype=np.float32)[::-1]
    big_endian = np.arange(4, dtype=">f4")
    given = [
        ("list", [1, 2, 3, 4]),
        ("tuple", (1.5, 2, 3, 4)),
        ("float64", np.arange(4.0)),
        ("int8", np.arange(4, dtype=np.int8)),
        ("column", column),
        ("backwards", backwards),
        ("big_endian", big_endian),
        ("readonly", np.frombuffer(np.ones(4, np.float32).tobytes(), np.float32)),
    ]
    assert items.multiset(iter(given)) == len(given)
    for key, vector in given:
        assert items.get(key).tolist() == list(vector)
    assert items.multiset([["pair", [1, 2, 3, 4]]]) == 1
    assert items.multiset(iter(())) == 0


def test_long_vectors_are_streamed_in_small_batches(hub):
    long = hub.create_space("long", dims=65_535)
    vectors = (np.full(65_535, i, np.float32) for i in range(1, 101))
    seq = hub.info().seq
    assert long.multiset((str(i), vector) for i, vector in enumerate(vectors)) == 100
    assert hub.info().seq - seq == 2
    assert long.get("99")[-1] == 100


def test_a_stream_that_fails_leaves_the_batches_before(items, monkeypatch):
    monkeypatch.setattr(ehub.version, "STREAM_BATCH_ROWS", 10)

    def pairs():
        for i in range(25):
            yield f"key-{i}", np.full(DIMS, i)
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone") as caught:
        items.multiset(pairs())
    assert caught.value.__notes__ == ["in the batch from row 20 on; the 20 rows before are stored"]
    assert sorted(items) == sorted(f"key-{i}" for i in range(20))


def test_an_error_in_a_stream_says_where_and_that_rows_are_stored(items, monkeypatch):
    monkeypatch.setattr(ehub.version, "STREAM_BATCH_ROWS", 10)
    good = [(f"key-{i}", [1, 2, 3, i]) for i in range(12)]
    with pytest.raises(ehub.InvalidKeyError, match=r"key 2 is 5.*batch from row 10 on.*stored"):
        items.multiset([*good, (5, [1, 2, 3, 4])])
    stored = r".*\(in the batch from row 10 on; the 10 rows before are stored\)"
    with pytest.raises(ehub.DimensionError, match=rf"row 12 has shape \(2,\){stored}"):
        items.multiset([*good, ("x", [1, 2])])
    with pytest.raises(ehub.InvalidArgumentError, match=f"row 12 .*{stored}"):
        items.multiset([*good, "x"])
    with pytest.raises(ehub.InvalidVectorError, match="batch from row 10 on"):
        items.multiset([*good, ("x", [1, 2, 3, np.nan])])
    assert len(items) == 10
    with pytest.raises(ehub.InvalidKeyError) as caught:
        items.multiset([(5, [1, 2, 3, 4])])
    assert "stored" not in str(caught.value)


def test_keys_without_an_order_do_not_go_beside_vectors(items):
    for keys in ({"a", "b"}, frozenset("ab")):
        with pytest.raises(TypeError, match="a set, whose order is arbitrary"):
            items.multiset(keys, np.ones((2, 4)))
    with pytest.raises(TypeError, match="a mapping, which has vectors of its own"):
        items.multiset({"a": [1, 2, 3, 4]}, np.ones((1, 4)))
    assert len(items) == 0
    items.multiset({"a": [1, 2, 3, 4]}.keys(), np.ones((1, 4)))
    with pytest.raises(TypeError, match="a set, whose order is arbitrary"):
        items.average({"a"}, weights=[1])
    assert items.average({"a"}).tolist() == [1, 1, 1, 1]


def test_multiget_names_the_first_missing_key(items):
    items.multiset(["a", "b"], np.ones((2, 4)))
    with pytest.raises(ehub.NotFoundError, match=r"has no key 'x' \(key 1 of 4\)"):
        items.multiget(["a", "x", "b", "y"])


def test_multiget_with_a_default_says_what_was_found(items):
    items.multiset(["a", "b"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    vectors, found = items.multiget(["x", "b", "y", "a"], default=None)
    assert (vectors.dtype, found.dtype) == (np.float32, np.bool_)
    assert vectors.tolist() == [[0, 0, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert found.tolist() == [False, True, False, True]
    vectors, found = items.multiget([], default=None)
    assert (vectors.shape, found.shape) == ((0, DIMS), (0,))
    with pytest.raises(ehub.InvalidArgumentError, match="default"):
        items.multiget(["a"], default=0)


def test_multidelete_counts_the_rows_that_were_there(items):
    keys, vectors = random_rows(100)
    items.multiset(keys, vectors)
    items.hub.checkpoint()
    assert items.multidelete([*keys[:30], *keys[:10], "nothing"]) == 30
    assert items.multidelete(keys[:30]) == 0
    assert items.multidelete([]) == 0
    assert sorted(items) == sorted(keys[30:])


def test_delete_all_leaves_nothing(items):
    keys, vectors = random_rows(100)
    items.multiset(keys[:50], vectors[:50])
    items.hub.checkpoint()
    items.multiset(keys[40:], vectors[40:])
    assert items.delete_all() == 100
    assert items.delete_all() == 0
    assert len(items) == 0
    assert list(items) == []
    items.multiset(keys[:3], vectors[:3])
    assert contents(items) == {k: v.tobytes() for k, v in zip(keys[:3], vectors[:3], strict=True)}


def test_two_spaces_with_the_same_keys_are_strangers(hub, items):
    other = hub.create_space("other", dims=2)
    items.set("a", [1, 2, 3, 4])
    other.set("a", [5, 6])
    items.delete("a")
    assert other.get("a").tolist() == [5, 6]


def test_two_handles_of_a_space_see_the_same(hub, items):
    items.set("a", [1, 2, 3, 4])
    assert hub.get_space("items").get("a").tolist() == [1, 2, 3, 4]


# --- failures ---

NAN, INF = float("nan"), float("inf")

FAILURES = {
    "wrong dims": (lambda s: s.multiset(["x"], np.ones((1, 3))), ehub.DimensionError),
    "one vector wrong": (lambda s: s.set("x", [1, 2, 3]), ehub.DimensionError),
    "nan": (
        lambda s: s.multiset(["x", "y"], [[1, 2, 3, 4], [1, NAN, 3, 4]]),
        ehub.InvalidVectorError,
    ),
    "infinity": (lambda s: s.set("a", [INF, 2, 3, 4]), ehub.InvalidVectorError),
    "overflow": (lambda s: s.set("a", [1e300, 2, 3, 4]), ehub.InvalidVectorError),
    "fewer vectors": (lambda s: s.multiset(["x", "y"], np.ones((1, 4))), ehub.InvalidArgumentError),
    "fewer keys": (lambda s: s.multiset(["x"], np.ones((2, 4))), ehub.InvalidArgumentError),
    "bad key": (lambda s: s.multiset(["x", ""], np.ones((2, 4))), ehub.InvalidKeyError),
    "bad key to delete": (lambda s: s.multidelete(["a", 5]), ehub.InvalidKeyError),
    "missing key": (lambda s: s.delete("nothing"), ehub.NotFoundError),
    "no vectors": (lambda s: s.multiset("a"), TypeError),
    "keys only": (lambda s: s.multiset(np.array(["a", "b"])), TypeError),
    "no iterable": (lambda s: s.multiset(5), TypeError),
    "mapping of nonsense": (lambda s: s.multiset({"x": "text"}), ehub.EhubError),
    "bad label": (lambda s: s.multiset(["x"], np.ones((1, 4)), partition=[5]), TypeError),
    "few labels": (
        lambda s: s.multiset(["x"], np.ones((1, 4)), partition=[]),
        ehub.InvalidArgumentError,
    ),
    "unknown option": (lambda s: s.multiset({}, ttl=5), TypeError),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_call_changes_nothing(items, name):
    call, error = FAILURES[name]
    items.multiset(["a", "b"], np.ones((2, 4)))
    before, seq = contents(items), items.hub.info().seq
    with pytest.raises(error):
        call(items)
    assert contents(items) == before
    assert items.hub.info().seq == seq
    items.set("c", [1, 2, 3, 4])
    assert len(items) == 3


def test_an_invalid_vector_is_named_by_its_row(items):
    vectors = np.ones((5000, DIMS), np.float32)
    vectors[4321, 2] = np.inf
    with pytest.raises(ehub.InvalidVectorError, match="4321"):
        items.multiset([str(i) for i in range(5000)], vectors)


@pytest.mark.parametrize("vector", [[0, 0, 0, 0], [1e-30, 0, 0, 0], [1e30, 0, 0, 0]])
def test_a_vector_without_direction_has_no_place_under_cosine(hub, vector):
    cosine = hub.create_space("cosine", dims=4, metric="cosine")
    with pytest.raises(ehub.InvalidVectorError):
        cosine.set("a", vector)
    with pytest.raises(ehub.InvalidVectorError, match="1"):
        cosine.multiset(["a", "b"], [[1, 2, 3, 4], vector])
    assert len(cosine) == 0
    for metric in ("l2", "ip"):
        hub.create_space(metric, dims=4, metric=metric).set("a", vector)


# --- averages and partitions ---


def test_an_average_is_the_mean_of_the_vectors(items):
    keys, vectors = random_rows(1000, seed=3)
    items.multiset(keys, vectors)
    chosen = np.random.default_rng(4).integers(0, 1000, 500)
    expected = vectors[chosen].astype(np.float64).mean(axis=0)
    average = items.average([keys[i] for i in chosen])
    assert (average.dtype, average.shape) == (np.float32, (DIMS,))
    np.testing.assert_allclose(average, expected, rtol=1e-6)
    weights = np.random.default_rng(5).random(500)
    expected = np.average(vectors[chosen].astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(
        items.average([keys[i] for i in chosen], weights), expected, rtol=1e-6
    )


def test_an_average_of_equal_vectors_is_that_vector(items):
    vector = np.array([0.1, -3e38, 7, 1e-40], np.float32)
    items.multiset(["a", "b", "c"], np.stack([vector] * 3))
    assert items.average(["a", "b", "c"]).tobytes() == vector.tobytes()
    assert items.average(iter(["a"]), [17]).tobytes() == vector.tobytes()


def test_an_average_refuses_what_has_none(items):
    items.multiset(["a", "b"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    for keys, weights in [
        ([], None),
        (["a", "b"], [1]),
        (["a", "b"], [1, -1]),
        (["a", "b"], [1, NAN]),
        (["a", "b"], [INF, 1]),
    ]:
        with pytest.raises(ehub.InvalidArgumentError):
            items.average(keys, weights)
    with pytest.raises(TypeError):
        items.average(["a", "b"], ["1", "2"])
    with pytest.raises(ehub.NotFoundError, match="'x'"):
        items.average(["a", "x"])
    items.multiset(["c", "d"], [[3e38] * 4, [-3e38] * 4])
    with pytest.raises(ehub.InvalidVectorError, match="too large"):
        items.average(["c", "d"], [2, -1])
    assert items.average(["a", "b"], [2, -1]).tolist() == [-3, -2, -1, 0]


def test_partitions_count_their_rows(items):
    items.multiset(["a", "b"], np.ones((2, 4)), partition="us")
    items.multiset(["c", "d", "e"], np.ones((3, 4)), partition=["eu", "us", "ap"])
    items.multiset({"f": [1, 2, 3, 4]}, partition=np.array(["eu"]))
    items.multiset([("g", [1, 2, 3, 4])], partition="eu")
    items.set("h", [1, 2, 3, 4], partition="früchte")
    items.set("i", [1, 2, 3, 4])
    assert items.partitions() == {"us": 3, "eu": 3, "ap": 1, "früchte": 1}
    items.hub.checkpoint()
    items.multidelete(["a", "b"])
    items.set("c", [1, 2, 3, 4], partition="us")
    counts = {name: count for name, count in items.partitions().items() if count}
    assert counts == {"us": 2, "eu": 2, "ap": 1, "früchte": 1}


def test_a_partition_name_has_limits(items):
    for name in ("", "x" * 256, "\ud800"):
        with pytest.raises(ehub.InvalidArgumentError):
            items.set("a", [1, 2, 3, 4], partition=name)
    with pytest.raises(TypeError):
        items.set("a", [1, 2, 3, 4], partition=5)
    with pytest.raises(TypeError, match="one partition"):
        items.multiset([("a", [1, 2, 3, 4])], partition=["us"])
    items.set("a", [1, 2, 3, 4], partition="x" * 255)
    assert items.partitions() == {"x" * 255: 1}


# --- upkeep ---


def test_stats_count_rows_and_dead_rows(items):
    keys, vectors = random_rows(20_000)
    items.multiset(keys, vectors)
    items.hub.checkpoint()
    items.multidelete(keys[:8000])
    stats = items.stats()
    assert stats.rows == 12_000
    assert sum(segment.rows - segment.rows_dead for segment in stats.segments) == 12_000
    assert sum(segment.rows_dead for segment in stats.segments) == 8000
    items.compact()
    stats = items.stats()
    assert (stats.rows, sum(segment.rows_dead for segment in stats.segments)) == (12_000, 0)
    assert all(segment.bytes >= segment.rows * DIMS * 4 for segment in stats.segments)
    assert items.multiget(keys[8000:]).tobytes() == vectors[8000:].tobytes()


def test_progress_shows_a_bar_on_a_terminal_only(items, capsys, monkeypatch):
    keys, vectors = random_rows(10)
    items.multiset(keys, vectors, progress=True)
    items.multiset(zip(keys, vectors, strict=True), progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    items.multiset(zip(keys, vectors, strict=True), progress=True)
    shown = capsys.readouterr().err
    assert "multiset items" in shown
    assert "10.0 row" in shown


# --- threads ---


def test_readers_see_whole_batches_while_a_writer_writes(items):
    """Every batch gives all keys one number; a reader that sees two numbers saw half a batch."""
    keys = [f"key-{i}" for i in range(200)]
    items.multiset(keys, np.zeros((200, DIMS)))
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        last = 0.0
        while not stop.is_set():
            for vectors in (items.multiget(keys), items.to_numpy()[1]):
                numbers = np.unique(vectors)
                if len(numbers) != 1 or len(vectors) != 200 or numbers[0] < last:
                    failures.append(f"saw {numbers} after {last}")
                    return
                last = numbers[0]

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 60):
        items.multiset(keys, np.full((200, DIMS), number))
        if number % 20 == 0:
            items.hub.checkpoint()
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []


def test_writers_in_many_threads_lose_nothing(items):
    def write(writer: int) -> None:
        for i in range(25):
            items.set(f"{writer}-{i}", [writer, i, 0, 0])
            items.multiset([f"{writer}-{i}-a", f"{writer}-{i}-b"], np.full((2, 4), writer))
        items.multidelete([f"{writer}-{i}-b" for i in range(25)])

    writers = [threading.Thread(target=write, args=[n]) for n in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(items) == 6 * 50
    for n in range(6):
        assert items.get(f"{n}-24").tolist() == [n, 24, 0, 0]


def test_a_space_without_dims_is_told_what_gives_them(hub):
    with pytest.raises(TypeError, match=r"no dims for space 'bare'; give dims= or model="):
        hub.create_space("bare")
