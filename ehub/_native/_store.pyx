"""The store as Python objects: a thin skin over `src/store/store.h`, with none of its own opinions.

Nothing here coerces: keys come packed (`Keys`), vectors as contiguous float32 (`ehub._arrays` is
the door for both). Every call that may wait or compute does so without the GIL; objects may be
shared by threads. The parts `_keys.pyx` and `_view.pyx` are included here, because all of them
share C++ objects and those cannot cross from one native module to another.
"""

import os

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_F_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cython.operator cimport dereference as deref
from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport getenv
from libc.string cimport memcpy, strcmp
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from ehub._native._engine cimport (
    CFinding,
    CIndexStats,
    Code,
    Counts,
    CRepairReport,
    CStore,
    CTable,
    CVerifyReport,
    CView,
    Durability,
    GivenLinks,
    GraphFile,
    KeyType,
    Metric,
    Neighbor,
    Ordinal,
    ScanBatch,
    ScanCursor,
    Schema,
    SearchOptions,
    Status,
    StoreOptions,
    TableStats,
    WriteBatch,
    WriteKind,
    WriteResult,
    first_invalid_row,
    given_links,
    kernels,
    kKeyBytesMax,
    kNoOrdinal,
    next_batch,
    posix_file_system,
    select_kernels,
    string_view,
    table_schema,
    table_space,
    take,
    take_view,
)

from numpy import asarray as _asarray
from numpy import empty as _empty
from numpy import float32 as _float32
from numpy import float64 as _float64
from numpy import int64 as _int64
from numpy import uint32 as _uint32
from numpy.ma import MaskedArray as _MaskedArray

from ehub.errors import (
    ClosedError,
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
    NotFoundError,
    ReadOnlyError,
    StorageError,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    bint PyIndex_Check(object number)


# --- errors: the one place where a Status becomes an exception ---

_ERRORS = {
    <int>Code.kNotFound: NotFoundError,
    <int>Code.kExists: ExistsError,
    <int>Code.kInvalidArgument: InvalidArgumentError,
    <int>Code.kDimension: DimensionError,
    <int>Code.kInvalidVector: InvalidVectorError,
    <int>Code.kInvalidKey: InvalidKeyError,
    <int>Code.kFrozen: FrozenError,
    <int>Code.kReadOnly: ReadOnlyError,
    <int>Code.kLocked: LockedError,
    <int>Code.kCorruption: CorruptionError,
    <int>Code.kFormat: FormatError,
    <int>Code.kClosed: ClosedError,
}


cdef inline int check(const Status& status) except -1:
    return 0 if status.ok() else fail(status)


cdef int fail(const Status& status) except -1:
    message = status.message().decode("utf-8", "backslashreplace")
    if status.code() == Code.kIo:
        raise StorageError(status.error_number(), message)
    if status.code() == Code.kOutOfMemory:
        raise MemoryError(message)
    raise _ERRORS.get(<int>status.code(), EhubError)(message)


# --- small values ---

_METRICS = {"l2": <int>Metric.kL2, "ip": <int>Metric.kInnerProduct, "cosine": <int>Metric.kCosine}
_KEY_TYPES = {"str": <int>KeyType.kString, "int": <int>KeyType.kInteger}
_DURABILITIES = {
    "full": <int>Durability.kFull, "normal": <int>Durability.kNormal, "off": <int>Durability.kOff
}


cdef int choice(str option, object value, dict choices) except -1:
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(f'"{name}"' for name in choices)
        raise InvalidArgumentError(f"{option} is {value!r}; expected one of {expected}")
    return choices[value]


cdef str name_of(int number, dict choices):
    return next(name for name, value in choices.items() if value == number)


cdef bytes encoded(object name):
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the name {name!r} has a lone surrogate at position {error.start}"
        ) from None


cdef list findings_of(vector[CFinding]& findings):
    return [
        (os.fsdecode(finding.path), finding.what.decode("utf-8", "backslashreplace"))
        for finding in findings
    ]


include "_keys.pyx"
include "_view.pyx"


# --- a hub ---

@cython.final
cdef class Store:
    def __init__(
        self,
        str path not None,
        *,
        bint read_only=False,
        durability="full",
        bint background=True,
        large_batch_bytes=None,
        log_bytes_max=None,
        fresh_rows_max=None,
        segment_bytes_max=None,
        carry_bytes_max=None,
        carry_total_bytes_max=None,
        graph_rows_min=None,
    ):
        cdef StoreOptions options
        cdef Status status
        cdef string root = os.fsencode(path)
        options.read_only = read_only
        options.durability = <Durability>choice("durability", durability, _DURABILITIES)
        options.background = background
        if large_batch_bytes is not None:
            options.large_batch_bytes = large_batch_bytes
        if log_bytes_max is not None:
            options.log_bytes_max = log_bytes_max
        if fresh_rows_max is not None:
            options.fresh_rows_max = fresh_rows_max
        if segment_bytes_max is not None:
            options.segment_bytes_max = segment_bytes_max
        if carry_bytes_max is not None:
            options.carry_bytes_max = carry_bytes_max
        if carry_total_bytes_max is not None:
            options.carry_total_bytes_max = carry_total_bytes_max
        if graph_rows_min is not None:
            options.graph_rows_min = graph_rows_min
        if self.engine.get() != NULL:
            raise ValueError("this store is open")
        self.path = path
        with nogil:
            status = take(CStore.open(posix_file_system(), root, options), &self.engine)
        check(status)

    def __dealloc__(self):
        with nogil:
            self.engine.reset()

    cdef Table table_of(self, shared_ptr[CTable] handle):
        cdef Table table = Table.__new__(Table)
        cdef const Schema* schema = &table_schema(deref(handle))
        table.store = self
        table.table = handle
        table.space = table_space(deref(handle)).decode()
        table.dims = schema.dims
        table.metric = name_of(<int>schema.metric, _METRICS)
        table.key_type = name_of(<int>schema.key_type, _KEY_TYPES)
        table.integer = schema.key_type == KeyType.kInteger
        table.M = schema.index.M
        table.ef_construction = schema.index.ef_construction
        return table

    cdef int require_open(self) except -1:
        if self.closed:
            raise ClosedError(f"the hub {self.path!r} is closed")
        return 0

    def create_space(
        self,
        name,
        uint32_t dims,
        metric,
        key_type,
        uint32_t M=24,
        uint32_t ef_construction=100,
        uint32_t ef=0,
        float target_recall=0.95,
    ):
        cdef Schema schema
        cdef string encoded_name = encoded(name)
        cdef shared_ptr[CTable] handle
        cdef Status status
        schema.dims = dims
        schema.metric = <Metric>choice("metric", metric, _METRICS)
        schema.key_type = <KeyType>choice("key_type", key_type, _KEY_TYPES)
        schema.index.M = M
        schema.index.ef_construction = ef_construction
        schema.index.ef = ef
        schema.index.target_recall = target_recall
        with nogil:
            status = take(self.engine.get().create_space(encoded_name, schema), &handle)
        check(status)
        return self.table_of(handle)

    def get_space(self, name):
        cdef string encoded_name = encoded(name)
        cdef shared_ptr[CTable] handle
        self.require_open()
        check(take(self.engine.get().space(encoded_name), &handle))
        return self.table_of(handle)

    def spaces(self):
        self.require_open()
        return [name.decode() for name in self.engine.get().spaces()]

    def delete_space(self, name):
        cdef string encoded_name = encoded(name)
        cdef Status status
        with nogil:
            status = self.engine.get().drop_space(encoded_name)
        check(status)

    def sync(self):
        cdef Status status
        with nogil:
            status = self.engine.get().sync()
        check(status)

    def checkpoint(self):
        cdef Status status
        with nogil:
            status = self.engine.get().checkpoint()
        check(status)

    def refresh(self):
        cdef Status status
        with nogil:
            status = self.engine.get().refresh()
        check(status)

    def verify(self):
        cdef CVerifyReport report
        cdef Status status
        with nogil:
            status = take(self.engine.get().verify(), &report)
        check(status)
        return report.files, report.bytes, report.rows, findings_of(report.findings)

    def close(self):
        cdef Status status
        with nogil:
            status = self.engine.get().close()
        # A hub that is closed already, or belongs to the parent process, is as closed as can be.
        if status.code() != Code.kClosed:
            check(status)

    @property
    def closed(self):
        return self.engine.get() == NULL or self.engine.get().closed()

    @property
    def read_only(self):
        return self.engine.get() != NULL and self.engine.get().is_read_only()

    @property
    def seq(self):
        self.require_open()
        return self.engine.get().visible_seq()


def repair(str path not None):
    cdef CRepairReport report
    cdef string root = os.fsencode(path)
    cdef Status status
    with nogil:
        status = take(CStore.repair(posix_file_system(), root), &report)
    check(status)
    return (
        report.rows_kept,
        report.rows_dropped,
        report.batches_dropped,
        findings_of(report.dropped),
    )


# --- a space ---

@cython.final
cdef class Table:
    cdef inline int one_key(self, object key, int64_t* storage, string_view* out) except -1:
        if not self.integer:
            return utf8_of(key, -1, self.space, out)
        int64_of(key, -1, self.space, storage)
        out[0] = int64_bytes(storage)
        return 0

    cdef uint64_t write(self, WriteBatch& batch) except? 0xFFFFFFFFFFFFFFFF:
        cdef WriteResult result
        cdef Status status
        batch.table = self.table
        with nogil:
            status = take(self.store.engine.get().write(batch), &result)
        check(status)
        return result.rows_deleted

    def get(self, key, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef shared_ptr[const CView] view
        cdef cbool found = False
        cdef Status status
        self.one_key(key, &integer, &encoded_key)
        values = _empty(self.dims, _float32)
        cdef float* out = <float*>data_of(values)
        with nogil:
            status = take_view(self.store.engine.get().view(deref(self.table)), &view)
            if status.ok():
                status = take(deref(view).get(encoded_key, out), &found)
        check(status)
        if not found:
            raise NotFoundError(f"space {self.space!r} has no key {key!r}")
        return values

    def contains(self, key, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef shared_ptr[const CView] view
        cdef Ordinal row = kNoOrdinal
        cdef Status status
        self.one_key(key, &integer, &encoded_key)
        with nogil:
            status = take_view(self.store.engine.get().view(deref(self.table)), &view)
            if status.ok():
                status = deref(view).locate(&encoded_key, 1, &row)
        check(status)
        return row != kNoOrdinal

    def set(self, key, values, partition=None, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef WriteBatch batch
        cdef Py_buffer buffer
        self.one_key(key, &integer, &encoded_key)
        batch.keys.push_back(encoded_key)
        if partition is not None:
            batch.partition_names.push_back(bytes_view(partition))
        if not as_floats(values, self.dims, &buffer):
            raise TypeError("expected contiguous float32[dims]")
        try:
            batch.vectors = <const float*>buffer.buf
            self.write(batch)
        finally:
            PyBuffer_Release(&buffer)

    def multiset(
        self,
        Keys keys not None,
        const float[:, ::1] vectors not None,
        tuple partitions not None=(),
        const uint32_t[::1] row_partitions=None,
    ):
        cdef WriteBatch batch
        self.require_fit(keys)
        if vectors.shape[0] != len(keys) or vectors.shape[1] != self.dims:
            raise ValueError("expected a vector of this space for each key")
        if row_partitions is not None and row_partitions.shape[0] != len(keys):
            raise ValueError("expected a partition for each key")
        self.store.require_open()
        if len(keys) == 0:
            return
        for name in partitions:
            batch.partition_names.push_back(bytes_view(name))
        if row_partitions is not None:
            batch.row_partitions = &row_partitions[0]
        batch.vectors = &vectors[0, 0]
        batch.keys.swap(keys.views)
        try:
            self.write(batch)
        finally:
            batch.keys.swap(keys.views)

    def multiset_linked(
        self,
        Keys keys not None,
        const float[:, ::1] vectors not None,
        const uint64_t[::1] begins not None,
        const uint32_t[::1] targets not None,
    ):
        cdef WriteBatch batch
        cdef GivenLinks links
        cdef cbool were_taken = False
        cdef Status status
        self.require_fit(keys)
        if vectors.shape[0] != len(keys) or vectors.shape[1] != self.dims:
            raise ValueError("expected a vector of this space for each key")
        if begins.shape[0] != len(keys) + 1:
            raise ValueError("expected links for each key")
        self.store.require_open()
        if len(keys) == 0:
            return False
        links = given_links(
            &begins[0], begins.shape[0], &targets[0] if targets.shape[0] else NULL, targets.shape[0]
        )
        batch.table = self.table
        batch.vectors = &vectors[0, 0]
        batch.keys.swap(keys.views)
        try:
            with nogil:
                status = take(self.store.engine.get().write_linked(batch, links), &were_taken)
            check(status)
        finally:
            batch.keys.swap(keys.views)
        return were_taken

    def delete(self, key, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef WriteBatch batch
        self.one_key(key, &integer, &encoded_key)
        batch.kind = WriteKind.kDelete
        batch.keys.push_back(encoded_key)
        # Looked up first, so that a key that is missing costs no write.
        if not self.contains(key) or self.write(batch) == 0:
            raise NotFoundError(f"space {self.space!r} has no key {key!r}")

    def multidelete(self, Keys keys not None):
        cdef WriteBatch batch
        self.require_fit(keys)
        batch.kind = WriteKind.kDelete
        batch.keys.swap(keys.views)
        try:
            return self.write(batch)
        finally:
            batch.keys.swap(keys.views)

    def delete_all(self):
        cdef WriteBatch batch
        batch.kind = WriteKind.kDeleteAll
        return self.write(batch)

    def compact(self):
        cdef Status status
        with nogil:
            status = self.store.engine.get().compact(deref(self.table))
        check(status)

    def wait_indexed(self):
        cdef Status status
        with nogil:
            status = self.store.engine.get().wait_indexed(deref(self.table))
        check(status)

    def optimize(self):
        cdef Status status
        with nogil:
            status = self.store.engine.get().optimize(deref(self.table))
        check(status)

    def index_stats(self):
        self.row_count()  # says so if the hub is closed or the space gone
        cdef CIndexStats stats = self.store.engine.get().index_stats(deref(self.table))
        return {
            "rows": stats.rows,
            "rows_indexed": stats.rows_indexed,
            "rows_scanned": stats.rows_scanned,
            "segments": stats.segments,
            "bytes": stats.bytes,
            "unreachable": stats.unreachable,
            "rebuilds": stats.rebuilds,
            "rows_building": stats.rows_building,
            "rows_per_second": stats.rows_per_second,
            "ef": stats.ef,
            "code_bits": stats.code_bits,
        }

    def row_count(self):
        cdef uint64_t rows = 0
        check(take(self.store.engine.get().row_count(deref(self.table)), &rows))
        return rows

    def stats(self):
        self.row_count()  # says so if the hub is closed or the space gone
        cdef TableStats stats = self.store.engine.get().stats(deref(self.table))
        return stats.rows, [
            (segment.id, segment.rows, segment.rows_dead, segment.bytes)
            for segment in stats.segments
        ]

    def partitions(self):
        cdef Counts counts
        cdef Status status
        with nogil:
            status = take(self.store.engine.get().partitions(deref(self.table)), &counts)
        check(status)
        return {count.first.decode(): count.second for count in counts}

    def view(self):
        cdef View view = View.__new__(View)
        check(take_view(self.store.engine.get().view(deref(self.table)), &view.view))
        view.table = self
        return view

    cdef int require_fit(self, Keys keys) except -1:
        if keys.integer != self.integer:
            raise TypeError(f"expected {self.key_type} keys")
        return 0


cdef string_view bytes_view(object name) except *:
    if not isinstance(name, bytes):
        raise TypeError("expected a name in UTF-8")
    return string_view(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name))


# --- instruction set ---

def simd():
    return kernels().name.decode()


check(select_kernels(getenv("EHUB_SIMD")))
