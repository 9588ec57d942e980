# What the classes of _store are made of; _store.pyi says what they do.

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.atomic cimport atomic
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.vector cimport vector

from ehub._native._engine cimport (
    CKMeans,
    CSnapshot,
    CStore,
    CSubIndex,
    CTable,
    CView,
    Groups,
    Neighbor,
    Ordinal,
    Pin,
    ScanCursor,
    Selection,
    WriteBatch,
    monotonic_buffer_resource,
    mutex,
    string_view,
)


# A hub. Every object below keeps its store alive, and the last one to go closes it.
cdef class Store:
    cdef object __weakref__
    cdef unique_ptr[CStore] engine
    cdef readonly str path

    cdef Table table_of(self, shared_ptr[CTable] handle, bint as_space=*)
    cdef int require_open(self) except -1


# The space's handle: writes, and the one read that is worth a shortcut.
cdef class Table:
    cdef readonly Store store
    cdef readonly str space
    cdef readonly str version
    cdef readonly uint64_t id
    cdef readonly Py_ssize_t dims
    cdef readonly str metric
    cdef readonly str key_type
    cdef readonly unsigned int M
    cdef readonly unsigned int ef_construction
    cdef shared_ptr[CTable] table
    cdef readonly str place  # for messages
    cdef cbool integer

    cdef int one_key(self, object key, int64_t* storage, string_view* out) except -1
    cdef uint64_t write(self, WriteBatch& batch) except? 0xFFFFFFFFFFFFFFFF
    cdef int replace(self, WriteBatch& batch, Keys gone) except -1
    cdef uint64_t delete_in(self, WriteBatch& batch, tuple partitions) except? 0xFFFFFFFFFFFFFFFF
    cdef vector[uint32_t] numbers_of(self, tuple partitions) except *
    cdef int require_fit(self, Keys keys) except -1
    cdef int require_type(self, Keys keys) except -1
    cdef shared_ptr[const CSnapshot] mine(self, Snapshot snapshot) except *


# The rows of a table that have the keys of another.
cdef class SubIndex:
    cdef Table table
    cdef shared_ptr[CSubIndex] subindex


# A point in time that is held.
cdef class Snapshot:
    cdef Table table
    cdef str place  # for messages
    cdef shared_ptr[const CSnapshot] snapshot

    cdef const CSnapshot* held(self) except NULL


# What ends a search that nobody waits for any more; any thread may set it.
cdef class Stop:
    cdef atomic[cbool] wanted


# The keys of one call, as the engine reads them. Their bytes are in `integers` or `utf8`.
cdef class Keys:
    cdef vector[string_view] views  # of integers, once view_all() was called
    cdef vector[int64_t] integers
    cdef monotonic_buffer_resource utf8
    cdef cbool integer

    cdef int view_all(self) except -1
    cdef int pack(self, PyObject** objects, Py_ssize_t n, str key_type, str space) except -1
    cdef int pack_str(self, PyObject** objects, Py_ssize_t n, str space) except -1
    cdef int pack_int(self, PyObject** objects, Py_ssize_t n, str space) except -1
    cdef string_view copied(self, const void* text, size_t size) except *
    cdef object key_at(self, Py_ssize_t position)


# A point in time of a space, with all reads.
cdef class View:
    cdef Table table
    cdef shared_ptr[const CView] view
    cdef str place  # for messages

    cdef int locate(self, Keys keys, vector[Ordinal]& rows) except -1
    cdef int require_all(self, Keys keys, vector[Ordinal]& rows) except -1
    cdef int missing(self, Keys keys, size_t position) except -1
    cdef object gather(self, const vector[Ordinal]& rows)
    cdef object keys_of(self, const vector[Ordinal]& rows)
    cdef object search(
        self,
        const float[:, ::1] queries,
        size_t k,
        float distance_max,
        Filter filter,
        size_t ef,
        bint exact,
        const Ordinal* excluded,
        Stop stop,
    )
    cdef int find(
        self,
        const float* queries,
        size_t m,
        size_t k,
        float distance_max,
        const Selection* filter,
        size_t ef,
        bint exact,
        const Ordinal* excluded,
        Stop stop,
        vector[vector[Neighbor]]& found,
    ) except -1
    cdef tuple answer(self, const vector[Neighbor]& found)
    cdef object answers(self, const vector[vector[Neighbor]]& found)
    cdef const Selection* selection_of(self, Filter filter) except? NULL
    cdef tuple means(self, size_t count, Keys keys, const Groups* groups, cbool normalize)


# A k-means that is being computed.
cdef class KMeans:
    cdef unique_ptr[CKMeans] engine


# A set of rows of one view.
cdef class Filter:
    cdef View view
    cdef Selection selection


# Visible rows in storage order. Several threads may take from one cursor: each batch goes to one of
# them.
cdef class Cursor:
    cdef View view
    cdef unique_ptr[ScanCursor] cursor
    cdef mutex lock
    cdef size_t rows_max
    cdef cbool with_vectors


# Vectors where they lie in the store. Every array or slice made of it keeps the file mapped, the
# hub's end notwithstanding.
cdef class Rows:
    cdef Pin owner
    cdef const float* vectors
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]
