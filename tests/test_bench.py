"""`ehub bench` counts and compares rightly, takes any data, and keeps what is done."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub.bench import building, contenders, data, measure, report
from ehub.cli import run

h5py = pytest.importorskip("h5py")

ROOT = Path(__file__).resolve().parent.parent
ROWS, DIMS, QUERIES, K = 400, 8, 20, 5
QUICK = ["--contenders", "ehub", "--ef", "10,20", "--rounds", "1", "-k", str(K)]


class Silence:
    def update(self, n):
        pass

    def set_description(self, desc):
        pass


def vectors(count, seed=1, dims=DIMS):
    return np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)


def trial_of(rows, queries, metric="l2", neighbors=None):
    rows, queries = (np.asarray(array, np.float32) for array in (rows, queries))
    return data.Trial("t", metric, rows, queries, neighbors)


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Runs a command in a directory of its own; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


# --- recall ---


def recall_of(rows, query, true, found, k, metric="l2"):
    trial = trial_of(rows, [query], metric, np.array([true]))
    return data.recall(trial, data.true_distances(trial, k), np.array([found]), k)


def test_recall_is_the_share_of_the_true_neighbors_found():
    rows = [[0.0], [1], [2], [3], [4]]
    assert recall_of(rows, [0], [0, 1, 2, 3], [0, 1, 2, 3], 4) == 1
    assert recall_of(rows, [0], [0, 1, 2, 3], [1, 4, 0, 2], 4) == 0.75


def test_a_row_that_ties_with_the_last_neighbor_counts():
    rows = [[0.0], [1], [-1], [2], [1 + 1e-3]]
    assert recall_of(rows, [0], [0, 1], [0, 2], 2) == 1
    assert recall_of(rows, [0], [0, 1], [0, 4], 2) == 0.5


def test_a_row_that_is_listed_twice_counts_once_and_an_empty_place_not_at_all():
    rows = [[0.0], [1], [2], [3]]
    assert recall_of(rows, [0], [0, 1, 2], [0, 0, 0], 3) == pytest.approx(1 / 3)
    assert recall_of(rows, [0], [0, 1, 2], [2, 1, 2], 3) == pytest.approx(2 / 3)
    assert recall_of(rows, [0], [0, 1, 2], [-1, 0, -1], 3) == pytest.approx(1 / 3)


def test_answers_beyond_k_do_not_count():
    rows = [[0.0], [1], [2], [3]]
    assert recall_of(rows, [0], [0, 1], [3, 0, 1], 2) == 0.5


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_the_truth_is_what_numpy_computes(metric, tmp_path):
    trial = data.prepared(trial_of(vectors(ROWS), vectors(QUERIES, 2), metric), K, tmp_path)
    every = np.tile(np.arange(ROWS), (QUERIES, 1))
    distances = np.sort(data.distances_to(trial, every), axis=1)
    assert np.allclose(data.true_distances(trial, K), distances[:, K - 1])
    assert data.recall(trial, distances[:, K - 1], trial.neighbors, K) == 1
    assert trial.truth == "computed"


def test_neighbors_that_come_with_the_data_are_believed_only_if_they_are_right(tmp_path):
    rows, queries = vectors(ROWS), vectors(QUERIES, 2)
    right = data.exact_neighbors(trial_of(rows, queries), K, tmp_path)
    assert data.prepared(trial_of(rows, queries, "l2", right), K, tmp_path).truth == "from the file"
    for wrong in (right[:, ::-1] * 0, right[:, : K - 1], right - 1, right + ROWS):
        trial = data.prepared(trial_of(rows, queries, "l2", wrong), K, tmp_path)
        assert trial.truth == "computed"
        assert np.array_equal(trial.neighbors, right)


# --- at equal recall ---


def test_the_front_is_what_no_other_point_beats():
    points = [(0.9, 100), (0.8, 90), (0.95, 50), (0.95, 60), (0.99, 60), (0.7, 300)]
    assert measure.pareto(points) == [(0.7, 300), (0.9, 100), (0.99, 60)]
    assert measure.pareto([]) == []


def test_between_two_points_speed_is_interpolated_in_logarithms():
    points = [(0.9, 1000.0), (0.999, 10.0)]
    reading = measure.at_recall(points, 0.99)
    assert reading.qps == pytest.approx(100)
    assert not reading.bound
    assert measure.at_recall(points, 0.9) == (1000.0, False)
    assert measure.at_recall(points, 0.999).qps == pytest.approx(10)


def test_a_point_of_perfect_recall_can_be_interpolated_to():
    reading = measure.at_recall([(0.9, 1000.0), (1.0, 10.0)], 0.95)
    assert 10 < reading.qps < 1000


def test_above_the_target_a_figure_is_a_bound_and_below_there_is_none():
    points = [(0.97, 500.0), (0.98, 100.0)]
    assert measure.at_recall(points, 0.95) == (500.0, True)
    assert measure.at_recall(points, 0.99) is None
    assert measure.at_recall([], 0.5) is None


def test_a_figure_of_a_higher_recall_is_no_bound_where_a_lower_one_was_slower():
    points = [(0.93, 490.0), (0.97, 500.0), (0.98, 100.0)]
    assert measure.at_recall(points, 0.95) == (500.0, False)


def outcome(name, *points):
    found = measure.Outcome(name, "1", "")
    for ef, (recall, *qps) in enumerate(points, 10):
        found.points[ef] = measure.Point(ef, recall, recall, qps, qps, [(1, 2, 3)] * len(qps))
    return found


def test_what_lies_between_two_settings_around_a_recall_is_halved_until_they_are_close():
    found = measure.Outcome("ehub", "1", "")
    for ef in (10, 20, 40):
        found.points[ef] = measure.Point(ef, ef / 100, qps=[1.0])
    asked = []
    while (ef := measure.between(found, 0.125)) is not None:
        asked.append(ef)
        found.points[ef] = measure.Point(ef, ef / 100, qps=[1.0])
    assert asked == [15, 12, 13]
    assert measure.between(found, 0.395) == 30
    assert measure.between(found, 0.05) is None
    assert measure.between(found, 0.5) is None


def test_each_contender_is_asked_settings_of_its_own_around_a_recall(monkeypatch):
    def ask(trial, kth, plan, found, enough_at, ef):
        recall = 0.99 if ef >= enough_at else 0.5
        found.points.setdefault(ef, measure.Point(ef, recall)).qps.append(1.0)

    monkeypatch.setattr(measure, "ask", ask)
    plan = measure.Plan(K, (1, 9), rounds=2)
    live = [(measure.Outcome("a", "1", ""), 4), (measure.Outcome("b", "1", ""), 7)]
    for number in range(plan.rounds):
        measure.ask_round(None, None, plan, live, number, Silence())
    assert [sorted(found.points) for found, _ in live] == [[1, 3, 4, 5, 9], [1, 5, 6, 7, 9]]
    assert all(len(point.qps) == 2 for found, _ in live for point in found.measured)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    ours = outcome("ehub", (0.9, 20.0, 300.0, 80.0))
    theirs = outcome("hnswlib", (0.9, 10.0, 100.0, 20.0))
    assert measure.ratio_at(ours, theirs, 0.9) == (3.0, "")
    assert measure.ratio_at(ours, theirs, 0.9, batch=True) == (3.0, "")
    assert measure.ratio_at(ours, None, 0.9) is None
    assert measure.ratio_at(ours, theirs, 0.95) is None


def test_a_ratio_says_what_it_bounds():
    fast, slow = outcome("a", (0.99, 50.0)), outcome("b", (0.8, 20.0), (0.99, 10.0))
    assert measure.ratio_at(fast, slow, 0.95).sign == ">="
    assert measure.ratio_at(slow, fast, 0.95).sign == "<="
    assert measure.ratio_at(fast, fast, 0.95).sign == "~"


def test_an_unfinished_round_is_no_part_of_a_ratio():
    ours = outcome("ehub", (0.8, 20.0, 999.0), (0.9, 10.0))
    theirs = outcome("hnswlib", (0.8, 10.0, 1.0), (0.9, 5.0))
    assert measure.ratio_at(ours, theirs, 0.9).value == pytest.approx(2)


# --- the command ---


def write_hdf5(path, distance, **more):
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = vectors(ROWS), vectors(QUERIES, 2)
        file.attrs["distance"] = distance
        for name, array in more.items():
            file.pop(name, None)
            file[name] = array


@pytest.mark.parametrize(
    ("distance", "metric"), [("euclidean", "l2"), ("angular", "cosine"), ("dot", "ip")]
)
def test_a_file_of_any_metric_is_measured(cli, tmp_path, distance, metric):
    write_hdf5(tmp_path / "d.hdf5", distance)
    code, out, err = cli("bench", "d.hdf5", *QUICK, "--json", "out.json")
    assert code == 0, err
    assert f"{ROWS} x {DIMS}, {metric}" in err
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["complete"]
    assert (found["data"]["rows"], found["data"]["metric"]) == (ROWS, metric)
    [entry] = found["contenders"]
    assert entry["name"] == "ehub"
    assert entry["build_seconds"] > 0
    assert [point["ef"] for point in entry["points"]] == [10, 20]
    for point in entry["points"]:
        # So few rows are scanned: none is missed.
        assert point["recall"] == point["batch_recall"] == 1
        assert 0 < point["p50_seconds"] <= point["p95_seconds"] <= point["p99_seconds"]
        assert point["qps"] > 0
        assert point["batch_qps"] > 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["ehub", "ehub", "", "ehub", ""]


def test_zero_vectors_of_an_angular_file_are_left_out_and_counted(cli, tmp_path):
    rows, queries = vectors(ROWS), vectors(QUERIES, 2)
    rows[[3, 7, 250]] = queries[[0, 4]] = 0
    true = np.argsort(-(queries @ (rows / np.maximum(norms(rows), 1e-9)).T), axis=1)[:, :K]
    write_hdf5(tmp_path / "d.hdf5", "angular", train=rows, test=queries, neighbors=true)
    code, _, err = cli("bench", "d.hdf5", *QUICK, "--json", "out.json")
    assert code == 0, err
    assert "no direction: 3 rows, 2 queries" in err
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["data"]["rows"], found["data"]["rows_left_out"]) == (ROWS - 3, 3)
    assert (found["data"]["queries"], found["data"]["queries_left_out"]) == (QUERIES - 2, 2)
    assert found["data"]["truth"] == "computed"
    assert {point["recall"] for point in found["contenders"][0]["points"]} == {1}


def test_neighbors_of_the_queries_that_are_left_are_still_those_of_the_file(tmp_path):
    rows, queries = vectors(ROWS), vectors(QUERIES, 2)
    queries[4] = 0
    true = np.argsort(-(queries @ (rows / norms(rows)).T), axis=1)[:, :K]
    trial = data.prepared(trial_of(rows, queries, "cosine", true), K, tmp_path)
    assert trial.truth == "from the file"
    assert np.array_equal(trial.neighbors, np.delete(true, 4, axis=0))


def norms(array):
    return np.linalg.norm(array, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("dataset", "array", "said"),
    [
        ("train", [[1, 2], [np.nan, 1]], "train: row 1 holds a NaN"),
        ("test", [[1e300, 1.0]], "test: row 0 holds a NaN or an infinity as float32"),
        ("test", [[1, 2, 3]], "test has 3 dims and train 8"),
        ("train", np.zeros((2, 0)), "train is float64[2, 0]; expected numbers [n, dims]"),
    ],
)
def test_what_cannot_be_measured_is_named_by_file_dataset_and_row(
    cli, tmp_path, dataset, array, said
):
    write_hdf5(tmp_path / "bad.hdf5", "angular", **{dataset: np.array(array)})
    code, _, err = cli("bench", "bad.hdf5", *QUICK)
    assert code == 1
    assert f"bad.hdf5: {said}" in err
    assert "space" not in err


def test_nothing_is_left_behind_but_what_was_asked_for(cli, tmp_path):
    assert cli("bench", "--random", "300,8", "--queries", "10", *QUICK)[0] == 0
    assert list(tmp_path.iterdir()) == []
    assert cli("bench", "--random", "300,8", "--queries", "10", *QUICK, "--keep", "kept")[0] == 0
    with ehub.open(tmp_path / "kept" / "ehub" / "hub", read_only=True) as hub:
        assert len(hub.get_space("rows")) == 300


def test_random_rows_are_measured_with_an_index(cli):
    code, out, err = cli("bench", "--random", "2000,16", "--metric", "cosine", *QUICK)
    assert code == 0, err
    assert "2,000 x 16, cosine" in err
    assert out.startswith("ehub\t10\t")


def test_a_space_is_copied_and_some_of_its_rows_become_queries(cli, tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("items", DIMS, metric="ip")
        space.multiset([f"k{i}" for i in range(ROWS)], vectors(ROWS))
    code, _, err = cli("bench", "hub", "--space", "items", *QUICK)
    assert code == 0, err
    assert "360 x 8, ip" in err
    assert "40 queries" in err
    with ehub.open(tmp_path / "hub") as hub:
        assert len(hub.get_space("items")) == ROWS


def test_the_smallest_setting_is_k(cli, tmp_path):
    arguments = ["--random", "300,8", "--queries", "10", "--rounds", "1", "--contenders", "ehub"]
    assert cli("bench", *arguments, "--ef", "2,8,30", "-k", "16", "--json", "o.json")[0] == 0
    assert json.loads((tmp_path / "o.json").read_text())["efs"] == [16, 30]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--random", "10"],
        ["--random", "0,3"],
        ["--random", "a,b"],
        ["--random", "100,4", "--ef", "ten"],
        ["--random", "100,4", "--contenders", "nobody"],
        ["--random", "100,4", "--plot", "x.jpeg"],
        ["--random", "100,4", "--json", "missing/x.json"],
        ["--random", "100,4", "--space", "s"],
        ["--random", "100,4", "--keep", "."],
        ["missing.hdf5"],
        ["."],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_before_any_work(cli, tmp_path, arguments):
    (tmp_path / "something").touch()
    code, out, err = cli("bench", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") or "\nerror: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_file_that_is_no_benchmark_is_refused_with_what_was_expected(cli, tmp_path):
    write_hdf5(tmp_path / "bad.hdf5", "hamming")
    code, _, err = cli("bench", "bad.hdf5", *QUICK)
    assert code == 1
    assert "'hamming'; expected one of angular" in err
    with h5py.File(tmp_path / "bare.hdf5", "w") as file:
        file["train"] = vectors(3)
    code, _, err = cli("bench", "bare.hdf5", *QUICK)
    assert code == 1
    assert "no dataset 'test'" in err


def test_a_library_that_is_not_installed_is_named(cli, monkeypatch):
    monkeypatch.setattr(contenders.Vsag, "module", "surely_not_installed")
    code, _, err = cli("bench", "--random", "300,8", "--contenders", "vsag")
    assert code == 1
    assert "'vsag' is not installed" in err
    assert "pip install pyvsag" in err


def test_installed_contenders_take_part_and_the_others_are_listed(cli, tmp_path, monkeypatch):
    for kind in contenders.CONTENDERS.values():
        if kind not in (contenders.Ehub, contenders.Hnswlib):
            monkeypatch.setattr(kind, "module", "surely_not_installed")
    peer = contenders.Hnswlib.installed()
    arguments = ["--random", "600,8", "--queries", "10", "--ef", "10,40", "--rounds", "2"]
    code, _, err = cli("bench", *arguments, "--json", "o.json")
    assert code == 0, err
    assert "faiss-hnsw (faiss-cpu)" in err
    found = json.loads((tmp_path / "o.json").read_text())
    names = [entry["name"] for entry in found["contenders"]]
    assert names == ["ehub", *["hnswlib"] * peer]
    assert found["missing"]["faiss-hnsw"] == "faiss-cpu"
    if peer:
        assert found["contenders"][1]["index_bytes"] > 600 * 8 * 4
        assert found["contenders"][1]["at_recall"]["0.9"]["ratio"] == 1


@pytest.mark.parametrize("kind", contenders.CONTENDERS.values(), ids=list(contenders.CONTENDERS))
@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_a_contender_finds_what_it_built_and_saved(kind, metric, tmp_path):
    pytest.importorskip(kind.module)
    trial = data.prepared(trial_of(vectors(ROWS), vectors(QUERIES, 2), metric), K, tmp_path)
    plan = measure.Plan(K, (60,), rounds=1, threads=2)
    with contenders.quiet():
        found = measure.run(trial, [kind], plan, tmp_path, Silence())
    [outcome] = found.outcomes
    if metric in kind.metrics:
        assert outcome.failure == ""
        assert outcome.points[60].recall > 0.5
    else:
        assert outcome.failure == f"it does not search by {metric}"


def test_a_plot_is_drawn_into_each_file(cli, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--random", "300,8", "--queries", "10", *QUICK]
    assert cli("bench", *arguments, "--plot", "a.svg", "--plot", "b.png")[0] == 0
    assert (tmp_path / "a.svg").read_text().lstrip().startswith("<?xml")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


# --- what goes wrong ---


class Broken(contenders.Ehub):
    """Fails where it is told to."""

    name = "ehub"
    after = 0
    error: type[BaseException] = RuntimeError
    asked = 0

    def one(self, ef, k):
        type(self).asked += 1
        if self.asked > self.after:
            raise self.error("stop")
        return super().one(ef, k)


def broken(after, error):
    return type("Broken", (Broken,), {"after": after, "error": error, "asked": 0})


def run_broken(tmp_path, after, error):
    trial = data.prepared(trial_of(vectors(ROWS), vectors(QUERIES, 2)), K, tmp_path)
    plan = measure.Plan(K, (10, 20), rounds=2, recall_enough=None)
    return measure.run(trial, [broken(after, error)], plan, tmp_path, Silence())


def test_a_contender_that_fails_keeps_its_figures_and_stops_nobody(tmp_path):
    found = run_broken(tmp_path, 3, RuntimeError)  # once to warm up, then two settings
    [outcome] = found.outcomes
    assert found.complete
    assert outcome.failure == "RuntimeError: stop"
    assert [len(point.qps) for point in outcome.measured] == [1, 1]
    assert report.document(found)["contenders"][0]["failure"] == "RuntimeError: stop"


def test_a_contender_that_finds_everything_is_asked_no_larger_setting(tmp_path):
    trial = data.prepared(trial_of(vectors(ROWS), vectors(QUERIES, 2)), K, tmp_path)
    plan = measure.Plan(K, (10, 20), rounds=2)
    [outcome] = measure.run(trial, [contenders.Ehub], plan, tmp_path, Silence()).outcomes
    assert [(point.ef, len(point.qps)) for point in outcome.measured] == [(10, 2)]


def test_an_interrupted_run_has_what_was_measured_by_then(tmp_path):
    found = run_broken(tmp_path, 2, KeyboardInterrupt)
    [outcome] = found.outcomes
    assert not found.complete
    assert outcome.built is not None
    assert [(point.ef, len(point.qps)) for point in outcome.measured] == [(10, 1)]
    assert json.loads(json.dumps(report.document(found)))["complete"] is False


def test_ctrl_c_prints_and_writes_what_is_done_and_exits_with_130(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(contenders.CONTENDERS, "ehub", broken(2, KeyboardInterrupt))
    arguments = ["--random", "300,8", "--queries", "10", *QUICK, "--json", "o.json"]
    code, out, err = cli("bench", *arguments)
    assert code == 130
    assert out.startswith("ehub\t10\t")
    assert err.endswith("error: interrupted; what had been measured by then is above\n")
    assert not json.loads((tmp_path / "o.json").read_text())["complete"]
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]


def test_a_real_signal_while_building_ends_it_all(tmp_path):
    command = [sys.executable, "-m", "ehub.cli", "bench", "--random", "200000,32", *QUICK]
    env = {**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        said = [run.stderr.readline(), run.stderr.readline()]
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
    assert said[1].endswith("true neighbors computed\n")
    assert run.returncode == 130
    assert "error: interrupted" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_fails_is_reported_and_the_others_go_on(tmp_path):
    trial = data.prepared(trial_of(vectors(ROWS), vectors(QUERIES, 2)), K, tmp_path)
    np.save(tmp_path / "bad.npy", np.full((3, 3), np.nan, np.float32))
    with pytest.raises(building.Failed, match="InvalidVectorError"):
        building.build_apart("ehub", tmp_path / "bad.npy", "l2", 1, tmp_path / "bad")
    found = measure.run(trial, [contenders.Ehub], measure.Plan(K, (10,), 1), tmp_path, Silence())
    assert found.outcomes[0].failure == ""


def test_a_build_is_measured_in_a_process_of_its_own(tmp_path):
    np.save(tmp_path / "rows.npy", vectors(ROWS))
    before = os.sched_getaffinity(0)
    built = building.build_apart("ehub", tmp_path / "rows.npy", "l2", 1, tmp_path / "ehub")
    assert built.seconds > 0
    assert built.peak_bytes > 0
    assert os.sched_getaffinity(0) == before


# --- ann-benchmarks ---


@pytest.fixture
def ann_module(monkeypatch):
    """The module as ann-benchmarks imports it."""

    class BaseANN:
        def done(self):
            raise AssertionError("the module has its own")

    for name in ("ann_benchmarks", "ann_benchmarks.base", "ann_benchmarks.ehub"):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    base = types.ModuleType("ann_benchmarks.base.module")
    base.BaseANN = BaseANN
    monkeypatch.setitem(sys.modules, base.__name__, base)
    path = ROOT / "benchmarks" / "ann_benchmarks" / "module.py"
    spec = importlib.util.spec_from_file_location("ann_benchmarks.ehub.module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ann_benchmarks_can_take_the_module(ann_module):
    rows, queries = vectors(ROWS), vectors(QUERIES, 2)
    algorithm = ann_module.Ehub("euclidean", {"M": 16, "efConstruction": 100})
    algorithm.fit(rows)
    algorithm.set_query_arguments(50)
    nearest = np.argsort(((queries[:, np.newaxis] - rows) ** 2).sum(axis=2), axis=1)[:, :K]
    assert algorithm.query(queries[0], K).tolist() == nearest[0].tolist()
    algorithm.batch_query(queries, K)
    assert np.array_equal(algorithm.get_batch_results(), nearest)
    assert "ef: 50" in algorithm.name
    directory = Path(algorithm.directory)
    algorithm.done()
    assert not directory.exists()


def test_ann_benchmarks_gets_answers_of_an_angular_set_with_zero_vectors(ann_module):
    rows, queries = vectors(ROWS), vectors(QUERIES, 2)
    rows[[0, 9]] = queries[[0, 5]] = 0
    algorithm = ann_module.Ehub("angular", {"M": 16, "efConstruction": 100})
    algorithm.fit(rows)
    algorithm.set_query_arguments(50)
    units = np.where(norms(rows) > 0, rows / np.maximum(norms(rows), 1e-9), np.nan)
    nearest = np.argsort(-(queries @ units.T), axis=1)[:, :K]
    assert list(algorithm.query(queries[0], K)) == []
    assert algorithm.query(queries[1], K).tolist() == nearest[1].tolist()
    algorithm.batch_query(queries, K)
    found = [list(keys) for keys in algorithm.get_batch_results()]
    assert found == [[] if i in (0, 5) else nearest[i].tolist() for i in range(QUERIES)]
    algorithm.batch_query(queries[1:5], K)
    assert np.array_equal(algorithm.get_batch_results(), nearest[1:5])
    with pytest.raises(ehub.InvalidVectorError, match="NaN"):
        algorithm.query(np.full(DIMS, np.nan, np.float32), K)
    algorithm.done()
