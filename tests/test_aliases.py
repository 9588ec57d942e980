"""An alias leads where it was told to last, says where it led, and moves for nobody by mistake."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import ehub
from ehub import aliases
from ehub.promotion import measure


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    """A space with versions "initial", "v2" (half of the keys) and "v3" (all of them)."""
    space = hub.create_space("items", 4, metric="l2", key_type="int")
    rows = np.random.default_rng(1).standard_normal((200, 4)).astype(np.float32)
    space.multiset(np.arange(200), rows)
    space.create_version("v2").multiset(np.arange(100), rows[:100])
    space.create_version("v3").multiset(np.arange(200), rows)
    return space


def test_a_space_reads_and_writes_where_default_leads(items):
    items.promote("v2")
    assert len(items) == 100
    items.set(999, [1, 2, 3, 4])
    assert 999 in items.version("v2")
    assert 999 not in items.version("initial")
    assert items.current.name == items.version("default").name == "v2"


def test_compare_and_set_moves_only_what_leads_where_it_was_expected(items):
    items.alias("prod", "initial", expect=None)
    with pytest.raises(ehub.ConflictError, match=r"leads to 'initial'.*'v3' was expected"):
        items.alias("prod", "v2", expect="v3")
    with pytest.raises(ehub.ConflictError):
        items.alias("prod", "v2", expect=None)
    with pytest.raises(ehub.ConflictError, match="does not exist"):
        items.alias("other", "v2", expect="initial")
    with pytest.raises(ehub.ConflictError):
        items.alias("prod", expect="v2")
    assert items.alias("prod", "v2", expect="initial").version == "v2"
    assert sorted(items.aliases()) == ["default", "prod"]


def test_the_history_has_every_move_and_survives(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2)
        items.create_version("v2")
        items.alias("prod", "initial", why="first")
        items.alias("prod", "v2", why="new model")
        items.alias("prod", "v2", why="again")  # moves nothing
        items.rollback("prod")
    with ehub.open(tmp_path) as hub:
        alias = hub.get_space("items").alias("prod")
        moves = [(move.version, move.why) for move in alias.history]
        assert moves == [("initial", "first"), ("v2", "new model"), ("initial", "rollback")]
        assert (alias.version, alias.previous) == ("initial", ())


def test_rollbacks_go_back_one_move_after_the_other(items):
    for name in ("v2", "v3", "v2"):
        items.promote(name)
    assert [items.rollback().version for _ in range(3)] == ["v3", "v2", "initial"]
    with pytest.raises(ehub.NotFoundError, match="nothing to roll back"):
        items.rollback()
    assert items.current.name == "initial"


def test_a_rollback_to_a_deleted_version_is_refused(items):
    items.promote("v2")
    items.delete_version("initial")
    items.create_version("initial")  # another one of that name
    with pytest.raises(ehub.NotFoundError, match="deleted versions do not count"):
        items.rollback()
    assert items.current.name == "v2"


def test_rollbacks_lead_to_what_came_after_a_deleted_version_and_not_past_it(items):
    for name in ("v2", "v3", "initial"):
        items.promote(name)
    items.alias("prod", "v2")
    items.alias("prod", "v3")
    items.alias("prod", "initial")
    items.delete_version("v2")
    for alias in ("default", "prod"):
        assert items.rollback(alias).version == "v3"
        with pytest.raises(ehub.NotFoundError, match="nothing to roll back"):
            items.rollback(alias)
        assert len(items.alias(alias).history) == 4


def test_a_protected_alias_is_moved_by_promote_and_rollback_alone(items):
    items.alias("prod", "initial", protect=True)
    with pytest.raises(ehub.ConflictError, match="protected"):
        items.alias("prod", "v2")
    with pytest.raises(ehub.ConflictError, match="protected"):
        items.unalias("prod")
    items.promote("v3", alias="prod")
    assert items.alias("prod").version == "v3"
    items.rollback("prod")
    items.alias("prod", protect=False)
    assert items.alias("prod", "v2").version == "v2"
    items.unalias("prod")
    with pytest.raises(ehub.ConflictError, match="every space has it"):
        items.unalias("default")


def test_names_of_versions_and_aliases_are_kept_apart(items):
    items.alias("prod", "v2")
    with pytest.raises(ehub.InvalidArgumentError, match="is a version"):
        items.alias("v3", "v2")
    for taken in ("prod", "default"):
        with pytest.raises(ehub.ExistsError, match="alias"):
            items.create_version(taken)
    for missing in (lambda: items.alias("prod", "v9"), lambda: items.promote("v9")):
        with pytest.raises(ehub.NotFoundError, match="v9"):
            missing()
    assert items.versions() == ["initial", "v2", "v3"]
    assert items.alias("prod").version == "v2"


def test_a_promotion_that_fails_says_why_with_figures_and_moves_nothing(items):
    with pytest.raises(ehub.PromotionBlocked, match=r"coverage is 0\.5, at least 1 is") as blocked:
        items.promote("v2", require={"coverage": 1.0, "recall_at_10": 0.5})
    assert [check.name for check in blocked.value.failed] == ["coverage"]
    assert [check.passed for check in blocked.value.checks] == [False, True]
    assert items.current.name == "initial"
    assert items.alias("default").history == ()


def test_a_promotion_that_passes_returns_what_it_measured(items):
    queries = np.random.default_rng(2).standard_normal((20, 4))
    checks = items.promote(
        "v3",
        require={"coverage": 1.0, "overlap_at_10": 0.9, "recall_at_10": 0.9},
        queries=queries,
    )
    assert [check.value for check in checks] == pytest.approx([1.0, 1.0, 1.0])
    assert items.current.name == "v3"


@pytest.mark.parametrize(
    "figure",
    ["coverage", "cka", "overlap_at_10", "rbo_at_10", "aligned_recall_at_10", "recall_at_10"],
)
def test_each_figure_alone_blocks_a_promotion_and_lets_it_pass(items, figure):
    with pytest.raises(ehub.PromotionBlocked) as blocked:
        items.promote("v3", require={figure: 1.01})
    [failed] = blocked.value.failed
    assert (failed.name, failed.value) == (figure, pytest.approx(1.0))
    assert items.current.name == "initial"
    items.promote("v3", require={figure: 0.99})
    assert items.current.name == "v3"


def test_a_requirement_of_a_figure_that_has_no_value_blocks(items):
    items.create_version("empty")
    with pytest.raises(ehub.PromotionBlocked, match=r"cka has no value, at least 0 .*needs 5 keys"):
        items.promote("empty", require={"cka": 0})
    assert items.current.name == "initial"


def test_a_promotion_is_refused_if_the_alias_was_moved_while_it_was_measured(items, monkeypatch):
    def measure_and_move(*arguments):
        checks = measure(*arguments)
        items.alias("default", "v2")
        return checks

    monkeypatch.setattr(aliases, "measure", measure_and_move)
    with pytest.raises(ehub.ConflictError, match=r"led to 'initial' .* leads to 'v2' now"):
        items.promote("v3", require={"coverage": 1})
    assert items.current.name == "v2"


@pytest.mark.parametrize(
    "require",
    [{"speed": 1}, {"coverage_at_10": 1}, {"overlap_at_0": 1}, {"coverage": True}, {"cka": "x"}],
)
def test_a_requirement_that_cannot_be_is_refused_before_anything_moves(items, require):
    [least] = require.values()
    with pytest.raises(ehub.InvalidArgumentError if type(least) is int else TypeError):
        items.promote("v3", require=require)
    assert items.current.name == "initial"


def test_of_threads_that_compare_and_set_one_wins(items):
    won = []

    def move(version: str) -> None:
        try:
            won.append(items.alias("prod", version, expect="initial").version)
        except ehub.ConflictError:
            return

    for _ in range(20):
        items.alias("prod", "initial")
        won.clear()
        threads = [threading.Thread(target=move, args=(name,)) for name in ("v2", "v3")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [items.alias("prod").version]


def test_a_stream_goes_to_one_version_whatever_is_promoted_meanwhile(items):
    def pairs():
        for number in range(25_000):
            if number == 15_000:
                items.promote("v2")
            yield 1_000 + number, [1, 2, 3, 4]

    items.multiset(pairs())
    assert len(items.version("initial")) == 25_200
    assert len(items.version("v2")) == 100


def test_a_readers_space_follows_the_alias_after_refresh(hub, items):
    with ehub.open(hub.path, read_only=True) as reader:
        seen = reader.get_space("items")
        items.promote("v2")
        assert len(seen) == 200
        reader.refresh()
        assert len(seen) == 100
        with pytest.raises(ehub.ReadOnlyError):
            seen.promote("v3")
        items.rollback()
        reader.refresh()
        assert len(seen) == 200


# --- an alias that moves in the middle of a call ---


def moving(items, things):
    """The things one by one; half-way the default is moved to another version."""
    for place, thing in enumerate(things):
        if place == len(things) // 2:
            items.promote("v2")
        yield thing


def test_a_call_reads_the_version_that_it_began_with(hub):
    items = hub.create_space("s", dims=2, key_type="int", metric="l2")
    items.create_version("v2", dims=3)
    items.multiset(np.arange(10), np.ones((10, 2)))
    keys = list(range(10))
    calls = [
        lambda: items.multiget(moving(items, keys)).shape == (10, 2),
        lambda: items.average(moving(items, keys)).shape == (2,),
        lambda: len(items.multi_nearest_neighbors(3, keys=moving(items, keys))) == 10,
        lambda: items.multidelete(moving(items, keys)) == 10,
    ]
    for call in calls:
        items.alias("default", "initial")
        assert call()
        assert items.current.name == "v2"


@pytest.mark.parametrize(
    ("queries", "error", "said"),
    [
        ("text", ehub.InvalidVectorError, "query vector"),
        ([["a"] * 4], ehub.InvalidVectorError, "query vector"),
        ([[1.0, 2.0]], ehub.DimensionError, r"expected \(n, 4\)"),
        ([1.0, 2.0, 3.0, 4.0], ehub.DimensionError, r"expected \(n, 4\)"),
    ],
)
@pytest.mark.parametrize("require", [None, {"recall_at_10": 0.5}])
def test_queries_that_are_none_are_told_whatever_is_required(items, queries, error, said, require):
    with pytest.raises(error, match=said):
        items.promote("v3", require=require, queries=queries)
    assert items.alias("default").version == "initial"


@pytest.mark.parametrize("expect", [5, b"initial", True, ["initial"]])
def test_an_alias_is_expected_to_lead_to_a_name(items, expect):
    items.alias("prod", "initial")
    for version in (None, "v2"):
        with pytest.raises(TypeError, match=r"name of a version is .*; expected a str"):
            items.alias("prod", version, expect=expect)
    with pytest.raises(ehub.InvalidArgumentError):
        items.alias("prod", "v2", expect="\ud800")
    assert items.alias("prod").version == "initial"
