"""A graph has the same bytes however it is built, reaches every row, and finds what is near."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ehub._native import _testing as native

L2, IP, COSINE = range(3)
METRICS = {"l2": L2, "ip": IP, "cosine": COSINE}
TIERS = native.supported_kernels()


@pytest.fixture
def selection():
    yield
    native.select_kernels(None)


def eighths(seed: int, n: int, dims: int) -> np.ndarray:
    """Small multiples of 1/8: sums of their products are exact in any order."""
    whole = np.random.default_rng(seed).integers(-16, 17, (n, dims))
    return whole.astype(np.float32) / 8


def normal(seed: int, n: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims), dtype=np.float32)


def clustered(seed: int, n: int, dims: int, clusters: int, spread: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dims), dtype=np.float32)
    rows = centres[rng.integers(0, clusters, n)]
    return rows + np.float32(spread) * rng.standard_normal((n, dims), dtype=np.float32)


def digest(graph) -> str:
    """Of all that a walk reads."""
    parts = (graph.links.tobytes(), graph.codes, graph.metas, np.uint32(graph.router).tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


# --- the same bytes ---

# Of eighths(1, 3000, 40), which any machine makes alike; a change of the build changes them.
PINNED = {"l2": "8a6254f9d3eb373a", "ip": "05deb4c508c96ae6", "cosine": "1aa00353ffcf7109"}
# Of low_rank(1, 3000, 128), which is built and walked by codes of 4 bits.
PINNED_IN_4_BITS = {"l2": "19359ff837fc6bf8", "cosine": "ef75a7b43d4a33ef"}


def low_rank(seed: int, n: int, dims: int) -> np.ndarray:
    """The same of only 8 directions."""
    signs = np.random.default_rng(seed).integers(-1, 2, (8, dims)).astype(np.float32)
    return eighths(seed, n, 8) @ signs


@pytest.mark.parametrize(
    ("metric", "bits", "dims", "row_bytes"),
    [
        ("l2", 4, 128, 64 + 8),
        ("l2", 4, 129, 64 + 16),  # up to 16 values beyond a line of codes
        ("l2", 4, 144, 64 + 16),
        ("cosine", 4, 144, 64 + 16),
        ("l2", 4, 145, 128 + 8),
        ("l2", 8, 8, 64 + 8),
        ("ip", 8, 72, 64 + 16),  # up to 8
        ("ip", 8, 73, 128 + 8),
    ],
)
def test_a_graph_in_memory_answers_to_the_bit_as_its_file_does(
    selection, metric, bits, dims, row_bytes
):
    n = 1500
    rows = low_rank(1, n, dims) if bits == 4 else eighths(1, n, dims)
    graph = native.build_graph(rows, METRICS[metric])
    assert graph.code_bits == bits
    fs = native.FaultFileSystem()
    fs.make_directory("/index")
    stamp = native.GraphStamp(7, 1234, n, dims, METRICS[metric])
    native.write_graph(fs, "/index", stamp, graph)
    mapped = native.open_graph(fs, "/index", stamp)
    copied = mapped.in_memory()
    links = graph.links
    assert copied.memory_bytes == mapped.memory_bytes == links.nbytes + n * row_bytes
    queries = eighths(2, 20, dims)
    for tier in TIERS:
        native.select_kernels(tier)
        for query in queries:
            assert np.array_equal(copied.distances(query), mapped.distances(query)), tier
        assert copied.search(rows, queries, 5, 5) == mapped.search(rows, queries, 5, 5), tier


@pytest.mark.parametrize(
    ("metric", "rows", "bits", "pinned"),
    [(metric, eighths(1, 3000, 40), 8, pinned) for metric, pinned in PINNED.items()]
    + [(metric, low_rank(1, 3000, 128), 4, pinned) for metric, pinned in PINNED_IN_4_BITS.items()],
)
def test_a_graph_is_the_same_on_every_machine(selection, metric, rows, bits, pinned):
    graph = native.build_graph(rows, METRICS[metric])
    assert graph.code_bits == bits
    assert digest(graph) == pinned
    for tier in TIERS:
        native.select_kernels(tier)
        for threads in (1, 2, 3):
            again = native.build_graph(rows, METRICS[metric], threads=threads)
            assert digest(again) == pinned, (tier, threads)
            assert again.ef == graph.ef


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("make", "arguments"),
    [(normal, (2, 1500, 70)), (clustered, (3, 1500, 130, 12)), (clustered, (4, 1500, 3, 5, 1e-3))],
)
def test_threads_and_instruction_sets_do_not_show_in_a_graph(selection, metric, make, arguments):
    rows = make(*arguments)
    rows[1000:1100] = rows[5]
    native.select_kernels("scalar")
    alone = native.build_graph(rows, METRICS[metric])
    for tier in TIERS[1:]:
        native.select_kernels(tier)
        assert digest(native.build_graph(rows, METRICS[metric], threads=2)) == digest(alone)


# --- the shape of a graph ---


def reached(graph) -> set[int]:
    """The rows that a walk can come to, twins included."""
    todo, seen = list(graph.router), set(graph.router)
    while todo:
        row = todo.pop()
        for other in graph.links[row].tolist():
            if other == row:
                break
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen | set(graph.twins)


def hard_rows(name: str) -> np.ndarray:
    """Rows at which a graph may fall apart."""
    rng = np.random.default_rng(11)
    if name == "far clusters":
        return clustered(5, 3000, 16, 30, 1e-4) * np.float32(1000)
    if name == "one line":
        return np.arange(3000, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    if name == "all but the same":
        return np.float32(1) + rng.random((3000, 8), dtype=np.float32) * np.float32(1e-6)
    if name == "many the same":
        rows = normal(6, 3000, 8)
        rows[::2] = rows[0]
        return rows
    if name == "one dimension":
        return rng.random((3000, 1), dtype=np.float32)
    if name == "of all lengths":
        return normal(7, 3000, 12) * np.float32(10) ** rng.integers(-6, 6, (3000, 1))
    if name == "one direction":
        return normal(8, 1, 16) * rng.random((3000, 1), dtype=np.float32)
    assert name == "zeros"
    return np.zeros((3000, 4), np.float32)


HARD = [
    "far clusters",
    "one line",
    "all but the same",
    "many the same",
    "one dimension",
    "of all lengths",
    "one direction",
    "zeros",
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", HARD)
def test_no_row_is_out_of_reach(name, metric):
    rows = hard_rows(name).astype(np.float32)
    if metric == "cosine" and name == "zeros":
        rows += 1
    graph = native.build_graph(rows, METRICS[metric], threads=2)
    assert graph.unreachable == 0
    assert reached(graph) == set(range(len(rows)))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 65, 129, 500])
def test_a_graph_of_few_rows_links_them_all(n):
    rows = normal(n, n, 5)
    graph = native.build_graph(rows, L2, threads=2)
    assert reached(graph) == set(range(n))
    found = graph.search(rows, rows, k=n, ef=n)
    assert all(sorted(numbers) == list(range(n)) for _, numbers in found)


@pytest.mark.parametrize(("M", "ef_construction"), [(2, 2), (5, 20), (16, 200), (60, 10)])
def test_a_row_has_at_most_2_m_links_nearest_first_and_none_twice(M, ef_construction):
    rows = normal(12, 1500, 10)
    graph = native.build_graph(rows, L2, threads=2, M=M, ef_construction=ef_construction)
    assert graph.links.shape[1] % 16 == 0
    for row, links in enumerate(graph.links):
        used = links[: np.argmax(links == row)] if (links == row).any() else links
        assert len(used) == len(set(used.tolist())) <= 2 * M
        assert (links[len(used) :] == row).all()
        assert used.max(initial=0) < len(rows)
    assert graph.unreachable == 0


@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_build_that_is_cancelled_says_so_wherever_it_is(metric, threads):
    rows, errors = normal(1, 200, 4), []

    def build():
        try:
            return native.build_graph(rows, metric, threads=threads, asked_max=len(errors))
        except native.StatusError as error:
            errors.append((error.code, str(error)))

    while (graph := build()) is None:
        assert errors[-1] == ("Closed", "the build of the index was cancelled")
    whole = native.build_graph(rows, metric)
    assert graph.ef == whole.ef
    np.testing.assert_array_equal(graph.links, whole.links)
    assert len(errors) > 50


# The first is by codes, the other by the rows themselves. 6400 are whole words of a bitmap.
@pytest.mark.parametrize(("k", "ef"), [(10, 300), (3200, 3200)])
def test_a_search_that_goes_through_all_rows_that_pass_ends_when_it_is_to_stop(k, ef):
    rows = normal(2, 6400, 8)
    graph = native.build_graph(rows, L2, threads=2)
    with pytest.raises(native.StatusError, match="the search was stopped") as caught:
        graph.search_stopped(rows, k, ef)
    assert caught.value.code == "Deadline"


# --- what it finds ---


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize(("kind", "dims"), [("normal", 24), ("clustered", 24), ("clustered", 72)])
def test_every_row_finds_itself_after_a_parallel_build(metric, kind, dims):
    rows = normal(21, 20_000, dims) if kind == "normal" else clustered(22, 20_000, dims, 200)
    graph = native.build_graph(rows, METRICS[metric], threads=2)
    assert graph.unreachable == 0
    for ef in (0, 10):
        found = graph.search(rows, rows, k=1, ef=ef)
        lost = [row for row, (_, numbers) in enumerate(found) if numbers != [row]]
        assert lost == []


def true_neighbors(rows: np.ndarray, queries: np.ndarray, metric: str, k: int) -> np.ndarray:
    rows64, queries64 = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        rows64 /= np.linalg.norm(rows64, axis=1, keepdims=True)
        queries64 /= np.linalg.norm(queries64, axis=1, keepdims=True)
    distances = -2 * queries64 @ rows64.T
    if metric != "ip":
        distances += (rows64**2).sum(axis=1)
    return np.sort(np.argpartition(distances, k, axis=1)[:, :k], axis=1)


@pytest.mark.parametrize(
    ("metric", "dims", "bits", "apart"),
    [
        ("l2", 72, 4, 0),
        ("cosine", 72, 4, 0),
        ("ip", 72, 8, 0),  # whatever the dims
        ("l2", 24, 8, 0),  # as many bytes as of 4 bits
        ("ip", 24, 8, 0),
        ("cosine", 24, 8, 0),
        ("l2", 24, 16, 1e3),
        ("l2", 24, 32, 1e4),
    ],
)
def test_recall_grows_with_ef_in_any_width(metric, dims, bits, apart):
    # Two clusters that are so far apart that few bits tell their rows from each other.
    rows, queries = normal(31, 4000, dims), normal(32, 100, dims)
    rows[::2] += np.float32(apart)
    queries[::2] += np.float32(apart)
    graph = native.build_graph(rows, METRICS[metric], threads=2)
    assert graph.code_bits == bits
    truth = true_neighbors(rows, queries, metric, 10)

    def recall(ef: int) -> float:
        found = graph.search(rows, queries, k=10, ef=ef)
        hits = [len(set(n) & set(t)) for (_, n), t in zip(found, truth.tolist(), strict=True)]
        return sum(hits) / truth.size

    assert recall(0) >= 0.93
    assert recall(1000) >= 0.99
    assert recall(len(rows)) >= 0.999


def test_products_are_found_among_rows_of_very_different_lengths():
    rows, queries = normal(35, 6000, 48), normal(36, 200, 48)
    rows *= np.exp(0.5 * normal(37, 6000, 1))
    rows += np.float32(0.2)  # so that the mean counts, which the codes are without
    graph = native.build_graph(rows, IP, threads=2)
    truth = true_neighbors(rows, queries, "ip", 10).tolist()

    def recall(ef: int) -> float:
        found = graph.search(rows, queries, k=10, ef=ef)
        hits = [len(set(n) & set(t)) for (_, n), t in zip(found, truth, strict=True)]
        return sum(hits) / 2000

    assert recall(0) >= 0.93
    assert recall(100) >= 0.98


def test_a_few_rows_far_from_all_others_do_not_make_the_codes_coarse():
    rows, queries = normal(33, 4000, 24), normal(34, 100, 24)
    rows[::400] *= np.float32(1e7)
    graph = native.build_graph(rows, L2, threads=2)
    assert graph.code_bits == 8
    found = graph.search(rows, queries, k=10)
    truth = true_neighbors(rows, queries, "l2", 10).tolist()
    hits = [len(set(n) & set(t)) for (_, n), t in zip(found, truth, strict=True)]
    assert sum(hits) / 1000 >= 0.93


@pytest.mark.parametrize("metric", METRICS)
def test_dead_rows_are_walked_through_and_never_found(metric):
    rows, queries = clustered(41, 3000, 16, 20), normal(42, 50, 16)
    graph = native.build_graph(rows, METRICS[metric])
    dead = np.random.default_rng(43).permutation(3000)[:1500].tolist()
    for _, numbers in graph.search(rows, queries, k=10, ef=200, dead=dead):
        assert len(numbers) == 10
        assert not set(numbers) & set(dead)


def test_equal_rows_come_in_the_order_of_their_numbers():
    rows = normal(51, 500, 4)
    rows[100:400] = rows[7]
    graph = native.build_graph(rows, L2)
    [(distances, numbers)] = graph.search(rows, rows[7:8], k=50, ef=100)
    assert numbers == [7, *range(100, 149)]
    assert distances == [0.0] * 50
    [(_, numbers)] = graph.search(rows, rows[7:8], k=3, dead=[7, 100])
    assert numbers == [101, 102, 103]
