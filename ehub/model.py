"""Where vectors come from: the model that made them, and how a version came to be.

Vectors of two models cannot be compared, however alike their shapes. So a version can carry the
identity of its model, and a write or a query that says which model it has is checked against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from ehub import _arrays, names
from ehub.errors import InvalidArgumentError, ModelMismatchError
from ehub.types import Metric

__all__ = ["DIMS_MAX", "Lineage", "Model", "as_model", "model_of", "require_same_model"]

DIMS_MAX = 65_535
TEXT_FIELDS = ("provider", "name", "revision", "prefix", "task")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The identity of an embedding model. Two that differ in anything are two models.

    Args:
        provider: Who serves or publishes it ("sentence-transformers", "openai").
        name: Its name there.
        revision: Which one: a commit, a date, a checkpoint.
        dims: How many numbers a vector has; `create_version()` takes it from here.
        metric: What distance it was trained for; the same.
        normalized: Whether its vectors have unit length.
        prefix: What is put before a text that is embedded ("query: ").
        task: What it was asked to embed for ("retrieval.passage").
        extra: Anything else that makes it another model: strings, numbers, booleans.
    """

    provider: str = ""
    name: str
    revision: str = ""
    dims: int | None = None
    metric: Metric | None = None
    normalized: bool | None = None
    prefix: str = ""
    task: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in TEXT_FIELDS:
            value = getattr(self, part)
            if not isinstance(value, str):
                raise TypeError(f"a model's {part} is a str; {value!r:.100} was given")
        if not self.name:
            raise InvalidArgumentError("a model needs a name")
        if self.dims is not None:
            width = _arrays.as_integer(self.dims, "a model's dims", 1, DIMS_MAX)
            object.__setattr__(self, "dims", width)
        if self.metric not in (None, *get_args(Metric)):
            error = InvalidArgumentError if isinstance(self.metric, str) else TypeError
            raise error(
                f"a model's metric is {self.metric!r:.100}; expected one of {get_args(Metric)}"
            )
        if not (self.normalized is None or isinstance(self.normalized, bool)):
            raise TypeError(
                f"a model's normalized is {self.normalized!r:.100}; expected True, False or None"
            )
        if not isinstance(self.extra, Mapping):
            raise TypeError(f"a model's extra is {self.extra!r:.100}; expected a mapping")
        try:
            json.dumps(dict(self.extra), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"a model's extra must be plain values: {error}") from error

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that are the same for the same model alone: SHA-256 of it all."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """What is given, as plain values."""
        given = asdict(self) | {"extra": dict(self.extra)}
        return {name: value for name, value in given.items() if value not in (None, "", {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Model:
        """What `to_dict()` gave."""
        return cls(**values)

    def __str__(self) -> str:
        parts = [f"{name}={value!r:.100}" for name, value in self.to_dict().items()]
        return f"Model({', '.join(parts)}) [{self.fingerprint}]"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """How a version came to be: all of it for people, and exported with the version.

    Args:
        parent: The version that it follows, and with a fork the tag that it began at.
        created_by: Who or what made it.
        run_id: The run that made its vectors, in whatever keeps runs.
        code: Where that run's code is: a commit, a link.
        data: What it read: a path, a query, a digest.
        labels: Anything else, as strings.
    """

    parent: str = ""
    created_by: str = ""
    run_id: str = ""
    code: str = ""
    data: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if part.name != "labels" and not isinstance(value, str):
                raise TypeError(f"{part.name} is a str; {value!r:.100} was given")
        object.__setattr__(self, "labels", as_labels(self.labels))

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return asdict(self) | {"labels": dict(self.labels)}


def as_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Labels: strings by name."""
    if labels is None:
        return {}
    try:
        given = dict(labels)
    except (TypeError, ValueError) as error:
        raise TypeError(f"labels are a mapping; {labels!r:.100} was given") from error
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"labels are strings; {name!r:.50}: {value!r:.50} was given")
    return given


def model_of(table: Any) -> Model | None:
    """The model that a version, as the engine has it, is of, if that was said."""
    note = names.note_of_version(table.space, table.version)
    described = names.read(table.store, note)
    if "model" not in described:
        return None
    return names.understood(note, lambda: Model.from_dict(described["model"]))


def as_model(model: object) -> Model | None:
    """A model, or none."""
    if not (model is None or isinstance(model, Model)):
        raise TypeError(f"model is {model!r:.100}; expected an ehub.Model")
    return model


def require_same_model(given: Model, stored: Model | None, where: str) -> None:
    """Refuse vectors that another model made than the one `where` is of."""
    as_model(given)
    if stored is not None and given.fingerprint == stored.fingerprint:
        return
    identity = "has no model identity" if stored is None else f"has vectors of {stored}"
    raise ModelMismatchError(
        f"{where} {identity}, but these are of {given}; use the version that is of that model, "
        "or make one with create_version(model=...)"
    )
