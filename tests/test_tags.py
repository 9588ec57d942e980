"""A tag is a name that lasts: what it shows is there until it goes, and it never shows another."""

from __future__ import annotations

import numpy as np
import pytest

import ehub

NAMES = ["v1", "a/b", "a\0b", "früh 🍎", "x" * 255, " ", "default", "initial", "-@1"]


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    space = hub.create_space("items", 2, metric="l2")
    space.multiset({"a": [1, 0], "b": [0, 1]})
    return space


def keys(view) -> list[str]:
    return sorted(view)


def test_a_tag_says_who_made_it_when_and_why(items):
    tag = items.tag("v1", message="before", labels={"run": "7"}, created_by="me")
    assert items.tags() == [tag]
    assert (tag.name, tag.message, tag.labels, tag.created_by) == (
        "v1",
        "before",
        {"run": "7"},
        "me",
    )
    assert tag.created.endswith("+00:00")
    assert tag.is_named
    with items.at("v1") as then:
        assert then.tag == tag
        assert then.seq == tag.seq


def said(call) -> str:
    with pytest.raises(ehub.NotFoundError) as error:
        call()
    return str(error.value)


def test_a_key_that_a_tag_lacks_is_an_error_that_names_the_tag(items):
    items.tag("v1")
    items.set("later", [1, 1], partition="us")
    fork = items.fork("other")
    fork.tag("v2")
    with items.at("v1") as then, fork.at("v2") as there:
        at = "tag 'v1' of space 'items'"
        assert said(lambda: then.get("later")) == f"{at} has no key 'later'"
        missing = f"{at} has no key 'later' (key 1 of 2)"
        assert said(lambda: then.multiget(["a", "later"])) == missing
        assert said(lambda: then.nearest_neighbors(1, key="later")).startswith(at)
        assert said(lambda: then.average(["later"])).startswith(at)
        at = "tag 'v2' of version 'other' of space 'items'"
        assert said(lambda: there.get("x")) == f"{at} has no key 'x'"
        among = said(lambda: there.nearest_neighbors(1, key="a", partition="us"))
        assert among == f"partition 'us' of {at} has no key 'a' (key 0 of 1)"


def test_any_text_is_a_name_and_is_kept_apart(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        for number, name in enumerate(NAMES):
            items.set(str(number), [number, 1])
            items.tag(name, message=f"message {number}")
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        assert [tag.name for tag in items.tags()] == NAMES
        for number, name in enumerate(NAMES):
            with items.at(name) as then:
                assert len(then) == number + 1
                assert then.tag.message == f"message {number}"


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "\ud800", "@1", "@", 7, None, b"v1"])
def test_what_is_no_name_is_refused_and_changes_nothing(items, name):
    error = ehub.InvalidArgumentError if isinstance(name, str) else TypeError
    with pytest.raises(error, match="name"):
        items.tag(name)
    assert items.tags() == items.snapshots() == []


@pytest.mark.parametrize(
    "about", [{"message": 1}, {"labels": {"a": 1}}, {"labels": 5}, {"created_by": object()}]
)
def test_what_is_no_text_is_refused_and_changes_nothing(items, about):
    with pytest.raises(TypeError):
        items.tag("v1", **about)
    assert items.tags() == []


def test_a_name_is_given_once(items):
    first = items.tag("v1", message="first")
    items.delete_all()
    with pytest.raises(ehub.ExistsError, match="v1"):
        items.tag("v1", message="second")
    assert items.tags() == [first]
    with items.at("v1") as then:
        assert keys(then) == ["a", "b"]


def test_a_name_may_be_given_again_when_it_has_gone(items):
    items.tag("v1", message="first")
    items.untag("v1")
    items.delete("a")
    items.tag("v1")
    assert [tag.message for tag in items.tags()] == [""]
    with items.at("v1") as then:
        assert keys(then) == ["b"]


def test_a_tag_that_is_not_there_is_not_found(items):
    for call in (items.at, items.untag, items.restore, items.diff):
        with pytest.raises(ehub.NotFoundError, match="v1"):
            call("v1")
    with pytest.raises(ehub.NotFoundError):
        items.fork("other", at="v1")
    assert items.versions() == ["initial"]


def test_a_tag_of_a_snapshot_is_of_its_time(items):
    with items.snapshot() as then:
        items.delete("a")
        items.tag("now")
        items.tag("then", then)
        assert [tag.name for tag in items.tags()] == ["then", "now"]
    with items.at("then") as view:
        assert keys(view) == ["a", "b"]


def test_a_tag_of_another_versions_snapshot_is_refused(items):
    fork = items.fork("fork")
    with fork.snapshot() as foreign, pytest.raises(ehub.InvalidArgumentError, match="initial"):
        items.tag("v1", foreign)
    with pytest.raises(TypeError, match="not a snapshot"):
        items.tag("v1", "now")
    assert items.tags() == []


def test_tags_belong_to_one_version(items):
    items.tag("v1")
    fork = items.fork("fork")
    assert fork.tags() == []
    fork.delete_all()
    fork.tag("v1")
    with items.at("v1") as here, fork.at("v1") as there:
        assert (len(here), len(there)) == (2, 0)


@pytest.mark.parametrize("reopen", [False, True])
def test_tags_survive_reopen_compaction_and_optimize(tmp_path, reopen):
    random = np.random.default_rng(1)
    expected: dict[str, dict[int, list[float]]] = {}
    hub = ehub.open(tmp_path, durability="off")
    items = hub.create_space("items", 4, metric="l2", key_type="int")
    for number in range(12):
        chosen = random.choice(3_000, 600, replace=False)
        items.multiset(chosen, random.standard_normal((600, 4)))
        items.multidelete(random.choice(3_000, 200, replace=False))
        items.tag(f"t{number}")
        expected[f"t{number}"] = dict(items.iterator())
        (items.compact, items.optimize, hub.checkpoint)[number % 3]()
        if reopen:
            hub.close()
            hub = ehub.open(tmp_path, durability="off")
            items = hub.get_space("items")
    for name, rows in expected.items():
        with items.at(name) as then:
            found = dict(then.iterator())
            assert found.keys() == rows.keys()
            assert all((found[key] == rows[key]).all() for key in rows)
    assert hub.verify().ok
    hub.close()


def test_what_only_a_tag_kept_goes_with_it(hub, items):
    items.multiset([f"k{i}" for i in range(50_000)], np.ones((50_000, 2), np.float32))
    hub.checkpoint()
    items.tag("v1")
    items.delete_all()
    items.compact()
    hub.checkpoint()
    kept = sum(segment.rows for segment in items.stats().segments)
    items.untag("v1")
    items.compact()
    hub.checkpoint()
    assert kept >= 50_000
    assert sum(segment.rows for segment in items.stats().segments) == 0


def test_a_thousand_tags_of_one_state_are_small(hub, items):
    hub.checkpoint()
    before = hub.info().disk_bytes
    for number in range(1_000):
        items.tag(f"t{number}")
    hub.checkpoint()
    assert hub.info().disk_bytes - before < 1_000_000
    assert len(items.tags()) == 1_000


def test_a_reader_tags_nothing_and_sees_tags_after_refresh(hub, items):
    with ehub.open(hub.path, read_only=True) as reader:
        seen = reader.get_space("items")
        with pytest.raises(ehub.ReadOnlyError):
            seen.tag("v1")
        with pytest.raises(ehub.ReadOnlyError):
            seen.snapshot("recorded")
        items.tag("v1", message="hello")
        items.delete_all()
        reader.refresh()
        assert [tag.message for tag in seen.tags()] == ["hello"]
        with seen.at("v1") as then:
            assert keys(then) == ["a", "b"]
        assert len(seen) == 0


def test_a_deleted_space_takes_its_tags_along(hub, items):
    items.tag("v1", message="old")
    hub.delete_space("items")
    again = hub.create_space("items", 2)
    assert again.tags() == []
    assert again.tag("v1").message == ""
