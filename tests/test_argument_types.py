"""An argument of a wrong type is a TypeError, whatever call it is given to.

Every public call is looked at: what it takes says its signature. What is of the right type and
cannot be is an InvalidArgumentError; keys and vectors have errors of their own, for what they may
be the space says.
"""

from __future__ import annotations

import inspect
from datetime import timedelta

import numpy as np
import pytest

import ehub
from ehub.named_average import Averages
from ehub.partition import Partition
from ehub.snapshot import Snapshot
from ehub.subindex import SubIndex

DIMS = 4
ROWS = np.random.default_rng(1).standard_normal((20, DIMS), np.float32)
KEYS = [f"k{i}" for i in range(20)]

# Keys, vectors and tables of them; what is only looked at for being true; what may be anything.
OTHERS = {"self", "key", "keys", "vector", "vectors", "progress", "download_snapshot", "queries"}
OTHERS |= {"options", "filter", "default", "expect", "index", "group", "where"}
OTHERS |= {"key_column", "vector_column"}

# What other calls than the one at hand must be given.
VALID = {
    "name": "new",
    "key": "k1",
    "vector": ROWS[0],
    "vectors": ROWS,
    "at": "then",
    "since": "then",
    "baseline": "then",
    "version": "initial",
    "source": "initial",
    "target": "other",
    "a": "initial",
    "b": "other",
    "k": 3,
    "num": 3,
    "positive": ["k1", "k2"],
    "groups": {"u": KEYS[:3]},
    "group": "u",
    "dims": DIMS,
}
# Options that go together, or without which others are not looked at.
WITH = {
    ("nearest_neighbors", "vector"): ROWS[0],
    ("multi_nearest_neighbors", "vectors"): ROWS,
    ("multiset", "vectors"): ROWS,
    ("expire_snapshots", "keep_for"): timedelta(1),
    ("alias", "name"): "prod",
    ("promote", "version"): "other",
    ("multi_average", "groups"): KEYS,
    ("multi_average", "offsets"): [0, 20],
    ("subindex", "name"): "few",
    ("averages", "name"): "each",
    ("promote", "require"): {"coverage": 0.0},
}
CALLS = [ehub.Hub, ehub.Space, ehub.Version, Snapshot, Partition, Averages, SubIndex]
# What has no other arguments, cannot be called twice, or is not for a server.
LEFT_OUT = {"close", "backup", "to_torch_dataset", "download_snapshot"}


class Nothing:
    """Of no type that anything expects."""


def public(kind: type) -> dict[str, inspect.Signature]:
    """The methods of a class that users call, and what they take."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    names = {name: inspect.signature(method) for name, method in methods if name[0] != "_"}
    return {name: taken for name, taken in names.items() if name not in LEFT_OUT}


def cases() -> list[tuple[str, str, str]]:
    """Each argument of each call."""
    return [
        (kind.__name__, name, argument)
        for kind in CALLS
        for name, signature in public(kind).items()
        for argument in signature.parameters
        if argument not in OTHERS
    ]


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


@pytest.fixture
def things(hub):
    """One of each kind."""
    items = hub.create_space("items", DIMS, metric="l2")
    items.multiset(KEYS, ROWS, partition="p")
    items.tag("then")
    items.create_version("other").multiset(KEYS, ROWS)
    each = items.create_average("each", {"k1": KEYS[:3], "k2": KEYS[:2]})
    version = items.version("initial")
    few = items.create_subindex("few", KEYS[:5])
    kinds = [hub, items, version, items.at("then"), items.partition("p"), each, few]
    return {kind.__name__: thing for kind, thing in zip(CALLS, kinds, strict=True)}


def arguments_of(name: str, signature: inspect.Signature, wrong: str, value: object = None) -> dict:
    """Arguments of which one is wrong, and no other."""
    given = {wrong: Nothing() if value is None else value}
    for argument, taken in signature.parameters.items():
        if argument == wrong or taken.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if (name, argument) in WITH:
            given[argument] = WITH[name, argument]
        elif taken.default is inspect.Parameter.empty and argument != "self":
            given[argument] = VALID.get(argument, KEYS if argument == "keys" else None)
    return given


def call(thing: object, name: str, signature: inspect.Signature, given: dict) -> None:
    """Calls a method; one that gives something bit by bit as far as its first."""
    positional = [
        given.pop(argument)
        for argument, taken in signature.parameters.items()
        if taken.kind is inspect.Parameter.POSITIONAL_ONLY and argument in given
    ]
    found = getattr(thing, name)(*positional, **given)
    if inspect.isgenerator(found):
        next(found)


def test_a_wrong_type_is_a_type_error_in_every_call(things):
    other = []
    for kind, name, wrong in cases():
        thing = things[kind]
        signature = public(type(thing)).get(name)
        if signature is None or wrong not in signature.parameters:
            continue  # another name for it on a server
        try:
            call(thing, name, signature, arguments_of(name, signature, wrong))
        except TypeError as error:
            # Not one of a call that is wrong otherwise.
            if not isinstance(error, ehub.EhubError) and "argument:" not in str(error):
                continue
            other.append(f"{kind}.{name}({wrong}=): {error!r}")
        except Exception as error:
            other.append(f"{kind}.{name}({wrong}=): {error!r}")
        else:
            other.append(f"{kind}.{name}({wrong}=): nothing")
    assert other == []


LONG = "x" * 100_000


@pytest.mark.parametrize("value", [LONG, [LONG], {LONG: 1.0}], ids=["alone", "in a list", "as key"])
def test_no_error_repeats_more_than_a_little_of_a_long_text(things, value):
    repeated = []
    for kind, thing in things.items():
        for name, signature in public(type(thing)).items():
            for argument in signature.parameters:
                if argument in ("self", "progress"):
                    continue
                try:
                    call(thing, name, signature, arguments_of(name, signature, argument, value))
                except Exception as error:
                    if len(str(error)) > 1_000:
                        repeated.append(f"{kind}.{name}({argument}=): {error!r:.200}")
    assert repeated == []


HUGE = 10**5000  # Python writes ints of at most 4,300 digits
BEYOND = {
    "dims": lambda hub: hub.create_space("n", HUGE),
    "a share": lambda hub: hub.create_space("n", 2, target_recall=HUGE),
    "k": lambda hub: hub.get_space("items").nearest_neighbors(HUGE, key="k1"),
    "digits": lambda hub: hub.get_space("items").nearest_neighbors(10**4000, key="k1"),
    "a count": lambda hub: hub.get_space("items").expire_snapshots(keep_last=-HUGE),
    "a key": lambda hub: hub.get_space("numbered").get(HUGE),
    "one of the keys": lambda hub: hub.get_space("numbered").multiget([1, HUGE]),
    "a key of text": lambda hub: hub.get_space("items").get(HUGE),
}


@pytest.mark.parametrize("name", BEYOND)
def test_an_integer_beyond_all_limits_is_an_error_that_says_what_was_expected(things, name):
    hub = things["Hub"]
    hub.create_space("numbered", 2, key_type="int")
    with pytest.raises((ehub.InvalidArgumentError, ehub.InvalidKeyError)) as caught:
        BEYOND[name](hub)
    assert len(str(caught.value)) < 300


IMPOSSIBLE = {
    "no neighbors": lambda items: items.nearest_neighbors(0, key="k1"),
    "no distance": lambda items: items.nearest_neighbors(3, key="k1", max_distance=float("nan")),
    "no name": lambda items: items.tag(""),
    "a long name": lambda items: items.partition("x" * 256).multiset(KEYS, ROWS),
    "few weights": lambda items: items.average(KEYS, weights=[1.0]),
    "few offsets": lambda items: items.multi_average(KEYS, offsets=[0, 3]),
    "no clusters": lambda items: items.kmeans(0),
    "no metric": lambda items: items.create_version("v", metric="far"),
    "few links": lambda items: items.create_version("v", M=1),
    "fewer than none": lambda items: items.expire_snapshots(keep_last=-1),
    "no figure": lambda items: items.promote("other", require={"nothing": 1.0}),
    "few vectors": lambda items: items.multiset(KEYS, ROWS[:3]),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_value_that_cannot_be_is_an_invalid_argument(things, name):
    with pytest.raises(ehub.InvalidArgumentError) as caught:
        IMPOSSIBLE[name](things["Space"])
    assert isinstance(caught.value, ValueError)


NAMED = {
    "create a space": lambda hub, items, name: hub.create_space(name, 2),
    "delete a space": lambda hub, items, name: hub.delete_space(name),
    "find a space": lambda hub, items, name: hub.get_space(name),
    "find a version": lambda hub, items, name: items.version(name),
    "delete a version": lambda hub, items, name: items.delete_version(name),
    "lead an alias": lambda hub, items, name: items.alias("prod", name or 5),
    "remove an alias": lambda hub, items, name: items.unalias(name),
    "promote": lambda hub, items, name: items.promote(name, require={"coverage": 0.0}),
    "promote by an alias": lambda hub, items, name: items.promote("other", alias=name),
    "roll back": lambda hub, items, name: items.rollback(name),
}


@pytest.mark.parametrize("call", NAMED)
@pytest.mark.parametrize("name", [b"items", b"other", None])
def test_a_name_is_a_str_and_bytes_are_none(things, call, name):
    hub, items = things["Hub"], things["Space"]
    with pytest.raises(TypeError):
        NAMED[call](hub, items, name)
    assert (hub.spaces(), items.versions()) == (["items"], ["initial", "other"])
    assert items.aliases()["default"].version == "initial"


@pytest.mark.parametrize("call", NAMED)
def test_a_name_that_is_no_text_is_refused_or_not_found(things, call):
    with pytest.raises((ehub.InvalidArgumentError, ehub.NotFoundError)):
        NAMED[call](things["Hub"], things["Space"], "\ud800")


@pytest.mark.parametrize("name", ["parent", "created_by", "run_id", "code", "data"])
def test_the_lineage_of_a_version_is_text(things, name):
    with pytest.raises(TypeError):
        things["Space"].create_version("v", **{name: b"initial"})


def test_what_protects_an_alias_is_true_or_false(things):
    with pytest.raises(TypeError):
        things["Space"].alias("default", protect=5)


def test_nothing_is_no_time_to_compare_with(things):
    with pytest.raises(TypeError):
        things["Space"].diff(None)
