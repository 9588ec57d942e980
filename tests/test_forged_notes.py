"""What a hub has noted may be wrong, if a file was forged: reading it is an EhubError or an answer.

Each note of a hub that has one of every kind gets other JSON, much like what was written, and then
everything that reads notes is called.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ehub
from ehub.access.access import Access
from ehub.access.grants import Grant
from ehub.access.settings import AuthSettings

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=3),
    st.just([]), st.just({}), st.just([1]), st.just({"a": 1}), st.just("2026-01-01"),
)  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something is within a JSON value, that itself included."""
    yield path
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in items:
            yield from places(one, (*path, name))


@st.composite
def forgeries(draw, text: str) -> str:
    """A note's text with another value somewhere, or with something gone or more."""
    value = copy.deepcopy(json.loads(text))
    path = draw(st.sampled_from(list(places(value))))
    new = draw(plain)
    if not path:
        return json.dumps(new)
    inside = value
    for name in path[:-1]:
        inside = inside[name]
    how = draw(st.sampled_from(["other", "other", "gone", "more"]))
    if how == "gone":
        del inside[path[-1]]
    elif how == "more" and isinstance(inside, dict):
        inside["more"] = new
    else:
        inside[path[-1]] = new
    return json.dumps(value)


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    """A hub with notes of all kinds."""
    path = tmp_path_factory.mktemp("noted") / "hub"
    with ehub.open(path) as hub:
        model = ehub.Model(provider="us", name="m", dims=2, metric="l2", extra={"a": 1})
        items = hub.create_space("items", metric="l2", model=model)
        items.multiset({"a": [1, 0], "b": [0, 1]})
        items.tag("then", message="why", labels={"a": "b"})
        items.snapshot("recorded").close()
        items.create_version("v2", dims=2, metric="l2", labels={"c": "d"})
        items.alias("prod", "initial")
        items.promote("v2")
        items.rollback()
        items.create_average("means", {"g": ["a", "b"]})
        items.create_subindex("some", keys=["a"])
        access = Access(hub, AuthSettings())
        access.create_key("jo", expires_in=timedelta(days=1))
        access.grant("key:jo", Grant("reader", "space:items"))
        access.save((3, "00"))
    return path


def calls(hub: ehub.Hub) -> list[Callable[[], object]]:
    """Everything that reads notes."""
    items = hub.get_space("items")

    def version() -> ehub.Version:
        return items.version("initial")

    def access() -> Access:
        return Access(hub, AuthSettings())

    return [
        lambda: items.versions(), lambda: len(items), lambda: items.aliases(),
        lambda: items.current.name, lambda: items.version("prod"), lambda: items.rollback(),
        lambda: items.alias("other", "v2"), lambda: items.create_version("v3"),
        lambda: version().model, lambda: version().lineage.to_dict(), lambda: version().created,
        lambda: version().tags(), lambda: version().at("then").close(),
        lambda: version().snapshots(), lambda: version().expire_snapshots(keep_for=timedelta(1)),
        lambda: version().tag("more"), lambda: version().fork("fork"),
        lambda: version().multiset({"c": [1, 1]}, model=ehub.Model(name="other")),
        lambda: version().averages(), lambda: version().averages("means").to_numpy(),
        lambda: version().averages("means").update("h", ["a"]),
        lambda: version().create_average("second", {"g": ["a"]}),
        lambda: version().subindices(), lambda: version().subindex("some").keys(),
        lambda: version().create_subindex("another", keys=["b"]),
        lambda: items.erasure_plan(["b"]), lambda: hub.verify(), lambda: hub.info(),
        lambda: access().api_keys(), lambda: [key.state() for key in access().api_keys()],
        lambda: access().grants(), lambda: access().last_used(), lambda: access().audit_head(),
        lambda: access().create_key("new"),
        lambda: access().grant("key:jo", Grant("writer", "space:x")),
        lambda: access().save((4, "11")),
        lambda: items.erase(["b"]), lambda: hub.delete_space("items"),
    ]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_forged_notes_are_read_or_refused_by_a_typed_error(noted, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("forged") / "hub"
    shutil.copytree(noted, path)
    with ehub.open(path, durability="off") as hub:
        texts = hub._store.notes("")
        name = data.draw(st.sampled_from(sorted(texts)))
        forged = data.draw(forgeries(texts[name]))
        hub._store.set_notes({name: forged})
    try:
        hub = ehub.open(path, durability="off")
    except ehub.EhubError:
        return
    with hub:
        try:
            tried = calls(hub)
        except ehub.EhubError:  # the note of the space itself
            tried = [hub.info, hub.verify, lambda: hub.delete_space("items")]
        for call in tried:
            try:
                call()
            except ehub.EhubError:
                continue
    shutil.rmtree(path)
