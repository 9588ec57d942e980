"""A partition is read and written like a space of its own rows, and touches no others."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexed import METRICS, distances, embeddings, open_hub, require_indexed

import ehub
from ehub._native import _store

DIMS = 4


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def items(hub):
    items = hub.create_space("items", dims=DIMS, metric="l2")
    items.multiset(["a", "b"], [[1, 0, 0, 0], [2, 0, 0, 0]], partition="us")
    items.multiset(["c", "d"], [[3, 0, 0, 0], [4, 0, 0, 0]], partition="eu")
    items.set("e", [5, 0, 0, 0])
    return items


def contents(view) -> dict[object, tuple[float, ...]]:
    keys, vectors = view.to_numpy()
    assert len(keys) == len(view)
    return {key: tuple(row) for key, row in zip(keys.tolist(), vectors.tolist(), strict=True)}


# --- reading ---


@pytest.mark.parametrize("sealed", [False, True])
def test_a_partition_has_the_whole_reading_of_a_space(items, sealed):
    if sealed:
        items.compact()
    us = items.partition("us")
    assert (us.name, us.space, us.dims, us.metric, us.key_type) == ("us", "items", 4, "l2", "str")
    assert us.get("a").tolist() == us["a"].tolist() == [1, 0, 0, 0]
    assert us.multiget(["b", "a"])[:, 0].tolist() == [2, 1]
    vectors, found = us.multiget(["a", "c", "e"], default=None)
    assert (vectors[:, 0].tolist(), found.tolist()) == ([1, 0, 0], [True, False, False])
    assert ("a" in us, "c" in us, "e" in us, 5 in us) == (True, False, False, False)
    assert (len(us), sorted(us), sorted(us.keys())) == (2, ["a", "b"], ["a", "b"])
    assert contents(us) == {"a": (1, 0, 0, 0), "b": (2, 0, 0, 0)}
    assert [key for keys, _ in us.scan(1) for key in keys] == ["a", "b"]
    assert [key for key, _ in us.iterator()] == ["a", "b"]
    assert us.to_arrow().num_rows == 2
    assert us.average(["a", "b"])[0] == 1.5
    assert us.multi_average({"g": ["a"]})[0, 0] == 1
    assert us.partition_averages()["us"][0] == 1.5
    assert us.partitions() == {"us": 2}
    assert us.kmeans(1).centroids[0, 0] == 1.5
    assert us.nearest_neighbors(5, vector=[3, 0, 0, 0]).keys.tolist() == ["b", "a"]
    assert us.nearest_neighbors(5, key="a").keys.tolist() == ["b"]
    assert us.nearest_neighbors(5, vector=[0] * 4, filter=["b", "c"]).keys.tolist() == ["b"]
    assert us.multi_nearest_neighbors(1, keys=["a", "b"])[1].keys.tolist() == ["a"]
    assert us.recommend(5, positive=["a"]).keys.tolist() == ["b"]
    assert "us" in repr(us)


def test_a_key_of_another_partition_is_not_found(items):
    us = items.partition("us")
    for call in (us.get, us.delete, lambda key: us.multiget([key]), lambda key: us.average([key])):
        with pytest.raises(ehub.NotFoundError, match=r"partition 'us' of space 'items' .*'c'"):
            call("c")
    with pytest.raises(ehub.NotFoundError, match="'e'"):
        us.nearest_neighbors(1, key="e")
    with pytest.raises(ehub.NotFoundError, match="'c'"):
        us.recommend(1, positive=["c"])


def test_an_unknown_partition_is_an_error_that_lists_what_there_is(items):
    unknown = items.partition("asia")
    for call in (
        lambda: len(unknown),
        lambda: unknown.get("a"),
        lambda: unknown.keys(),
        lambda: unknown.delete_all(),
        lambda: unknown.multidelete(["a"]),
        lambda: items.nearest_neighbors(1, vector=[0] * 4, partition="asia"),
        lambda: items.nearest_neighbors(1, vector=[0] * 4, partition=["us", "asia"]),
    ):
        with pytest.raises(ehub.NotFoundError, match="no partition 'asia'; it has 'us', 'eu'"):
            call()
    for i in range(20):
        items.set(f"more {i}", [0] * 4, partition=f"part {i}")
    with pytest.raises(ehub.NotFoundError, match="'part 7' and 12 more"):
        len(unknown)
    empty = items.hub.create_space("empty", dims=2)
    with pytest.raises(ehub.NotFoundError, match="it has none"):
        len(empty.partition("us"))


def test_a_name_that_can_be_none_is_refused_at_once(items):
    for name, error in [
        ("", ValueError),
        ("x" * 256, ValueError),
        (5, TypeError),
        (None, TypeError),
    ]:
        with pytest.raises(error):
            items.partition(name)
    for partition, error in [
        ([], ValueError),
        (5, TypeError),
        (b"us", TypeError),
        ([5], TypeError),
    ]:
        with pytest.raises(error):
            items.nearest_neighbors(1, vector=[0] * 4, partition=partition)


def test_a_search_may_name_several_partitions(items):
    def found(partition):
        answer = items.nearest_neighbors(9, vector=[0] * 4, partition=partition)
        many = items.multi_nearest_neighbors(9, vectors=[[0] * 4], partition=partition)
        assert many == [answer]
        return answer.keys.tolist()

    assert found("eu") == ["c", "d"]
    assert found(["eu", "us"]) == found({"us", "eu"}) == found(("us", "eu", "us")) == list("abcd")
    assert found(None) == list("abcde")
    assert items.nearest_neighbors(9, key="c", partition="eu").keys.tolist() == ["d"]
    assert items.recommend(9, positive=["c"], partition="eu").keys.tolist() == ["d"]
    assert items.partition("us").nearest_neighbors(9, vector=[0] * 4, partition="eu").keys.size == 0


# --- writing ---


def test_what_is_written_to_a_partition_is_in_it_and_makes_it(items):
    asia = items.partition("asia")
    assert asia.multiset(["f", "g"], np.full((2, 4), 6)) == 2
    asia.set("h", [7] * 4)
    asia["i"] = [8] * 4
    assert asia.multiset({"j": [9] * 4}) == 1
    assert asia.multiset((key, [9] * 4) for key in "kl") == 2
    assert sorted(asia) == list("fghijkl")
    assert items.partitions() == {"us": 2, "eu": 2, "asia": 7}


def test_rewriting_moves_a_row_to_its_new_partition(items):
    items.compact()
    items.set("a", [9, 0, 0, 0], partition="eu")
    items.set("b", [8, 0, 0, 0])
    us, eu = items.partition("us"), items.partition("eu")
    assert (sorted(us), sorted(eu)) == ([], ["a", "c", "d"])
    assert eu["a"][0] == 9
    us.set("c", [1] * 4)
    assert (sorted(us), sorted(eu)) == (["c"], ["a", "d"])
    items.compact()
    assert (sorted(us), sorted(eu), len(items)) == (["c"], ["a", "d"], 5)


def test_deletes_in_a_partition_touch_no_other(items):
    us, eu = items.partition("us"), items.partition("eu")
    assert us.multidelete(["a", "c", "e", "x", "a"]) == 1
    assert sorted(items) == list("bcde")
    del eu["c"]
    eu.delete("d")
    assert us.delete_all() == 1
    assert us.delete_all() == eu.delete_all() == us.multidelete(["e"]) == 0
    assert sorted(items) == ["e"]
    assert (len(us), len(eu), items.partitions()) == (0, 0, {})


def test_a_failed_write_changes_nothing(items):
    before = contents(items)
    us = items.partition("us")
    with pytest.raises(ehub.NotFoundError):
        us.delete("c")
    with pytest.raises(ehub.InvalidKeyError):
        us.multidelete(["a", 5])
    with pytest.raises(ehub.DimensionError):
        us.multiset(["a"], [[1, 2]])
    with pytest.raises(ehub.InvalidVectorError):
        items.partition("new").multiset(["a"], [[np.nan] * 4])
    assert contents(items) == before
    with pytest.raises(ehub.NotFoundError):
        len(items.partition("new"))


def test_deletes_survive_reopening(items):
    path = items.hub.path
    items.hub.checkpoint()
    items.partition("us").delete_all()
    items.partition("eu").delete("c")
    with ehub.open(path, read_only=True) as reader:
        assert sorted(reader.get_space("items")) == ["d", "e"]
    items.hub.close()
    with ehub.open(path) as hub:
        assert sorted(hub.get_space("items")) == ["d", "e"]
        assert len(hub.get_space("items").partition("us")) == 0  # its name stays


def test_a_partition_is_dropped_from_every_segment(tmp_path):
    with ehub.Hub(_store.Store(str(tmp_path), background=False, carry_bytes_max=0)) as hub:
        items = hub.create_space("items", dims=1, metric="l2")
        for number in range(3):
            hub.checkpoint()
            items.multiset([f"us{number}", f"eu{number}"], [[1], [1]], partition=["us", "eu"])
        assert len(items.stats().segments) == 3
        assert items.drop_partition("us") == 3
        assert sorted(items) == ["eu0", "eu1", "eu2"]


def test_a_read_only_hub_reads_partitions_and_writes_none(items):
    with ehub.open(items.hub.path, read_only=True) as reader:
        us = reader.get_space("items").partition("us")
        assert sorted(us) == ["a", "b"]
        items.partition("us").set("z", [0] * 4)
        items.partition("asia").set("y", [0] * 4)
        assert sorted(us) == ["a", "b"]
        reader.refresh()
        assert sorted(us) == ["a", "b", "z"]
        assert reader.get_space("items").partitions() == {"us": 3, "eu": 2, "asia": 1}
        for call in (us.delete_all, lambda: us.delete("a"), lambda: us.set("a", [1] * 4)):
            with pytest.raises(ehub.ReadOnlyError):
                call()


def test_a_row_that_moves_meanwhile_is_deleted_in_neither_or_one_partition(items):
    """A delete in one partition never takes the row that another thread has moved to the other."""
    us, eu = items.partition("us"), items.partition("eu")
    stop = threading.Event()
    taken: list[int] = []

    def delete():
        while not stop.is_set():
            taken.append(us.multidelete(["m"]))

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for _ in range(300):
            us.set("m", [1] * 4)
            eu.set("m", [2] * 4)
            assert eu["m"][0] == 2
    finally:
        stop.set()
        thread.join()
    assert len(taken) > 0


def test_a_partition_is_not_pickled(items):
    with pytest.raises(TypeError, match="open its hub"):
        pickle.dumps(items.partition("us"))


def test_a_partition_of_a_closed_hub_answers_no_call(items):
    us = items.partition("us")
    items.hub.close()
    for call in (lambda: len(us), lambda: us.get("a"), us.delete_all, lambda: us.set("a", [1] * 4)):
        with pytest.raises(ehub.ClosedError):
            call()
    assert us.name == "us"


def test_a_view_shows_whole_batches_of_a_partition(items):
    us = items.partition("us")
    batches = us.scan(1)
    us.delete_all()
    us.multiset(["z"], [[0] * 4])
    items.compact()
    assert [key for keys, _ in batches for key in keys] == ["a", "b"]


# --- against a model ---


LABELS = ["us", "eu", "früchte", None]
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"),
            st.lists(st.tuples(st.integers(0, 20), st.sampled_from(LABELS[:3])), max_size=8),
        ),
        st.tuples(st.just("set without"), st.lists(st.integers(0, 20), min_size=1, max_size=5)),
        st.tuples(
            st.just("delete in"),
            st.tuples(st.sampled_from(LABELS[:3]), st.lists(st.integers(0, 20), max_size=8)),
        ),
        st.tuples(st.just("delete all in"), st.sampled_from(LABELS[:3])),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 20), max_size=4)),
        st.tuples(st.sampled_from(["checkpoint", "compact", "reopen"]), st.none()),
    ),
    max_size=15,
)
LIMITS = st.sampled_from(
    [{}, {"carry_bytes_max": 0, "large_batch_bytes": 64, "segment_bytes_max": 256}]
)


def run(hub, items, model, operation, argument, number):
    """One operation on the space and on the model, a dict of key to (vector, label)."""
    if operation == "set" and argument:
        vectors = [[number, i, 0, 1] for i in range(len(argument))]
        items.multiset(
            [key for key, _ in argument], vectors, partition=[label for _, label in argument]
        )
        for (key, label), vector in zip(argument, vectors, strict=True):
            model[key] = (tuple(vector), label)
    elif operation == "set without":
        items.multiset(argument, [[number, 0, 1, 1]] * len(argument))
        model.update(dict.fromkeys(argument, ((number, 0, 1, 1), None)))
    elif operation == "delete":
        items.multidelete(argument)
        for key in argument:
            model.pop(key, None)
    elif operation in ("delete in", "delete all in"):
        label, keys = argument if operation == "delete in" else (argument, list(model))
        mine = {key for key in keys if model.get(key, (None, None))[1] == label}
        part = items.partition(label)
        gone = part.multidelete(keys) if operation == "delete in" else part.delete_all()
        assert gone == len(mine)
        for key in mine:
            del model[key]
    elif operation == "checkpoint":
        hub.checkpoint()
    elif operation == "compact":
        items.compact()


def check(items, model):
    counts: dict[str, int] = {}
    for _, label in model.values():
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    assert items.partitions() == counts
    assert contents(items) == {key: vector for key, (vector, _) in model.items()}
    for label in LABELS[:3]:
        part = items.partition(label)
        mine = {key: vector for key, (vector, own) in model.items() if own == label}
        assert contents(part) == mine
        assert {key for key in range(21) if key in part} == set(mine)
        found = part.nearest_neighbors(50, vector=[0, 0, 0, 0])
        assert set(found.keys.tolist()) == set(mine)


@settings(max_examples=60)
@given(operations=OPERATIONS, limits=LIMITS)
def test_partitions_are_a_dict_of_labels_whatever_is_done(tmp_path_factory, operations, limits):
    path = tmp_path_factory.mktemp("hub")
    hub = open_hub(path, **limits)
    items = hub.create_space("items", DIMS, metric="l2", key_type="int")
    items.multiset([0, 1, 2], np.zeros((3, 4)), partition=LABELS[:3])
    model = {i: ((0, 0, 0, 0), LABELS[i]) for i in range(3)}
    for number, (operation, argument) in enumerate(operations, 1):
        if operation == "reopen":
            hub.close()
            hub = open_hub(path, **limits)
            items = hub.get_space("items")
        run(hub, items, model, operation, argument, number)
        check(items, model)
    hub.close()


# --- with the index ---


@pytest.fixture(scope="module", params=METRICS)
def indexed(request, tmp_path_factory):
    """Rows with a graph, one large partition and many small ones, dead rows and fresh ones."""
    rows = embeddings(5, 16_000, 16)
    labels = np.array([f"small {i % 700}" for i in range(len(rows))], object)
    labels[np.random.default_rng(0).permutation(len(rows))[:9000]] = "large"
    with open_hub(tmp_path_factory.mktemp("hub"), graph_rows_min=1000) as hub:
        items = hub.create_space("items", 16, metric=request.param, key_type="int")
        items.multiset(np.arange(15_000), rows[:15_000], partition=labels[:15_000])
        items.optimize()
        require_indexed(items)
        items.multidelete(range(0, 15_000, 10))
        items.multiset(np.arange(15_000, 16_000), rows[15_000:], partition=labels[15_000:])
        alive = np.ones(len(rows), bool)
        alive[np.arange(0, 15_000, 10)] = False
        yield items, rows, labels, alive


def recall_in(items, rows, mine, found, queries, k):
    """The share of the k nearest of the rows `mine` that was found; all that was found is mine."""
    truth = distances(items.metric, queries, rows)
    truth[:, ~mine] = np.inf
    hits = 0
    for query, answer in enumerate(found):
        assert mine[answer.keys].all()
        assert len(answer) == min(k, mine.sum())
        kth = np.partition(truth[query], k - 1)[k - 1] if mine.sum() > k else np.inf
        hits += (truth[query, answer.keys] <= kth + 1e-4 * (1 + abs(kth))).sum()
    return hits / sum(map(len, found))


def test_a_large_partition_is_searched_with_the_index(indexed):
    items, rows, labels, alive = indexed
    queries = embeddings(6, 200, 16)
    mine = (labels == "large") & alive
    assert mine.sum() > 4096
    large = items.partition("large")
    assert recall_in(items, rows, mine, large.multi_nearest_neighbors(10, vectors=queries),
                     queries, 10) > 0.94  # fmt: skip
    exact = large.multi_nearest_neighbors(10, vectors=queries, exact=True)
    assert recall_in(items, rows, mine, exact, queries, 10) == 1


def test_a_tenth_of_the_rows_is_found_as_well_as_all(tmp_path):
    """With the default `ef`, which was measured for searches among all rows."""
    rows, queries = embeddings(8, 60_000, 16), embeddings(9, 300, 16)
    tenth = np.random.default_rng(1).permutation(len(rows)) < 6000
    with open_hub(tmp_path) as hub:
        items = hub.create_space("items", 16, metric="l2", key_type="int")
        items.multiset(np.arange(len(rows)), rows, partition=np.where(tenth, "tenth", "rest"))
        items.wait_indexed()
        found = items.multi_nearest_neighbors(10, vectors=queries, partition="tenth")
        assert recall_in(items, rows, tenth, found, queries, 10) > 0.93


def test_a_small_partition_is_searched_exactly(indexed):
    items, rows, labels, alive = indexed
    queries = embeddings(7, 20, 16)
    for name in ("small 1", "small 77", "small 699"):
        mine = (labels == name) & alive
        found = items.multi_nearest_neighbors(5, vectors=queries, partition=name)
        assert recall_in(items, rows, mine, found, queries, 5) == 1
        assert len(items.partition(name)) == mine.sum()
    several = ["small 1", "small 2", "small 3"]
    found = items.multi_nearest_neighbors(8, vectors=queries, partition=several)
    assert recall_in(items, rows, np.isin(labels, several) & alive, found, queries, 8) == 1


def test_partitions_are_counted_over_sealed_dead_and_fresh_rows(indexed):
    items, _, labels, alive = indexed
    names, counts = np.unique(labels[alive].astype(str), return_counts=True)
    assert items.partitions() == dict(zip(names.tolist(), counts.tolist(), strict=True))
    averages = items.partition_averages()
    assert set(averages) == set(names)


def test_threads_may_read_partitions_while_they_grow(hub):
    items = hub.create_space("grows", dims=2, metric="l2", key_type="int")
    items.multiset([0, 1], np.zeros((2, 2)), partition=["even", "odd"])
    errors: list[BaseException] = []
    stop = threading.Event()

    def read():
        try:
            while not stop.is_set():
                keys = items.partition("even").keys()
                assert (keys % 2 == 0).all()
                assert len(keys) % 50 == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(2, 5002, 100):
        keys = np.arange(start, start + 100)
        items.multiset(keys, np.zeros((100, 2)), partition=["even", "odd"] * 50)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(items.partition("odd")) == 2501


# --- dropping ---


def log_bytes(path) -> int:
    """How much the newest log holds."""
    log = max((path / "wal").glob("*.log"))
    return len(log.read_bytes().rstrip(b"\0"))


def test_dropping_a_partition_deletes_its_rows_and_no_others(items):
    items.set("b", [2, 0, 0, 0], partition="eu")
    assert items.drop_partition("us") == 1
    assert (len(items), items.partitions(), "a" in items) == (4, {"eu": 3}, False)
    assert items.drop_partition("us") == 0
    with pytest.raises(ehub.NotFoundError, match="no partition 'asia'"):
        items.drop_partition("asia")
    items.set("a", [9] * 4, partition="us")
    assert items.partitions() == {"us": 1, "eu": 3}


@pytest.mark.parametrize("sealed", [False, True])
def test_what_a_drop_writes_does_not_grow_with_the_rows(tmp_path, sealed):
    def grown(rows: int) -> int:
        path = tmp_path / str(rows)
        with ehub.open(path, durability="off") as hub:
            items = hub.create_space("items", dims=2, metric="l2", key_type="int")
            items.multiset(np.arange(rows), np.ones((rows, 2), np.float32), partition="us")
            if sealed:
                items.compact()
            items.set(-1, [5, 5])
            before = log_bytes(path)
            assert items.drop_partition("us") == rows
            return log_bytes(path) - before

    assert grown(20_000) <= grown(10) + 8  # records begin at multiples of 8
    with ehub.open(tmp_path / "20000", read_only=True) as hub:
        assert hub.get_space("items").keys().tolist() == [-1]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_dropped_partition_is_replayed_and_tags_still_show_it(tmp_path, sealed):
    store = _store.Store(str(tmp_path), carry_bytes_max=0, background=False)
    with ehub.Hub(store) as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset(["a", "b"], [[1, 1], [2, 2]], partition="us")
        items.set("c", [3, 3], partition="eu")
        if sealed:
            items.compact()
        assert len(list((tmp_path / "segments").glob("*.seg"))) == sealed
        items.tag("before")
        assert items.drop_partition("us") == 2
        with ehub.open(tmp_path, read_only=True) as reader:  # it reads the log, too
            assert reader.get_space("items").keys().tolist() == ["c"]
    for _ in range(2):
        with ehub.open(tmp_path) as hub:
            items = hub.get_space("items")
            assert items.keys().tolist() == ["c"]
            assert len(items) == 1
            then = items.at("before")
            assert sorted(then.keys()) == ["a", "b", "c"]
            assert then.partitions() == {"us": 2, "eu": 1}
            items.compact()
            assert not hub.verify().findings


# --- sets that may take no key from elsewhere ---


def bound_set(space, keys, value, bounds, partition=b"us"):
    table = space.current._table
    rows = np.full((len(keys), DIMS), value, np.float32)
    packed = _store.Keys.of_objects(keys, "str", "items")
    _store.multiset_all([(table, packed, rows, (partition,), None)], None, [bounds])


@pytest.mark.parametrize("rows", [1, 20_000], ids=["small", "large"])
def test_a_bound_set_takes_no_key_from_another_partition(items, rows):
    new = [f"n{i}" for i in range(rows)]
    bound_set(items, [*new, "a"], 7, (b"us",))
    assert items.get("a").tolist() == [7] * DIMS
    before = contents(items)
    for keys, bounds in (
        ([*new, "c"], (b"us",)),
        (["x", "e"], (b"us", b"eu")),  # one that is in no partition
        (["a"], ()),
    ):
        with pytest.raises(ehub.ConflictError, match=f"row {len(keys) - 1} is in another"):
            bound_set(items, keys, 8, bounds)
    assert contents(items) == before
    bound_set(items, ["c"], 9, (b"us", b"eu"))
    assert items.partition("us").get("c").tolist() == [9] * DIMS
    bound_set(items, ["y"], 1, ())
    items.delete("d")
    bound_set(items, ["d"], 9, (b"us",))
    assert "d" in items.partition("us")


def test_no_bound_set_comes_between_a_look_and_a_write(items):
    """While a thread moves a key in and out, bound sets never take it from where it is."""
    ended, taken, refused = threading.Event(), [], []

    def move():
        for turn in range(30_000):
            if turn >= 300 and refused:
                break
            items.set("k", [turn, 0, 0, 0], partition="eu")
            if items.partition("eu").get("k").tolist() != [turn, 0, 0, 0]:
                taken.append(turn)
            items.partition("eu").delete("k")
        ended.set()

    items.partition("us").set("k0", [0] * DIMS)
    mover = threading.Thread(target=move)
    mover.start()
    while not ended.is_set():
        try:
            bound_set(items, ["k"], 5, (b"us",))
            items.partition("us").multidelete(["k"])
        except ehub.ConflictError:
            refused.append(True)
    mover.join()
    assert refused
    assert taken == []
