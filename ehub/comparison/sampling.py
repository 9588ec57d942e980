"""Which keys a comparison looks at, and their vectors.

Samples are drawn from the sorted keys, so they depend on the keys and the seed alone: not on the
order in which rows were written, nor on threads. Of equal keys the samples are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub.alignment import ViewInfo
from ehub.awaited import require_not_awaited
from ehub.errors import InvalidArgumentError
from ehub.types import KeyArray, KeyType, Vectors

if TYPE_CHECKING:
    from ehub.view import View

__all__ = ["Both", "Plan", "Sample", "Side", "halves", "read_both"]

K_MAX = 1_000
SAMPLE_MAX = 20_000
SEED_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How to compare: neighbours per key, keys to sample, the seed, whether to scan all rows."""

    k: int
    sample: int
    seed: int
    exact: bool

    def __post_init__(self) -> None:
        _arrays.as_integer(self.k, "k", 1, K_MAX)
        _arrays.as_integer(self.sample, "sample", 2, SAMPLE_MAX)
        _arrays.as_integer(self.seed, "seed", 0, SEED_MAX)
        if not isinstance(self.exact, bool):
            raise TypeError(f"exact is {self.exact!r:.100}; expected True or False")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some keys in their order, and their vectors in one view."""

    keys: KeyArray
    vectors: Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two views.

    Attributes:
        view: What is compared.
        info: Its name, dims and metric.
        rows: How many it has.
        own: A sample of all its keys.
        shared: The sample of the keys that both views have; the same object as `own` where the
            other view has all keys of this one.
        among: The keys that both have, to search among; None if those are all.
    """

    view: View
    info: ViewInfo
    rows: int
    own: Sample
    shared: Sample
    among: KeyArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """The two views, and how many keys are in both."""

    a: Side
    b: Side
    key_type: KeyType
    common: int

    @property
    def sampled(self) -> int:
        """How many keys of both were sampled."""
        return len(self.a.shared.keys)


def read_both(a: View, b: View, plan: Plan, names: tuple[str, str] | None) -> Both:
    """Look at the keys of two views, draw samples and read them.

    Keys that somebody deletes in the meantime are left out: give snapshots if that may happen.
    """
    require_views(a, b)
    require_names(names)
    named = names or (a.name, b.name)
    require_same_keys(a, b, named)
    infos = [
        ViewInfo(name, view.dims, view.metric) for name, view in zip(named, (a, b), strict=True)
    ]
    every = [a.keys(), b.keys()]
    common = shared_keys(*every)
    chosen = draw(common, plan)
    vectors, found = zip(*(view.multiget(chosen, default=None) for view in (a, b)), strict=True)
    kept = found[0] & found[1]
    keys: KeyArray = chosen[kept]
    sides = [
        one_side(view, info, of_view, Sample(keys, rows[kept]), common, plan)
        for view, info, of_view, rows in zip((a, b), infos, every, vectors, strict=True)
    ]
    return Both(sides[0], sides[1], a.key_type, len(common))


def one_side(
    view: View, info: ViewInfo, keys: KeyArray, shared: Sample, common: KeyArray, plan: Plan
) -> Side:
    """One view, with a sample of its own keys."""
    if len(keys) == len(common):
        return Side(view, info, len(keys), shared, shared, None)
    chosen = draw(in_order(keys), plan)
    vectors, found = view.multiget(chosen, default=None)
    own = Sample(chosen[found], vectors[found])
    return Side(view, info, len(keys), own, shared, common)


def require_views(a: Any, b: Any) -> None:
    """Refuse what is no view."""
    for view in (a, b):
        require_not_awaited(view, "await that of ehub.aio: compare(), drift() or align()")
        if not (hasattr(view, "multi_nearest_neighbors") and hasattr(view, "key_type")):
            raise TypeError(f"{view!r:.100} cannot be compared; expected a space or another view")


def require_same_keys(a: View, b: View, names: tuple[str, str]) -> None:
    """Refuse keys of different types."""
    if a.key_type != b.key_type:
        raise InvalidArgumentError(
            f"{names[0]!r:.100} has {a.key_type} keys and {names[1]!r:.100} has {b.key_type} keys, "
            "so they have none in common; give both the same key_type"
        )


def require_names(names: Any) -> None:
    """Refuse what does not name two views."""
    if names is None:
        return
    if not (
        isinstance(names, (tuple, list))
        and len(names) == 2
        and all(isinstance(name, str) for name in names)
    ):
        raise TypeError(f"names is {names!r:.100}; expected a pair of str, one for each view")


def shared_keys(a: KeyArray, b: KeyArray) -> KeyArray:
    """The keys that are in both, sorted."""
    if a.dtype == np.int64:
        return cast("KeyArray", np.intersect1d(a, b, assume_unique=True))
    return as_objects(sorted(set(a.tolist()) & set(b.tolist())))


def in_order(keys: KeyArray) -> KeyArray:
    """Keys, sorted; Python's sort is the faster one for strings."""
    if keys.dtype == np.int64:
        return cast("KeyArray", np.sort(keys))
    return as_objects(sorted(keys.tolist()))


def as_objects(keys: list[str]) -> NDArray[np.object_]:
    """Strings as an array of Python strings."""
    array = np.empty(len(keys), np.object_)
    array[:] = keys
    return array


def draw(keys: KeyArray, plan: Plan) -> KeyArray:
    """A sample of sorted keys, sorted; all of them if there are no more."""
    if len(keys) <= plan.sample:
        return keys
    chosen = np.random.default_rng(plan.seed).choice(len(keys), plan.sample, replace=False)
    return keys[np.sort(chosen)]


def halves(n: int, held_out: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two parts of n places, by chance, each sorted: to fit on, and `held_out` to measure on."""
    # Another stream than that of the sample.
    order = np.random.default_rng([seed, 1]).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
