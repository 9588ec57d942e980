"""Embeddinghub: a database for machine-learning embeddings.

    import ehub

    with ehub.open("data/") as hub:
        items = hub.create_space("items", dims=384, metric="cosine")
        items.multiset(keys, vectors)
        items.nearest_neighbors(10, key="apple")

`open()` gives a `Hub`, a hub has spaces (`Space`), and a space has rows: vectors under keys.
"""

from ehub import hnswlib_io
from ehub.aliases import Alias
from ehub.alignment import Alignment
from ehub.backup.listing import backups
from ehub.backup.pruning import Pruned, prune_backups
from ehub.backup.record import Backup
from ehub.backup.restoring import restore
from ehub.comparison import Comparison, Drift, Moment, align, compare, drift
from ehub.config import Config, LocalConfig, connect
from ehub.diff import Diff
from ehub.erasure import ErasurePlan, ErasureReceipt
from ehub.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    DeadlineError,
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
from ehub.estimate import Estimate
from ehub.hub import Hub, open, repair
from ehub.index import IndexStats, RecallReport
from ehub.kmeans import KMeans
from ehub.local_copy import LocalCopy
from ehub.migration import Migration
from ehub.model import Lineage, Model
from ehub.named_average import Averages
from ehub.neighbors import Neighbor, Neighbors
from ehub.partition import Partition
from ehub.promotion import Check, PromotionBlocked
from ehub.snapshot import Snapshot, Tag
from ehub.space import Space
from ehub.subindex import SubIndex
from ehub.types import (
    Finding,
    HubInfo,
    RepairReport,
    SegmentStats,
    SpaceStats,
    VerifyReport,
)
from ehub.version import Version

__version__ = "0.1.0"

__all__ = [
    "Alias",
    "Alignment",
    "Averages",
    "Backup",
    "Check",
    "ClosedError",
    "Comparison",
    "Config",
    "ConflictError",
    "CorruptionError",
    "DeadlineError",
    "Diff",
    "DimensionError",
    "Drift",
    "EhubError",
    "ErasurePlan",
    "ErasureReceipt",
    "Estimate",
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
    "KMeans",
    "Lineage",
    "LocalConfig",
    "LocalCopy",
    "LockedError",
    "Migration",
    "Model",
    "ModelMismatchError",
    "Moment",
    "Neighbor",
    "Neighbors",
    "NotFoundError",
    "Partition",
    "PermissionDeniedError",
    "PromotionBlocked",
    "Pruned",
    "ReadOnlyError",
    "RecallReport",
    "RepairReport",
    "SegmentStats",
    "Snapshot",
    "Space",
    "SpaceStats",
    "StorageError",
    "SubIndex",
    "Tag",
    "UnavailableError",
    "VerifyReport",
    "Version",
    "__version__",
    "align",
    "backups",
    "compare",
    "connect",
    "drift",
    "hnswlib_io",
    "open",
    "prune_backups",
    "repair",
    "restore",
]
