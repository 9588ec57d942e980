"""Functions that say of a key whether it is in: filters, and what sub-indices are made by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any

__all__ = ["Condition", "as_condition", "passing"]

Condition = Callable[[Any], bool]


def as_condition(given: Any, name: str) -> Condition:
    """The argument `name`; a TypeError if it is no function, or one that is awaited."""
    if not callable(given):
        raise TypeError(f"{name} is {given!r:.100}; expected a function of a key")
    if iscoroutinefunction(given) or iscoroutinefunction(type(given).__call__):
        raise is_awaited(name, given)
    condition: Condition = given
    return condition


def passing(keys: Iterable[Any], condition: Condition, name: str) -> list[Any]:
    """The keys for which a function says so; a TypeError if its answer is to be awaited."""
    found = []
    for key in keys:
        answer = condition(key)
        if not answer:
            continue
        if answer is not True and isawaitable(answer):  # which is never false
            if iscoroutine(answer):
                answer.close()
            raise is_awaited(name, condition)
        found.append(key)
    return found


def is_awaited(name: str, condition: Any) -> TypeError:
    """What to say of a function whose answer would have to be awaited."""
    return TypeError(
        f"{name} is {condition!r:.100}, whose answer is to be awaited; expected a function that "
        "says True or False: find out before what it needs, and give that, or the keys"
    )
