"""The store as Python objects: a thin skin over `src/store/store.h`, with none of its own opinions.

Nothing here coerces: keys come packed (`Keys`), vectors as contiguous float32 (`ehub._arrays` is
the door for both). Every call that may wait or compute does so without the GIL; objects may be
shared by threads. The parts `_values.pyx`, `_keys.pyx`, `_view.pyx`, `_table.pyx`, `_erasure.pyx` and
`_backup.pyx` are included here, because all of them share C++ objects and those cannot cross from one native
module to another.
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
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cython.operator cimport dereference as deref
from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport getenv
from libc.string cimport memcpy, strcmp
from libcpp cimport bool as cbool
from libcpp.algorithm cimport binary_search, sort, unique
from libcpp.map cimport map as cmap
from libcpp.memory cimport shared_ptr
from libcpp.optional cimport optional
from libcpp.set cimport set as cset
from libcpp.string cimport string
from libcpp.vector cimport vector

from ehub._native._engine cimport (
    CFinding,
    CIndexStats,
    CKMeans,
    CErasure,
    CErasureReport,
    CFileRecord,
    CStoredFiles,
    Code,
    CRepairReport,
    CSnapshot,
    CStore,
    CStoredRows,
    CTable,
    CVerifyReport,
    CView,
    CWorkStats,
    CWriteStats,
    Durability,
    GivenLinks,
    GraphFile,
    Groups,
    KMeansOptions,
    KeyList,
    KeyType,
    MeanState,
    Metric,
    Neighbor,
    NoteChange,
    NoteChanges,
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
    average_groups,
    average_partitions,
    crc32c,
    find_partition,
    first_invalid_row,
    given_links,
    kernels,
    kKeyBytesMax,
    kNoMember,
    kNoOrdinal,
    next_batch,
    partition_names,
    posix_file_system,
    select_kernels,
    string_view,
    table_frozen,
    table_id,
    table_schema,
    table_space,
    table_version,
    take,
    take_snapshot,
    take_view,
    view_within,
)

from numpy import asarray as _asarray
from numpy import empty as _empty
from numpy import float32 as _float32
from numpy import float64 as _float64
from numpy import int64 as _int64
from numpy import uint8 as _uint8
from numpy import uint32 as _uint32
from numpy import uint64 as _uint64
from numpy.ma import MaskedArray as _MaskedArray

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
    NotFoundError,
    ReadOnlyError,
    StorageError,
    brief,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    bint PyIndex_Check(object number)
    bint PyLong_CheckExact(object number)
    object PySequence_Fast(object iterable, const char* message)
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence)
    PyObject** PySequence_Fast_ITEMS(object sequence)

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void* address) nogil

ctypedef PyObject* pyobject


include "_values.pyx"
include "_keys.pyx"
include "_view.pyx"
include "_table.pyx"
include "_erasure.pyx"
include "_backup.pyx"


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
        old_searches_min=None,
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
        if old_searches_min is not None:
            options.old_searches_min = old_searches_min
        if self.engine.get() != NULL:
            raise ValueError("this store is open")
        self.path = path
        with nogil:
            status = take(CStore.open(posix_file_system(), root, options), &self.engine)
        check(status)

    def __dealloc__(self):
        with nogil:
            self.engine.reset()

    # `as_space`: whose errors name the space alone, for whoever asked for that.
    cdef Table table_of(self, shared_ptr[CTable] handle, bint as_space=False):
        cdef Table table = Table.__new__(Table)
        cdef const Schema* schema = &table_schema(deref(handle))
        table.store = self
        table.table = handle
        table.id = table_id(deref(handle))
        table.space = text_of(table_space(deref(handle)))
        table.version = text_of(table_version(deref(handle)))
        table.place = f"space {table.space!r}"
        if not as_space:
            table.place = f"version {table.version!r} of {table.place}"
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

    def create_version(
        self,
        space,
        version,
        uint32_t dims,
        metric,
        key_type,
        uint32_t M=24,
        uint32_t ef_construction=100,
        uint32_t ef=0,
        float target_recall=0.95,
        notes=None,
    ):
        cdef Schema schema
        cdef string encoded_space = encoded(space)
        cdef string encoded_version = encoded(version)
        cdef NoteChanges changes = changes_of(notes)
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
            status = take(
                self.engine.get().create_version(encoded_space, encoded_version, schema, changes), &handle
            )
        check(status)
        return self.table_of(handle)

    def get_space(self, name):
        cdef string encoded_name = encoded(name)
        cdef shared_ptr[CTable] handle
        self.require_open()
        check(take(self.engine.get().space(encoded_name), &handle))
        return self.table_of(handle, as_space=True)

    def spaces(self):
        self.require_open()
        return [text_of(name) for name in self.engine.get().spaces()]

    def get_version(self, space, version, *, bint as_space=False):
        cdef string encoded_space = encoded(space)
        cdef string encoded_version = encoded(version)
        cdef shared_ptr[CTable] handle
        self.require_open()
        check(take(self.engine.get().version(encoded_space, encoded_version), &handle))
        return self.table_of(handle, as_space)

    def versions(self, space):
        cdef string encoded_space = encoded(space)
        cdef vector[shared_ptr[CTable]] handles
        cdef size_t i
        self.require_open()
        handles = self.engine.get().versions(encoded_space)
        return [self.table_of(handles[i]) for i in range(handles.size())]

    def delete_space(self, name, notes=None):
        cdef string encoded_name = encoded(name)
        cdef NoteChanges changes = changes_of(notes)
        cdef Status status
        with nogil:
            status = self.engine.get().drop_space(encoded_name, changes)
        check(status)

    def note(self, str name not None):
        self.require_open()
        cdef optional[string] text = self.engine.get().note(name.encode())
        return text_of(text.value()) if text.has_value() else None

    def notes(self, str prefix not None):
        self.require_open()
        cdef cmap[string, string] found = self.engine.get().notes(prefix.encode())
        return {text_of(one.first): text_of(one.second) for one in found}

    def set_notes(self, dict notes not None):
        cdef NoteChanges changes = changes_of(notes)
        cdef Status status
        with nogil:
            status = self.engine.get().set_notes(changes)
        check(status)

    @property
    def names_changes(self):
        return self.engine.get().names_changes()

    def sync(self):
        cdef Status status
        with nogil:
            status = self.engine.get().sync()
        check(status)

    def checkpoint(self, Stop stop=None):
        cdef Status status
        cdef const atomic[cbool]* wanted = wanted_of(stop)
        with nogil:
            status = self.engine.get().checkpoint(wanted)
        check(status)

    def refresh(self):
        cdef Status status
        with nogil:
            status = self.engine.get().refresh()
        check(status)

    def verify(self, Stop stop=None):
        cdef CVerifyReport report
        cdef Status status
        cdef const atomic[cbool]* wanted = wanted_of(stop)
        with nogil:
            status = take(self.engine.get().verify(wanted), &report)
        check(status)
        return report.files, report.bytes, report.rows, findings_of(report.findings)

    def work_stats(self):
        self.require_open()
        cdef CWorkStats stats = self.engine.get().work_stats()
        return {
            "rows_rewritten": stats.rows_rewritten,
            "bytes_checked": stats.bytes_checked,
            "build_rate": <uint64_t>stats.build_rate,
        }

    def write_stats(self):
        self.require_open()
        cdef CWriteStats stats = self.engine.get().write_stats()
        return {
            "log_writes": stats.log_writes,
            "log_bytes": stats.log_bytes,
            "log_bytes_due": stats.log_bytes_due,
            "rows_unsealed": stats.rows_unsealed,
            "snapshots": stats.snapshots,
            "syncs": (stats.syncs.counts, stats.syncs.seconds),
            "checkpoints": (stats.checkpoints.counts, stats.checkpoints.seconds),
            "is_poisoned": stats.is_poisoned,
        }

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


# --- checksums ---

def checksum(const float[:, ::1] vectors not None, uint32_t crc=0):
    cdef size_t size = vectors.shape[0] * vectors.shape[1] * sizeof(float)
    if size != 0:
        with nogil:
            crc = crc32c(crc, &vectors[0, 0], size)
    return crc


# --- instruction set ---

def simd():
    return kernels().name.decode()


check(select_kernels(getenv("EHUB_SIMD")))
