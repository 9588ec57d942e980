"""Averages of stored vectors: of some keys, of many groups at once, of each partition.

Sums are float64, in the order in which the members of a group are given, and do not depend on the
number of cores. What is here brings groups and weights into the form that the engine takes, and
says which group has no average and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._native import _store
from ehub.errors import InvalidArgumentError, InvalidVectorError
from ehub.interrupts import interruptible
from ehub.types import KeyType, Vectors

__all__ = ["Groups", "as_groups", "average", "multi_average", "partition_averages"]

# Of src/store/group_average.h.
EMPTY, NO_WEIGHT, ZERO, TOO_LARGE = 1, 2, 3, 4

# Fewer are summed soon, and a thread for them would be felt.
MEMBERS_MIN = 100_000


@dataclass(frozen=True, slots=True)
class Groups:
    """Ragged groups: the members of group i are those from begins[i] to before begins[i + 1]."""

    names: list[Any] | None  # None: groups have numbers
    keys: _store.Keys
    begins: NDArray[np.uint64]
    weights: NDArray[np.float64] | None

    def name_of(self, group: int) -> str:
        """A group in a message."""
        return f"group {group}" if self.names is None else f"group {self.names[group]!r:.100}"


def average(
    view: _store.View, keys: _store.Keys, weights: NDArray[np.float64] | None, normalize: bool
) -> Vectors:
    """The mean of the vectors of some keys, which all must be there."""
    if len(keys) == 0:
        raise InvalidArgumentError("an average of no keys")
    begins = np.array([0, len(keys)], np.uint64)
    means, _, states = averaged(view, keys, begins, weights, as_flag(normalize, "normalize"))
    require_mean(int(states[0]), "the average", "the weights")
    mean: Vectors = means[0]
    return mean


def multi_average(
    view: _store.View, groups: Groups, normalize: bool, skips_missing: bool
) -> tuple[Vectors, NDArray[np.int64]]:
    """The mean of each group, and how many of its members there are.

    A group without any is an error; with `skips_missing` its mean is zeros, and its count says so.
    """
    flag = as_flag(normalize, "normalize")
    means, found, states = averaged(
        view, groups.keys, groups.begins, groups.weights, flag, skips_missing
    )
    wrong = states > (EMPTY if skips_missing else 0)
    if wrong.any():
        group = int(np.argmax(wrong))
        name = groups.name_of(group)
        require_mean(int(states[group]), f"the average of {name}", f"the weights of {name}", name)
    return means, found


def partition_averages(view: _store.View, normalize: bool) -> dict[str, Vectors]:
    """The mean of the rows of each partition that has any."""
    names, means, _, states = interruptible(
        view.partition_averages, as_flag(normalize, "normalize")
    )
    averages = {}
    for name, mean, state in zip(names, means, states.tolist(), strict=True):
        if state != EMPTY:
            require_mean(state, f"the average of partition {name!r}")
            averages[name] = mean
    return averages


def averaged(view: _store.View, keys: _store.Keys, *options: Any) -> Any:
    """What the engine says of groups of keys, unless somebody interrupts it."""
    if len(keys) < MEMBERS_MIN:
        return view.averages(keys, *options)
    return interruptible(view.averages, keys, *options)


def require_mean(
    state: int, what: str, weights: str = "the weights", group: str = "the group"
) -> None:
    """Refuse what has no mean."""
    if state == EMPTY:
        raise InvalidArgumentError(f"{group} is empty, so it has no average")
    if state == NO_WEIGHT:
        raise InvalidArgumentError(f"{weights} have a sum that is zero or not finite")
    if state == ZERO:
        raise InvalidVectorError(f"{what} is zero: it has no direction, so no unit length either")
    if state == TOO_LARGE:
        raise InvalidVectorError(f"{what} is too large for float32")


def as_flag(flag: Any, what: str) -> bool:
    """An option that is on or off."""
    if not isinstance(flag, (bool, np.bool_)):
        raise TypeError(f"{what} is {flag!r:.100}; expected True or False")
    return bool(flag)


# --- groups ---


def as_groups(groups: Any, weights: Any, offsets: Any, key_type: KeyType, space: str) -> Groups:
    """Groups as a mapping of name to keys, or as flat keys and where each group begins."""
    if isinstance(groups, Mapping):
        if offsets is not None:
            raise InvalidArgumentError("groups are a mapping, which needs no offsets")
        return mapped_groups(groups, weights, key_type, space)
    if offsets is None:
        raise InvalidArgumentError(
            "multi_average() needs a mapping of group to keys, or keys of all groups in one "
            "sequence and offsets="
        )
    _arrays.require_order(groups)
    keys = _arrays.as_keys(groups, key_type, space)
    if isinstance(weights, Mapping):
        raise InvalidArgumentError("weights are a mapping, and groups are not")
    begins = as_offsets(offsets, len(keys))
    return Groups(None, keys, begins, _arrays.as_weights(weights, len(keys)))


def mapped_groups(groups: Mapping[Any, Any], weights: Any, key_type: KeyType, space: str) -> Groups:
    """The groups of a mapping, in its order."""
    names = list(groups)
    members = list(groups.values()) if type(groups) is dict else [groups[name] for name in names]
    if set(map(type, members)) <= {list, tuple}:
        keys, begins = _store.Keys.of_groups(members, key_type, space)
    else:
        members = [as_members(name, keys) for name, keys in zip(names, members, strict=True)]
        keys, begins = mixed_keys(members, key_type, space)
    if isinstance(weights, Mapping):
        weights = mapped_weights(weights, names, members)
    return Groups(names, keys, begins, _arrays.as_weights(weights, len(keys)))


def mixed_keys(
    members: list[Any], key_type: KeyType, space: str
) -> tuple[_store.Keys, NDArray[np.uint64]]:
    """The keys of groups of which some are arrays, and where each group begins."""
    if not all(map(is_integers, members)):
        return _store.Keys.of_groups(list(map(as_list, members)), key_type, space)
    begins = np.zeros(len(members) + 1, np.uint64)
    np.cumsum([len(part) for part in members], out=begins[1:])
    return _arrays.as_keys(np.concatenate(members), key_type, space), begins


def as_members(name: Any, keys: Any) -> Any:
    """The keys of one group, as something that has a length and an order."""
    if isinstance(keys, (list, tuple, np.ndarray)):
        return keys
    if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
        raise TypeError(f"group {name!r:.100} is {keys!r:.100}; expected a collection of keys")
    return list(keys)


def is_integers(keys: Any) -> bool:
    """Whether keys are an array that can be joined as it is."""
    return (
        isinstance(keys, np.ndarray)
        and not isinstance(keys, np.ma.MaskedArray)
        and keys.ndim == 1
        and keys.dtype.kind in "iu"
        and keys.dtype != np.uint64
    )


def as_list(keys: Any) -> Any:
    """Keys one by one, as Python objects."""
    if not isinstance(keys, np.ndarray):
        return keys
    _arrays.require_no_mask(keys, "keys", InvalidArgumentError)
    if keys.ndim != 1:
        raise InvalidArgumentError(
            f"a group's keys have shape {keys.shape}; expected one dimension"
        )
    return keys.tolist()


def mapped_weights(weights: Mapping[Any, Any], names: list[Any], members: list[Any]) -> Any:
    """Weights that were given by group, as one array."""
    missing = next((name for name in names if name not in weights), None)
    if missing is not None or len(weights) != len(names):
        which = next((name for name in weights if name not in set(names)), missing)
        raise InvalidArgumentError(
            f"weights must be those of the same groups; {which!r:.100} is not in both"
        )
    parts = [
        _arrays.as_weights(weights[name], len(keys), f"the weights of group {name!r:.100}")
        for name, keys in zip(names, members, strict=True)
    ]
    return np.concatenate([np.empty(0), *parts])


def as_offsets(offsets: Any, members: int) -> NDArray[np.uint64]:
    """Where each group begins among the members, and where the last one ends."""
    array = np.asarray(offsets)
    if array.dtype.kind not in "iu" and array.shape != (0,):
        raise TypeError(f"offsets are {array.dtype}; expected integers")
    if array.ndim != 1 or len(array) == 0:
        raise InvalidArgumentError(f"offsets have shape {array.shape}; expected (g + 1,)")
    if array[0] != 0 or array[-1] != members:
        raise InvalidArgumentError(
            f"offsets go from {array[0]} to {array[-1]}; "
            f"expected 0 to {members}, the number of keys"
        )
    falls = array[1:] < array[:-1]
    if falls.any():
        group = int(np.argmax(falls))
        raise InvalidArgumentError(
            f"offsets must not fall; group {group} goes from {array[group]} to {array[group + 1]}"
        )
    return np.ascontiguousarray(array, np.uint64)
