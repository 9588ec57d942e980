from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("space", "version", "version_id", "tag", "snapshot", "partitions", "and_partitions", "average", "subindex", "subindex_id")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    AND_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    SUBINDEX_FIELD_NUMBER: _ClassVar[int]
    SUBINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    space: str
    version: str
    version_id: int
    tag: str
    snapshot: str
    partitions: _containers.RepeatedScalarFieldContainer[str]
    and_partitions: _containers.RepeatedScalarFieldContainer[str]
    average: str
    subindex: str
    subindex_id: int
    def __init__(self, space: _Optional[str] = ..., version: _Optional[str] = ..., version_id: _Optional[int] = ..., tag: _Optional[str] = ..., snapshot: _Optional[str] = ..., partitions: _Optional[_Iterable[str]] = ..., and_partitions: _Optional[_Iterable[str]] = ..., average: _Optional[str] = ..., subindex: _Optional[str] = ..., subindex_id: _Optional[int] = ...) -> None: ...

class Keys(_message.Message):
    __slots__ = ("utf8", "lengths", "integers")
    UTF8_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    utf8: bytes
    lengths: bytes
    integers: bytes
    def __init__(self, utf8: _Optional[bytes] = ..., lengths: _Optional[bytes] = ..., integers: _Optional[bytes] = ...) -> None: ...

class Vectors(_message.Message):
    __slots__ = ("dims", "values")
    DIMS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    dims: int
    values: bytes
    def __init__(self, dims: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("keys", "vectors", "found")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    keys: Keys
    vectors: Vectors
    found: bytes
    def __init__(self, keys: _Optional[_Union[Keys, _Mapping]] = ..., vectors: _Optional[_Union[Vectors, _Mapping]] = ..., found: _Optional[bytes] = ...) -> None: ...

class RequestId(_message.Message):
    __slots__ = ("client", "slot", "number")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    client: bytes
    slot: int
    number: int
    def __init__(self, client: _Optional[bytes] = ..., slot: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("kind", "message", "metadata", "checks")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Names(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: str
    def __init__(self, release: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("message_bytes", "rows", "k", "batch_bytes", "slots", "clients", "deadline_seconds", "snapshot_idle_seconds", "call_streams")
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CALL_STREAMS_FIELD_NUMBER: _ClassVar[int]
    message_bytes: int
    rows: int
    k: int
    batch_bytes: int
    slots: int
    clients: int
    deadline_seconds: float
    snapshot_idle_seconds: float
    call_streams: int
    def __init__(self, message_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., k: _Optional[int] = ..., batch_bytes: _Optional[int] = ..., slots: _Optional[int] = ..., clients: _Optional[int] = ..., deadline_seconds: _Optional[float] = ..., snapshot_idle_seconds: _Optional[float] = ..., call_streams: _Optional[int] = ...) -> None: ...

class HelloResponse(_message.Message):
    __slots__ = ("release", "limits", "read_only")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    release: str
    limits: Limits
    read_only: bool
    def __init__(self, release: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., read_only: bool = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("path", "read_only", "spaces", "rows", "disk_bytes", "seq")
    PATH_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    path: str
    read_only: bool
    spaces: int
    rows: int
    disk_bytes: int
    seq: int
    def __init__(self, path: _Optional[str] = ..., read_only: bool = ..., spaces: _Optional[int] = ..., rows: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Finding(_message.Message):
    __slots__ = ("path", "what")
    PATH_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    path: str
    what: str
    def __init__(self, path: _Optional[str] = ..., what: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("files", "bytes", "rows", "findings")
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    files: int
    bytes: int
    rows: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, files: _Optional[int] = ..., bytes: _Optional[int] = ..., rows: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class MetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetricsResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("place", "without_index")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_INDEX_FIELD_NUMBER: _ClassVar[int]
    place: str
    without_index: bool
    def __init__(self, place: _Optional[str] = ..., without_index: bool = ...) -> None: ...

class BackupReport(_message.Message):
    __slots__ = ("number", "time", "seq", "files", "bytes", "bytes_moved")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    number: int
    time: str
    seq: int
    files: int
    bytes: int
    bytes_moved: int
    def __init__(self, number: _Optional[int] = ..., time: _Optional[str] = ..., seq: _Optional[int] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., bytes_moved: _Optional[int] = ...) -> None: ...

class BackupProgress(_message.Message):
    __slots__ = ("place", "bytes", "of_bytes", "made")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OF_BYTES_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    place: str
    bytes: int
    of_bytes: int
    made: BackupReport
    def __init__(self, place: _Optional[str] = ..., bytes: _Optional[int] = ..., of_bytes: _Optional[int] = ..., made: _Optional[_Union[BackupReport, _Mapping]] = ...) -> None: ...

class ListSpacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Schema(_message.Message):
    __slots__ = ("dims", "metric", "key_type", "M", "ef_construction", "ef", "target_recall", "model_json")
    DIMS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    KEY_TYPE_FIELD_NUMBER: _ClassVar[int]
    M_FIELD_NUMBER: _ClassVar[int]
    EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    MODEL_JSON_FIELD_NUMBER: _ClassVar[int]
    dims: int
    metric: str
    key_type: str
    M: int
    ef_construction: int
    ef: int
    target_recall: float
    model_json: str
    def __init__(self, dims: _Optional[int] = ..., metric: _Optional[str] = ..., key_type: _Optional[str] = ..., M: _Optional[int] = ..., ef_construction: _Optional[int] = ..., ef: _Optional[int] = ..., target_recall: _Optional[float] = ..., model_json: _Optional[str] = ...) -> None: ...

class CreateSpaceRequest(_message.Message):
    __slots__ = ("space", "schema")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    space: str
    schema: Schema
    def __init__(self, space: _Optional[str] = ..., schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class DeleteSpaceRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("space", "version", "version_id", "dims", "metric", "key_type", "M", "ef_construction", "frozen", "created", "model_json", "lineage_json", "normalize", "subindex_id")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    KEY_TYPE_FIELD_NUMBER: _ClassVar[int]
    M_FIELD_NUMBER: _ClassVar[int]
    EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_JSON_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_JSON_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    SUBINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    space: str
    version: str
    version_id: int
    dims: int
    metric: str
    key_type: str
    M: int
    ef_construction: int
    frozen: bool
    created: str
    model_json: str
    lineage_json: str
    normalize: bool
    subindex_id: int
    def __init__(self, space: _Optional[str] = ..., version: _Optional[str] = ..., version_id: _Optional[int] = ..., dims: _Optional[int] = ..., metric: _Optional[str] = ..., key_type: _Optional[str] = ..., M: _Optional[int] = ..., ef_construction: _Optional[int] = ..., frozen: bool = ..., created: _Optional[str] = ..., model_json: _Optional[str] = ..., lineage_json: _Optional[str] = ..., normalize: bool = ..., subindex_id: _Optional[int] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class CreateVersionRequest(_message.Message):
    __slots__ = ("space", "version", "schema", "parent", "created_by", "run_id", "code", "data", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    space: str
    version: str
    schema: Schema
    parent: str
    created_by: str
    run_id: str
    code: str
    data: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, space: _Optional[str] = ..., version: _Optional[str] = ..., schema: _Optional[_Union[Schema, _Mapping]] = ..., parent: _Optional[str] = ..., created_by: _Optional[str] = ..., run_id: _Optional[str] = ..., code: _Optional[str] = ..., data: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DeleteVersionRequest(_message.Message):
    __slots__ = ("space", "version")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    space: str
    version: str
    def __init__(self, space: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class FreezeRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class ForkRequest(_message.Message):
    __slots__ = ("target", "name", "created_by", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    name: str
    created_by: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., name: _Optional[str] = ..., created_by: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListAliasesRequest(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: str
    def __init__(self, space: _Optional[str] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("version", "at", "by", "why")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    version: str
    at: str
    by: str
    why: str
    def __init__(self, version: _Optional[str] = ..., at: _Optional[str] = ..., by: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("name", "version", "protected", "previous", "history")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    protected: bool
    previous: _containers.RepeatedScalarFieldContainer[str]
    history: _containers.RepeatedCompositeFieldContainer[Move]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., protected: bool = ..., previous: _Optional[_Iterable[str]] = ..., history: _Optional[_Iterable[_Union[Move, _Mapping]]] = ...) -> None: ...

class Aliases(_message.Message):
    __slots__ = ("aliases",)
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.RepeatedCompositeFieldContainer[Alias]
    def __init__(self, aliases: _Optional[_Iterable[_Union[Alias, _Mapping]]] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("space", "alias", "version", "expect_version", "expect_none", "protect", "why")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECT_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECT_NONE_FIELD_NUMBER: _ClassVar[int]
    PROTECT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    space: str
    alias: str
    version: str
    expect_version: str
    expect_none: bool
    protect: bool
    why: str
    def __init__(self, space: _Optional[str] = ..., alias: _Optional[str] = ..., version: _Optional[str] = ..., expect_version: _Optional[str] = ..., expect_none: bool = ..., protect: bool = ..., why: _Optional[str] = ...) -> None: ...

class RemoveAliasRequest(_message.Message):
    __slots__ = ("space", "alias")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    space: str
    alias: str
    def __init__(self, space: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("space", "version", "alias", "require", "queries", "sample", "seed", "why")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    space: str
    version: str
    alias: str
    require: _containers.RepeatedCompositeFieldContainer[Requirement]
    queries: Vectors
    sample: int
    seed: int
    why: str
    def __init__(self, space: _Optional[str] = ..., version: _Optional[str] = ..., alias: _Optional[str] = ..., require: _Optional[_Iterable[_Union[Requirement, _Mapping]]] = ..., queries: _Optional[_Union[Vectors, _Mapping]] = ..., sample: _Optional[int] = ..., seed: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class Requirement(_message.Message):
    __slots__ = ("name", "least")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    name: str
    least: float
    def __init__(self, name: _Optional[str] = ..., least: _Optional[float] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("name", "value", "least", "note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    least: float
    note: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., least: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    def __init__(self, checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("space", "alias", "why")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    space: str
    alias: str
    why: str
    def __init__(self, space: _Optional[str] = ..., alias: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class TakeSnapshotRequest(_message.Message):
    __slots__ = ("target", "message")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    target: Target
    message: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class OpenTagRequest(_message.Message):
    __slots__ = ("target", "tag")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    target: Target
    tag: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., tag: _Optional[str] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("name", "seq", "created", "created_by", "message", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    seq: int
    created: str
    created_by: str
    message: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., seq: _Optional[int] = ..., created: _Optional[str] = ..., created_by: _Optional[str] = ..., message: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Tags(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("snapshot", "seq", "tag", "description", "means")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MEANS_FIELD_NUMBER: _ClassVar[int]
    snapshot: str
    seq: int
    tag: Tag
    description: Description
    means: SnapshotInfo
    def __init__(self, snapshot: _Optional[str] = ..., seq: _Optional[int] = ..., tag: _Optional[_Union[Tag, _Mapping]] = ..., description: _Optional[_Union[Description, _Mapping]] = ..., means: _Optional[_Union[SnapshotInfo, _Mapping]] = ...) -> None: ...

class CloseSnapshotRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class ListTagsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class SetTagRequest(_message.Message):
    __slots__ = ("target", "name", "message", "labels", "created_by")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    target: Target
    name: str
    message: str
    labels: _containers.ScalarMap[str, str]
    created_by: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., name: _Optional[str] = ..., message: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_by: _Optional[str] = ...) -> None: ...

class RemoveTagRequest(_message.Message):
    __slots__ = ("target", "name")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    target: Target
    name: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class ExpireSnapshotsRequest(_message.Message):
    __slots__ = ("target", "keep_last", "keep_for_seconds")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    KEEP_FOR_SECONDS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keep_last: int
    keep_for_seconds: float
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keep_last: _Optional[int] = ..., keep_for_seconds: _Optional[float] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class DiffRequest(_message.Message):
    __slots__ = ("since", "until")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    since: Target
    until: Target
    def __init__(self, since: _Optional[_Union[Target, _Mapping]] = ..., until: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class DiffPart(_message.Message):
    __slots__ = ("added", "removed", "changed", "cosine", "l2")
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    L2_FIELD_NUMBER: _ClassVar[int]
    added: Keys
    removed: Keys
    changed: Keys
    cosine: bytes
    l2: bytes
    def __init__(self, added: _Optional[_Union[Keys, _Mapping]] = ..., removed: _Optional[_Union[Keys, _Mapping]] = ..., changed: _Optional[_Union[Keys, _Mapping]] = ..., cosine: _Optional[bytes] = ..., l2: _Optional[bytes] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("target", "keys", "allow_missing")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keys: Keys
    allow_missing: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ..., allow_missing: bool = ...) -> None: ...

class LocateRequest(_message.Message):
    __slots__ = ("target", "keys")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keys: Keys
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class LocateResponse(_message.Message):
    __slots__ = ("births",)
    BIRTHS_FIELD_NUMBER: _ClassVar[int]
    births: bytes
    def __init__(self, births: _Optional[bytes] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("target", "batch_rows", "keys_only")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    target: Target
    batch_rows: int
    keys_only: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., batch_rows: _Optional[int] = ..., keys_only: bool = ...) -> None: ...

class ListPartitionsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class PartitionCounts(_message.Message):
    __slots__ = ("names", "rows")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[int]] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("k", "max_distance", "ef", "exact", "filter")
    K_FIELD_NUMBER: _ClassVar[int]
    MAX_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    k: int
    max_distance: float
    ef: int
    exact: bool
    filter: Keys
    def __init__(self, k: _Optional[int] = ..., max_distance: _Optional[float] = ..., ef: _Optional[int] = ..., exact: bool = ..., filter: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("target", "vectors", "keys", "options")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    vectors: Vectors
    keys: Keys
    options: SearchOptions
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., vectors: _Optional[_Union[Vectors, _Mapping]] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("keys", "distances", "counts")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    DISTANCES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    keys: Keys
    distances: bytes
    counts: bytes
    def __init__(self, keys: _Optional[_Union[Keys, _Mapping]] = ..., distances: _Optional[bytes] = ..., counts: _Optional[bytes] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("target", "query", "examples", "options")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    query: Vectors
    examples: Keys
    options: SearchOptions
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., query: _Optional[_Union[Vectors, _Mapping]] = ..., examples: _Optional[_Union[Keys, _Mapping]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class AverageRequest(_message.Message):
    __slots__ = ("target", "keys", "begins", "weights", "normalize", "allow_missing")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keys: Keys
    begins: bytes
    weights: bytes
    normalize: bool
    allow_missing: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ..., begins: _Optional[bytes] = ..., weights: _Optional[bytes] = ..., normalize: bool = ..., allow_missing: bool = ...) -> None: ...

class AveragePartitionsRequest(_message.Message):
    __slots__ = ("target", "normalize")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    target: Target
    normalize: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., normalize: bool = ...) -> None: ...

class AverageResponse(_message.Message):
    __slots__ = ("partitions", "means", "found", "states")
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    MEANS_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedScalarFieldContainer[str]
    means: Vectors
    found: bytes
    states: bytes
    def __init__(self, partitions: _Optional[_Iterable[str]] = ..., means: _Optional[_Union[Vectors, _Mapping]] = ..., found: _Optional[bytes] = ..., states: _Optional[bytes] = ...) -> None: ...

class KMeansRequest(_message.Message):
    __slots__ = ("target", "k", "seed", "iterations", "sample")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    target: Target
    k: int
    seed: int
    iterations: int
    sample: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., k: _Optional[int] = ..., seed: _Optional[int] = ..., iterations: _Optional[int] = ..., sample: _Optional[int] = ...) -> None: ...

class KMeansResponse(_message.Message):
    __slots__ = ("centroids", "counts", "inertia", "rows", "iterations", "converged")
    CENTROIDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    INERTIA_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FIELD_NUMBER: _ClassVar[int]
    centroids: Vectors
    counts: bytes
    inertia: float
    rows: int
    iterations: int
    converged: bool
    def __init__(self, centroids: _Optional[_Union[Vectors, _Mapping]] = ..., counts: _Optional[bytes] = ..., inertia: _Optional[float] = ..., rows: _Optional[int] = ..., iterations: _Optional[int] = ..., converged: bool = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("target", "set", "delete", "delete_all")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_ALL_FIELD_NUMBER: _ClassVar[int]
    target: Target
    set: Set
    delete: Keys
    delete_all: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., set: _Optional[_Union[Set, _Mapping]] = ..., delete: _Optional[_Union[Keys, _Mapping]] = ..., delete_all: bool = ...) -> None: ...

class Set(_message.Message):
    __slots__ = ("keys", "vectors", "partitions", "row_partitions")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    ROW_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    keys: Keys
    vectors: Vectors
    partitions: _containers.RepeatedScalarFieldContainer[str]
    row_partitions: bytes
    def __init__(self, keys: _Optional[_Union[Keys, _Mapping]] = ..., vectors: _Optional[_Union[Vectors, _Mapping]] = ..., partitions: _Optional[_Iterable[str]] = ..., row_partitions: _Optional[bytes] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("request", "parts", "more")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    more: bool
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., more: bool = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("rows", "request", "repeated")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    rows: int
    request: RequestId
    repeated: bool
    def __init__(self, rows: _Optional[int] = ..., request: _Optional[_Union[RequestId, _Mapping]] = ..., repeated: bool = ...) -> None: ...

class IndexStatsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class IndexStatsResponse(_message.Message):
    __slots__ = ("rows", "rows_indexed", "rows_scanned", "segments", "bytes", "unreachable", "rebuilds", "rows_building", "rows_per_second", "ef", "code_bits", "subsets", "rows_waiting", "rows_built", "rows_due")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_INDEXED_FIELD_NUMBER: _ClassVar[int]
    ROWS_SCANNED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    REBUILDS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BUILDING_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    CODE_BITS_FIELD_NUMBER: _ClassVar[int]
    SUBSETS_FIELD_NUMBER: _ClassVar[int]
    ROWS_WAITING_FIELD_NUMBER: _ClassVar[int]
    ROWS_BUILT_FIELD_NUMBER: _ClassVar[int]
    ROWS_DUE_FIELD_NUMBER: _ClassVar[int]
    rows: int
    rows_indexed: int
    rows_scanned: int
    segments: int
    bytes: int
    unreachable: int
    rebuilds: int
    rows_building: int
    rows_per_second: float
    ef: int
    code_bits: int
    subsets: int
    rows_waiting: int
    rows_built: int
    rows_due: int
    def __init__(self, rows: _Optional[int] = ..., rows_indexed: _Optional[int] = ..., rows_scanned: _Optional[int] = ..., segments: _Optional[int] = ..., bytes: _Optional[int] = ..., unreachable: _Optional[int] = ..., rebuilds: _Optional[int] = ..., rows_building: _Optional[int] = ..., rows_per_second: _Optional[float] = ..., ef: _Optional[int] = ..., code_bits: _Optional[int] = ..., subsets: _Optional[int] = ..., rows_waiting: _Optional[int] = ..., rows_built: _Optional[int] = ..., rows_due: _Optional[int] = ...) -> None: ...

class StorageStatsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("id", "rows", "rows_dead", "bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_DEAD_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    rows: int
    rows_dead: int
    bytes: int
    def __init__(self, id: _Optional[int] = ..., rows: _Optional[int] = ..., rows_dead: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class StorageStatsResponse(_message.Message):
    __slots__ = ("rows", "segments")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, rows: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class WaitIndexedRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class OptimizeRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class MeasureRecallRequest(_message.Message):
    __slots__ = ("target", "k", "sample", "ef")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    target: Target
    k: int
    sample: int
    ef: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., k: _Optional[int] = ..., sample: _Optional[int] = ..., ef: _Optional[int] = ...) -> None: ...

class MeasureRecallResponse(_message.Message):
    __slots__ = ("k", "sample", "recall", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "exact_latency_p50_ms")
    K_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_MS_FIELD_NUMBER: _ClassVar[int]
    EXACT_LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    k: int
    sample: int
    recall: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    exact_latency_p50_ms: float
    def __init__(self, k: _Optional[int] = ..., sample: _Optional[int] = ..., recall: _Optional[float] = ..., latency_p50_ms: _Optional[float] = ..., latency_p95_ms: _Optional[float] = ..., latency_p99_ms: _Optional[float] = ..., exact_latency_p50_ms: _Optional[float] = ...) -> None: ...

class ListAveragesRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class Groups(_message.Message):
    __slots__ = ("groups", "counts", "members", "weights")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    groups: Keys
    counts: bytes
    members: Keys
    weights: bytes
    def __init__(self, groups: _Optional[_Union[Keys, _Mapping]] = ..., counts: _Optional[bytes] = ..., members: _Optional[_Union[Keys, _Mapping]] = ..., weights: _Optional[bytes] = ...) -> None: ...

class CreateAverageRequest(_message.Message):
    __slots__ = ("target", "name", "groups", "key_type", "normalize")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    KEY_TYPE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    target: Target
    name: str
    groups: Groups
    key_type: str
    normalize: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., name: _Optional[str] = ..., groups: _Optional[_Union[Groups, _Mapping]] = ..., key_type: _Optional[str] = ..., normalize: bool = ...) -> None: ...

class DeleteAverageRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class UpdateAverageRequest(_message.Message):
    __slots__ = ("target", "add", "remove", "delete")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    target: Target
    add: Groups
    remove: Groups
    delete: Keys
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., add: _Optional[_Union[Groups, _Mapping]] = ..., remove: _Optional[_Union[Groups, _Mapping]] = ..., delete: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class GetMembersRequest(_message.Message):
    __slots__ = ("target", "group")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    target: Target
    group: Keys
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., group: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class Members(_message.Message):
    __slots__ = ("groups", "members", "weights")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    groups: Keys
    members: Keys
    weights: bytes
    def __init__(self, groups: _Optional[_Union[Keys, _Mapping]] = ..., members: _Optional[_Union[Keys, _Mapping]] = ..., weights: _Optional[bytes] = ...) -> None: ...

class RefreshAverageRequest(_message.Message):
    __slots__ = ("target", "only_count")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ONLY_COUNT_FIELD_NUMBER: _ClassVar[int]
    target: Target
    only_count: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., only_count: bool = ...) -> None: ...

class ListSubIndicesRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class SubIndexCounts(_message.Message):
    __slots__ = ("names", "rows")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[int]] = ...) -> None: ...

class CreateSubIndexRequest(_message.Message):
    __slots__ = ("request", "target", "name", "keys")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    target: Target
    name: str
    keys: Keys
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., name: _Optional[str] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class DropSubIndexRequest(_message.Message):
    __slots__ = ("request", "target")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    target: Target
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class UpdateSubIndexRequest(_message.Message):
    __slots__ = ("request", "target", "add", "remove")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    target: Target
    add: Keys
    remove: Keys
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., add: _Optional[_Union[Keys, _Mapping]] = ..., remove: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class ScanSubIndexKeysRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class TypedKeys(_message.Message):
    __slots__ = ("texts", "integers")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    texts: Keys
    integers: Keys
    def __init__(self, texts: _Optional[_Union[Keys, _Mapping]] = ..., integers: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class PlanErasureRequest(_message.Message):
    __slots__ = ("space", "keys")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    space: str
    keys: TypedKeys
    def __init__(self, space: _Optional[str] = ..., keys: _Optional[_Union[TypedKeys, _Mapping]] = ...) -> None: ...

class VersionErasure(_message.Message):
    __slots__ = ("version", "rows", "rows_live", "tags", "snapshots")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_LIVE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    rows: int
    rows_live: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    snapshots: int
    def __init__(self, version: _Optional[str] = ..., rows: _Optional[int] = ..., rows_live: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., snapshots: _Optional[int] = ...) -> None: ...

class ErasurePlan(_message.Message):
    __slots__ = ("space", "keys", "keys_missing", "versions", "files", "readers", "blockers", "backups", "hidden")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    KEYS_MISSING_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    BLOCKERS_FIELD_NUMBER: _ClassVar[int]
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    space: str
    keys: int
    keys_missing: int
    versions: _containers.RepeatedCompositeFieldContainer[VersionErasure]
    files: _containers.RepeatedScalarFieldContainer[str]
    readers: _containers.RepeatedScalarFieldContainer[str]
    blockers: _containers.RepeatedScalarFieldContainer[str]
    backups: _containers.RepeatedScalarFieldContainer[str]
    hidden: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, space: _Optional[str] = ..., keys: _Optional[int] = ..., keys_missing: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[VersionErasure, _Mapping]]] = ..., files: _Optional[_Iterable[str]] = ..., readers: _Optional[_Iterable[str]] = ..., blockers: _Optional[_Iterable[str]] = ..., backups: _Optional[_Iterable[str]] = ..., hidden: _Optional[_Iterable[str]] = ...) -> None: ...

class EraseRequest(_message.Message):
    __slots__ = ("request", "space", "keys", "wait_seconds")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    space: str
    keys: TypedKeys
    wait_seconds: float
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., space: _Optional[str] = ..., keys: _Optional[_Union[TypedKeys, _Mapping]] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class FileRecord(_message.Message):
    __slots__ = ("path", "bytes", "crc32c")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    path: str
    bytes: int
    crc32c: int
    def __init__(self, path: _Optional[str] = ..., bytes: _Optional[int] = ..., crc32c: _Optional[int] = ...) -> None: ...

class ErasureReceipt(_message.Message):
    __slots__ = ("space", "time", "salt", "keys_missing", "versions", "written", "removed", "held", "backups", "hidden")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    KEYS_MISSING_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    space: str
    time: str
    salt: str
    keys_missing: int
    versions: _containers.RepeatedCompositeFieldContainer[VersionErasure]
    written: _containers.RepeatedCompositeFieldContainer[FileRecord]
    removed: _containers.RepeatedCompositeFieldContainer[FileRecord]
    held: _containers.RepeatedScalarFieldContainer[str]
    backups: _containers.RepeatedScalarFieldContainer[str]
    hidden: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, space: _Optional[str] = ..., time: _Optional[str] = ..., salt: _Optional[str] = ..., keys_missing: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[VersionErasure, _Mapping]]] = ..., written: _Optional[_Iterable[_Union[FileRecord, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[FileRecord, _Mapping]]] = ..., held: _Optional[_Iterable[str]] = ..., backups: _Optional[_Iterable[str]] = ..., hidden: _Optional[_Iterable[str]] = ...) -> None: ...

class EraseResponse(_message.Message):
    __slots__ = ("rows", "request", "repeated", "receipt")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    request: RequestId
    repeated: bool
    receipt: ErasureReceipt
    def __init__(self, rows: _Optional[int] = ..., request: _Optional[_Union[RequestId, _Mapping]] = ..., repeated: bool = ..., receipt: _Optional[_Union[ErasureReceipt, _Mapping]] = ...) -> None: ...

class FinishErasuresRequest(_message.Message):
    __slots__ = ("wait_seconds",)
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    wait_seconds: float
    def __init__(self, wait_seconds: _Optional[float] = ...) -> None: ...

class CallRequest(_message.Message):
    __slots__ = ("method", "request", "timeout_seconds", "trace")
    class TraceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    method: str
    request: bytes
    timeout_seconds: float
    trace: _containers.ScalarMap[str, str]
    def __init__(self, method: _Optional[str] = ..., request: _Optional[bytes] = ..., timeout_seconds: _Optional[float] = ..., trace: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CallResponse(_message.Message):
    __slots__ = ("code", "response", "details", "error")
    CODE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    code: int
    response: bytes
    details: str
    error: ErrorDetail
    def __init__(self, code: _Optional[int] = ..., response: _Optional[bytes] = ..., details: _Optional[str] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ...) -> None: ...
