"""Embeddinghub: a database for machine-learning embeddings.

    import ehub

    with ehub.open("data/") as hub:
        items = hub.create_space("items", dims=384, metric="cosine")
        items.multiset(keys, vectors)
        items.nearest_neighbors(10, key="apple")

`open()` gives a `Hub`, a hub has spaces (`Space`), and a space has rows: vectors under keys.
"""

from ehub import hnswlib_io
from ehub.config import Config, LocalConfig, connect
from ehub.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    DimensionError,
    EhubError,
    ExistsError,
    FormatError,
    FrozenError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidVectorError,
    LockedError,
    ModelMismatchError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    StorageError,
    UnavailableError,
)
from ehub.hub import Hub, open, repair
from ehub.index import IndexStats, RecallReport
from ehub.neighbors import Neighbor, Neighbors
from ehub.space import Space
from ehub.types import (
    Finding,
    HubInfo,
    RepairReport,
    SegmentStats,
    SpaceStats,
    VerifyReport,
)

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "Config",
    "ConflictError",
    "CorruptionError",
    "DimensionError",
    "EhubError",
    "ExistsError",
    "Finding",
    "FormatError",
    "FrozenError",
    "Hub",
    "HubInfo",
    "IndexStats",
    "InvalidArgumentError",
    "InvalidKeyError",
    "InvalidVectorError",
    "LocalConfig",
    "LockedError",
    "ModelMismatchError",
    "Neighbor",
    "Neighbors",
    "NotFoundError",
    "PermissionDeniedError",
    "ReadOnlyError",
    "RecallReport",
    "RepairReport",
    "SegmentStats",
    "Space",
    "SpaceStats",
    "StorageError",
    "UnavailableError",
    "VerifyReport",
    "__version__",
    "connect",
    "hnswlib_io",
    "open",
    "repair",
]
