"""Names, tags, aliases and shapes: from messages, and into them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ehub import _arrays, names
from ehub.aliases import Alias, Move
from ehub.model import Model
from ehub.snapshot import Tag
from ehub.wire import ehub_pb2 as pb

__all__ = ["alias_of", "joined", "named", "schema_of", "tag_of"]


def schema_of(
    dims: int | None,
    metric: str | None,
    key_type: str | None,
    model: Model | None,
    M: int,
    ef_construction: int,
    ef: int | None,
    target_recall: float,
) -> pb.Schema:
    """The shape of a new version; what the server would find wrong it says."""
    if not (model is None or isinstance(model, Model)):
        raise TypeError(f"model is {model!r:.100}; expected an ehub.Model")
    return pb.Schema(
        dims=None if dims is None else _arrays.as_integer(dims, "dims", 1, 65_535),
        metric=None if metric is None else names.as_text(metric, "metric"),
        key_type=None if key_type is None else names.as_text(key_type, "key_type"),
        M=_arrays.as_integer(M, "M", 2, 512),
        ef_construction=_arrays.as_integer(ef_construction, "ef_construction", 2, 10_000),
        ef=None if ef is None else _arrays.as_integer(ef, "ef", 1, 1_000_000),
        target_recall=_arrays.as_share(target_recall, "target_recall"),
        model_json="" if model is None else json.dumps(model.to_dict()),
    )


def named(name: object, what: str) -> str:
    """A name as it can travel; protobuf would take bytes for text."""
    return names.as_text(names.require_str(name, what), f"the name of {what}")


def tag_of(tag: pb.Tag) -> Tag:
    """A tag of a message."""
    return Tag(tag.name, tag.seq, tag.created, tag.created_by, tag.message, dict(tag.labels))


def alias_of(alias: pb.Alias) -> Alias:
    """An alias of a message."""
    history = tuple(Move(move.version, move.at, move.by, move.why) for move in alias.history)
    return Alias(alias.name, alias.version, alias.protected, tuple(alias.previous), history)


def joined(arrays: list[Any]) -> Any:
    """Keys that came in parts."""
    some = [array for array in arrays if len(array)]
    return np.concatenate(some) if some else np.empty(0, np.object_)
