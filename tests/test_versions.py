"""A version has a shape and a model of its own, and goes only if nobody needs it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import ehub

MINI = ehub.Model(provider="hub", name="mini", revision="2", dims=3, metric="ip")
OTHER = ehub.Model(provider="hub", name="mini", revision="3", dims=3, metric="ip")


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    space = hub.create_space("items", 2, metric="l2")
    space.multiset({"a": [1, 0], "b": [0, 1]})
    return space


def test_versions_differ_in_dims_metric_and_keys(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        items.set("a", [1, 2])
        items.create_version("wide", dims=5, metric="cosine").set("a", np.ones(5))
        items.create_version("numbers", key_type="int").set(7, [3, 4])
        items.create_version("a/b\0ü")
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        assert items.versions() == ["initial", "wide", "numbers", "a/b\0ü"]
        wide, numbers = items.version("wide"), items.version("numbers")
        assert (wide.dims, wide.metric, wide.key_type) == (5, "cosine", "str")
        assert (numbers.dims, numbers.metric, numbers.key_type) == (2, "l2", "int")
        assert numbers.get(7).tolist() == [3, 4]
        assert items.get("a").tolist() == [1, 2]


def test_a_key_that_is_missing_is_an_error_that_names_what_was_asked(items):
    other = items.create_version("other")
    other.set("c", [1, 1], partition="us")
    items.alias("prod", "other")
    asked = {
        "space 'items'": items,
        "version 'initial' of space 'items'": items.version("initial"),
        "version 'other' of space 'items'": other,
        "partition 'us' of version 'other' of space 'items'": other.partition("us"),
    }
    for alias in (items.version("prod"), items.current):
        name = f"version {alias.name!r} of space 'items'"
        with pytest.raises(ehub.NotFoundError, match=f"^{name} has no key 'x'$"):
            alias.get("x")
    for place, view in asked.items():
        for call, told in {
            lambda view: view.get("x"): "",
            lambda view: view.delete("x"): "",
            lambda view: view["x"]: "",
            lambda view: view.multiget(["x"]): r" \(key 0 of 1\)",
            lambda view: view.nearest_neighbors(1, key="x"): r" \(key 0 of 1\)",
            lambda view: view.average(["x"]): r" \(key 0 of 1\)",
        }.items():
            with pytest.raises(ehub.NotFoundError, match=f"^{place} has no key 'x'{told}$"):
                call(view)
    items.promote("other")
    with pytest.raises(ehub.NotFoundError, match=r"^space 'items' has no key 'a'$"):
        items.get("a")


def test_a_version_takes_its_shape_from_the_model(items):
    version = items.create_version("mini", model=MINI)
    assert (version.dims, version.metric, version.model) == (3, "ip", MINI)
    with pytest.raises(ehub.InvalidArgumentError, match=r"dims is 4.*model's is 3"):
        items.create_version("other", model=MINI, dims=4)
    assert items.versions() == ["initial", "mini"]


def calls(version):
    """Everything that takes a model."""
    part = version.partition("us")
    return [
        lambda model: version.set("k", [1, 1, 1], model=model),
        lambda model: version.multiset({"k": [1, 1, 1]}, model=model),
        lambda model: version.multiset(iter([("k", [1, 1, 1])]), model=model),
        lambda model: part.set("u", [1, 1, 1], model=model),
        lambda model: part.multiset({"u": [1, 1, 1]}, model=model),
        lambda model: version.nearest_neighbors(1, key="k", model=model),
        lambda model: version.nearest_neighbors(1, vector=[1, 1, 1], model=model),
        lambda model: version.multi_nearest_neighbors(1, vectors=[[1, 1, 1]], model=model),
        lambda model: part.nearest_neighbors(1, vector=[1, 1, 1], model=model),
        lambda model: version.at("t").nearest_neighbors(1, vector=[1, 1, 1], model=model),
    ]


def test_the_wrong_model_is_refused_with_both_identities_and_changes_nothing(items):
    version = items.create_version("mini", model=MINI)
    version.multiset({"k": [1, 2, 3]})
    version.multiset({"u": [1, 2, 3]}, partition="us")
    version.tag("t")
    for call in calls(version):
        with pytest.raises(ehub.ModelMismatchError) as refused:
            call(OTHER)
        assert MINI.fingerprint in str(refused.value)
        assert OTHER.fingerprint in str(refused.value)
        with pytest.raises(TypeError, match=r"ehub\.Model"):
            call("mini")
    assert version.multiget(["k", "u"]).tolist() == [[1, 2, 3]] * 2
    for call in calls(version):
        call(MINI)


def test_a_version_without_a_model_takes_no_claim(items):
    with pytest.raises(ehub.ModelMismatchError, match="no model identity"):
        items.nearest_neighbors(1, vector=[1, 0], model=MINI)


def test_lineage_is_kept(tmp_path):
    about = {"created_by": "me", "run_id": "r7", "code": "c0ffee", "data": "s3://x"}
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2)
        items.create_version("v2", **about, labels={"team": "search"})
    with ehub.open(tmp_path) as hub:
        version = hub.get_space("items").version("v2")
        expected = {"parent": "initial", **about, "labels": {"team": "search"}}
        assert version.lineage.to_dict() == expected
        assert version.created.endswith("+00:00")


def test_a_version_stays_frozen_when_its_process_is_killed(hub, items, tmp_path):
    items.freeze()
    shutil.copytree(tmp_path / "hub", tmp_path / "killed")  # the log has it, no manifest yet
    with ehub.open(tmp_path / "killed") as again, pytest.raises(ehub.FrozenError):
        again.get_space("items").set("a", [5, 5])


def test_a_frozen_version_never_changes_again(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        items.multiset({"a": [1, 0], "b": [0, 1]})
        items.tag("then")
        items.freeze()
    for _ in range(2):
        with ehub.open(tmp_path) as hub:
            items = hub.get_space("items")
            assert items.frozen
            for write in (
                lambda items: items.set("a", [5, 5]),
                lambda items: items.multiset({"c": [5, 5]}),
                lambda items: items.delete("a"),
                lambda items: items.multidelete(["a"]),
                lambda items: items.delete_all(),
                lambda items: items.restore("then"),
            ):
                with pytest.raises(ehub.FrozenError):
                    write(items)
            items.compact()
            items.optimize()
            assert sorted(items) == ["a", "b"]
            hub.checkpoint()
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        items.fork("thawed").set("a", [5, 5])
        assert items.get("a").tolist() == [1, 0]


def test_a_version_that_is_needed_is_not_deleted_and_the_error_says_by_whom(items):
    fork = items.fork("v2")
    items.alias("prod", "v2")
    with pytest.raises(ehub.ConflictError, match="'prod'"):
        items.delete_version("v2")
    items.unalias("prod")
    fork.tag("keep")
    with pytest.raises(ehub.ConflictError, match="'keep'"):
        items.delete_version("v2")
    with pytest.raises(ehub.ConflictError, match="'default'"):
        items.delete_version("initial")
    with pytest.raises(ehub.NotFoundError):
        items.delete_version("v9")
    assert len(fork) == 2
    fork.untag("keep")
    items.delete_version("v2")
    assert items.versions() == ["initial"]
    with pytest.raises(ehub.NotFoundError):
        len(fork)


def test_a_name_that_is_free_again_remembers_nothing(items):
    items.create_version("v2", model=ehub.Model(name="old"), dims=2).set("a", [1, 1])
    items.delete_version("v2")
    again = items.create_version("v2")
    assert (again.model, len(again), again.tags()) == (None, 0, [])


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", 7])
def test_what_is_no_name_makes_no_version(items, name):
    for make in (items.create_version, items.fork):
        with pytest.raises(TypeError if name == 7 else ehub.InvalidArgumentError):
            make(name)
    assert items.versions() == ["initial"]
