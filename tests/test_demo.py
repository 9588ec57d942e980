"""The demo runs anywhere without data, checks the store against NumPy, and fails if they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ehub
from ehub.cli import run
from ehub.demo import corpus, embedding, trial

ROWS = 400


@pytest.fixture(scope="module")
def texts():
    return corpus.collect_texts(ROWS)


def test_the_demo_checks_itself_and_deletes_its_hub(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(["demo", "--rows", str(ROWS)]) == 0
    out = capsys.readouterr().out
    assert "recall@10\t1.0000" in out
    assert "checks\tall right" in out
    assert list(tmp_path.iterdir()) == []


def test_the_demo_can_keep_its_hub_and_print_json(capsys, tmp_path):
    kept = tmp_path / "kept"
    assert run(["demo", "--rows", str(ROWS), "--keep", str(kept), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == ROWS
    assert report["recall_at_10"] == 1
    assert report["wrong"] == []
    with ehub.open(kept, read_only=True) as hub:
        assert len(hub.get_space(trial.SPACE)) == ROWS


def test_the_demo_does_not_touch_what_is_there(capsys, tmp_path):
    (tmp_path / "precious").touch()
    assert run(["demo", "--rows", str(ROWS), "--keep", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_the_demo_fails_if_a_stored_vector_differs(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "store", store_wrongly)
    assert run(["demo", "--rows", str(ROWS)]) == 1
    captured = capsys.readouterr()
    assert "a vector differs in rows 0 to" in captured.err
    assert "checks\t2 wrong" in captured.out


STORE = trial.store


def store_wrongly(path, keys, vectors, report, progress):
    """Store the vectors with one bit of one number flipped."""
    vectors = vectors.copy()
    vectors.view(np.uint32)[3, 5] ^= 1
    STORE(path, keys, vectors, report, progress)


def test_an_interrupted_demo_deletes_its_hub(capsys, tmp_path, monkeypatch):
    def interrupt(items, say):
        assert [path.name[:9] for path in tmp_path.iterdir()] == ["ehub-demo"]
        raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(trial, "show_neighbors", interrupt)
    assert run(["demo", "--rows", str(ROWS)]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_missed_neighbor_and_a_wrong_distance_are_noticed():
    exact = np.array([np.inf, 0.1, 0.2, 0.3])
    rows = {"a": 0, "b": 1, "c": 2, "d": 3}
    report = trial.Report()
    right = [ehub.Neighbor("b", 0.1), ehub.Neighbor("c", 0.2)]
    assert trial.count_right(right, rows, exact, 2, "a", report) == 2
    missed = [ehub.Neighbor("b", 0.1), ehub.Neighbor("d", 0.3)]
    assert trial.count_right(missed, rows, exact, 2, "a", report) == 1
    twice = [ehub.Neighbor("b", 0.1), ehub.Neighbor("b", 0.1)]
    assert trial.count_right(twice, rows, exact, 2, "a", report) == 1
    assert report.wrong == []
    trial.count_right([ehub.Neighbor("b", 0.15)], rows, exact, 2, "a", report)
    assert len(report.wrong) == 1


def test_a_tie_with_the_last_neighbor_counts():
    exact = np.array([np.inf, 0.1, 0.2, 0.2])
    rows = {"a": 0, "b": 1, "c": 2, "d": 3}
    for last in ("c", "d"):
        found = [ehub.Neighbor("b", 0.1), ehub.Neighbor(last, 0.2)]
        assert trial.count_right(found, rows, exact, 2, "a", trial.Report()) == 2


def test_texts_are_those_of_the_standard_library(texts):
    assert len(texts) == ROWS
    assert all(texts.values())
    assert not any(name.startswith("test.") for name in texts)


def test_a_text_is_a_docstring_or_else_the_source(tmp_path):
    file = tmp_path / "m.py"
    file.write_text(
        '"""All about m."""\n'
        "class C:\n"
        "    if True:\n"
        "        def f(self):\n"
        '            """Do something useful here."""\n'
        "    async def g(self):\n"
        "        return 1\n"
    )
    assert dict(corpus.texts_of(file, "m")) == {
        "m": "All about m.",
        "m.C": file.read_text().partition("\n")[2].rstrip("\n"),
        "m.C.f": "Do something useful here.",
        "m.C.g": "    async def g(self):\n        return 1",
    }


def test_a_file_that_does_not_parse_is_left_out(tmp_path):
    file = tmp_path / "bad.py"
    file.write_bytes(b"def (:\n\xff")
    assert list(corpus.texts_of(file, "bad")) == []


def test_embeddings_are_the_same_each_time_and_of_length_one(texts):
    names, bodies = list(texts), list(texts.values())
    one, two = embedding.embed(names, bodies), embedding.embed(names, bodies)
    assert one.shape == (ROWS, embedding.DIMS)
    assert one.tobytes() == two.tobytes()
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)


def test_similar_texts_are_nearer_than_others():
    names = ["a.parse", "b.parser", "c.sort", "d.draw", "e.listen"]
    texts = [
        "Parse a date from a string.",
        "A parser of dates in strings.",
        "Sort numbers in place.",
        "Draw a circle on the canvas.",
        "Listen on a socket for peers.",
    ]
    vectors = embedding.embed(names, texts)
    similar = vectors @ vectors[0]
    assert similar[1] > 0.2
    assert similar[1] > 2 * similar[2:].max()


class Forgetful:
    """A space whose searches leave out the last neighbor, each so many times."""

    def __init__(self, items, every, exact_every):
        self.items, self.every, self.asked = items, {False: every, True: exact_every}, 0

    def nearest_neighbors(self, k, *, key, exact=False):
        self.asked += 1
        found = list(self.items.nearest_neighbors(k, key=key, exact=exact))
        return found[:-1] if self.asked % self.every[exact] == 0 else found


NEVER = 1_000_000


@pytest.mark.parametrize(
    ("every", "exact_every", "wrong"),
    [
        (NEVER, NEVER, []),
        (21, NEVER, []),
        (1, NEVER, ["recall@10 is 0.9000, the space is made for 0.95"]),
        (NEVER, 50, ["exact searches: 8 of 2000 neighbors were missed"]),
    ],
    ids=["none missed", "as many as may be", "too many", "exactly"],
)
def test_the_index_may_miss_what_the_space_lets_it_and_exact_searches_nothing(
    tmp_path, every, exact_every, wrong
):
    vectors = np.random.default_rng(5).standard_normal((300, 16)).astype(np.float32)
    keys = [f"k{row}" for row in range(300)]
    report = trial.Report()
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", 16, metric="cosine")
        items.multiset(keys, vectors)
        trial.check_searches(Forgetful(items, every, exact_every), keys, vectors, report)
    assert report.wrong == wrong
    assert (report.recall == 1) == (every == NEVER)
