# A version: writes, and its points in time. A part of _store.pyx.

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
            raise NotFoundError(f"{self.place} has no key {key!r}")
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
        notes=None,
        Keys gone=None,
        bint derived=False,
        Stop stop=None,
    ):
        cdef WriteBatch batch
        self.require_fit(keys)
        if vectors.shape[0] != len(keys) or vectors.shape[1] != self.dims:
            raise ValueError("expected a vector of this space for each key")
        if row_partitions is not None and row_partitions.shape[0] != len(keys):
            raise ValueError("expected a partition for each key")
        self.store.require_open()
        if len(keys) == 0 and not notes and gone is None:
            return
        for name in partitions:
            batch.partition_names.push_back(bytes_view(name))
        if row_partitions is not None:
            batch.row_partitions = &row_partitions[0] if len(keys) else NULL
        batch.vectors = &vectors[0, 0] if len(keys) else NULL
        batch.notes = changes_of(notes)
        batch.is_derived = derived
        batch.stop = wanted_of(stop)
        batch.keys.swap(keys.views)
        try:
            if gone is None:
                self.write(batch)
            else:
                self.replace(batch, gone)
        finally:
            batch.keys.swap(keys.views)

    cdef int replace(self, WriteBatch& batch, Keys gone) except -1:
        cdef WriteResult result
        cdef Status status
        self.require_fit(gone)
        batch.table = self.table
        with nogil:
            status = take(self.store.engine.get().replace(batch, gone.views), &result)
        check(status)
        return 0

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
            raise NotFoundError(f"{self.place} has no key {key!r}")

    def multidelete(self, Keys keys not None, notes=None, *, bint derived=False):
        cdef WriteBatch batch
        self.require_fit(keys)
        self.store.require_open()
        if len(keys) == 0 and not notes:
            return 0
        batch.notes = changes_of(notes)
        batch.is_derived = derived
        batch.kind = WriteKind.kDelete
        batch.keys.swap(keys.views)
        try:
            return self.write(batch)
        finally:
            batch.keys.swap(keys.views)

    def delete_all(self, notes=None):
        cdef WriteBatch batch
        batch.notes = changes_of(notes)
        batch.kind = WriteKind.kDeleteAll
        return self.write(batch)

    def multidelete_within(self, Keys keys not None, tuple partitions not None, notes=None):
        cdef WriteBatch batch
        self.require_fit(keys)
        self.numbers_of(partitions)  # says so if there is none of that name, or the hub is closed
        if len(keys) == 0 and not notes:
            return 0
        batch.notes = changes_of(notes)
        batch.kind = WriteKind.kDelete
        batch.keys.swap(keys.views)
        try:
            return self.delete_in(batch, partitions)
        finally:
            batch.keys.swap(keys.views)

    def delete_all_within(self, tuple partitions not None, notes=None):
        cdef WriteBatch batch
        batch.notes = changes_of(notes)
        batch.kind = WriteKind.kDeleteAll
        return self.delete_in(batch, partitions)

    cdef uint64_t delete_in(self, WriteBatch& batch, tuple partitions) except? 0xFFFFFFFFFFFFFFFF:
        cdef WriteResult result
        cdef Status status
        cdef vector[uint32_t] numbers = self.numbers_of(partitions)
        batch.table = self.table
        with nogil:
            status = take(self.store.engine.get().delete_within(batch, numbers), &result)
        check(status)
        return result.rows_deleted

    cdef vector[uint32_t] numbers_of(self, tuple partitions) except *:
        cdef vector[uint32_t] numbers
        self.store.require_open()
        for name in partitions:
            numbers.push_back(find_partition(deref(self.table), bytes_view(name)))
            if numbers.back() == 0:
                raise NotFoundError(
                    f"space {self.space!r} has no partition {name.decode()!r}; "
                    f"it has {listed(self.partition_names())}"
                )
        return numbers

    def partition_names(self):
        return [text_of(name) for name in partition_names(deref(self.table))]

    def compact(self, Stop stop=None):
        cdef Status status
        cdef const atomic[cbool]* wanted = wanted_of(stop)
        with nogil:
            status = self.store.engine.get().compact(deref(self.table), wanted)
        check(status)

    def wait_indexed(self, Stop stop=None):
        cdef Status status
        cdef const atomic[cbool]* wanted = wanted_of(stop)
        with nogil:
            status = self.store.engine.get().wait_indexed(deref(self.table), wanted)
        check(status)

    def optimize(self, Stop stop=None):
        cdef Status status
        cdef const atomic[cbool]* wanted = wanted_of(stop)
        with nogil:
            status = self.store.engine.get().optimize(deref(self.table), wanted)
        check(status)

    def index_stats(self):
        self.row_count()  # says so if the hub is closed or the space gone
        cdef CIndexStats stats = self.store.engine.get().index_stats(deref(self.table))
        return {
            "rows": stats.rows,
            "rows_indexed": stats.rows_indexed,
            "rows_scanned": stats.rows_scanned,
            "rows_waiting": stats.rows_waiting,
            "segments": stats.segments,
            "bytes": stats.bytes,
            "subsets": stats.subsets,
            "unreachable": stats.unreachable,
            "rebuilds": stats.rebuilds,
            "rows_building": stats.rows_building,
            "rows_per_second": stats.rows_per_second,
            "rows_built": stats.rows_built,
            "rows_due": stats.rows_due,
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

    # --- points in time ---

    @property
    def frozen(self):
        self.store.require_open()
        return table_frozen(deref(self.table))

    def freeze(self, notes=None):
        cdef NoteChanges changes = changes_of(notes)
        cdef Status status
        with nogil:
            status = self.store.engine.get().freeze(deref(self.table), changes)
        check(status)

    def drop(self, notes=None):
        cdef NoteChanges changes = changes_of(notes)
        cdef Status status
        with nogil:
            status = self.store.engine.get().drop_version(deref(self.table), changes)
        check(status)

    def snapshot(self, str place=None):
        cdef Snapshot snapshot = Snapshot.__new__(Snapshot)
        check(take_snapshot(self.store.engine.get().snapshot(deref(self.table)), &snapshot.snapshot))
        snapshot.table = self
        snapshot.place = self.place if place is None else place
        return snapshot

    def at(self, tag):
        cdef string encoded_tag = encoded(tag)
        cdef Snapshot snapshot = Snapshot.__new__(Snapshot)
        check(
            take_snapshot(
                self.store.engine.get().at(deref(self.table), encoded_tag), &snapshot.snapshot
            )
        )
        snapshot.table = self
        snapshot.place = f"tag {tag!r} of {self.place}"
        return snapshot

    def tags(self):
        self.row_count()  # says so if the hub is closed or the version gone
        cdef cmap[string, uint64_t] tags = self.store.engine.get().tags(deref(self.table))
        return {text_of(tag.first): tag.second for tag in tags}

    def set_tag(self, tag, Snapshot snapshot=None, notes=None):
        cdef string encoded_tag = encoded(tag)
        cdef NoteChanges changes = changes_of(notes)
        cdef shared_ptr[const CSnapshot] held
        cdef Status status
        if snapshot is not None:
            held = self.mine(snapshot)
        with nogil:
            status = self.store.engine.get().set_tag(
                deref(self.table), encoded_tag, held.get(), changes
            )
        check(status)

    def remove_tag(self, tag, notes=None):
        cdef string encoded_tag = encoded(tag)
        cdef NoteChanges changes = changes_of(notes)
        cdef Status status
        with nogil:
            status = self.store.engine.get().remove_tag(deref(self.table), encoded_tag, changes)
        check(status)

    def restore(self, Snapshot snapshot not None, notes=None):
        cdef NoteChanges changes = changes_of(notes)
        cdef shared_ptr[const CSnapshot] held = self.mine(snapshot)
        cdef Status status
        with nogil:
            status = self.store.engine.get().restore(deref(self.table), deref(held), changes)
        check(status)

    def fork(self, Snapshot snapshot not None, version, notes=None):
        cdef string encoded_version = encoded(version)
        cdef NoteChanges changes = changes_of(notes)
        cdef shared_ptr[const CSnapshot] held = self.mine(snapshot)
        cdef shared_ptr[CTable] handle
        cdef Status status
        with nogil:
            status = take(
                self.store.engine.get().fork(deref(held), encoded_version, changes), &handle
            )
        check(status)
        return self.store.table_of(handle)

    # A share of its own, for another thread may close the snapshot meanwhile.
    cdef shared_ptr[const CSnapshot] mine(self, Snapshot snapshot) except *:
        snapshot.held()
        if snapshot.table.table.get() != self.table.get():
            raise ValueError("expected a snapshot of this version of this hub")
        return snapshot.snapshot

    def view(self, str place=None):
        cdef View view = View.__new__(View)
        check(take_view(self.store.engine.get().view(deref(self.table)), &view.view))
        view.table = self
        view.place = self.place if place is None else place
        return view

    def subindex(self, Table keys not None):
        cdef SubIndex subindex = SubIndex.__new__(SubIndex)
        if keys.store is not self.store or keys.key_type != self.key_type:
            raise ValueError("expected a table of this hub with keys of the same type")
        check(
            take(
                self.store.engine.get().subindex(deref(self.table), deref(keys.table)),
                &subindex.subindex,
            )
        )
        subindex.table = self
        return subindex

    # Keys that fit have views.
    cdef int require_fit(self, Keys keys) except -1:
        self.require_type(keys)
        return keys.view_all()

    cdef int require_type(self, Keys keys) except -1:
        if keys.integer != self.integer:
            raise TypeError(f"expected {self.key_type} keys")
        return 0


# The rows of a table that have the keys of another.
@cython.final
cdef class SubIndex:
    def view(self, str place not None):
        cdef View view = View.__new__(View)
        cdef Table table = self.table
        cdef Status status
        with nogil:
            status = take_view(
                table.store.engine.get().view_of(deref(table.table), deref(self.subindex)),
                &view.view,
            )
        check(status)
        view.table = table
        view.place = place
        return view


# Several versions in one batch.
def multiset_all(list parts not None, notes=None, list bounds=None):
    cdef vector[WriteBatch] batches
    cdef Table table
    cdef Keys keys
    cdef const float[:, ::1] vectors
    cdef const uint32_t[::1] labels
    cdef Status status
    cdef size_t i
    cdef Store store = None
    batches.resize(len(parts))
    taken = []
    for i, (table, keys, vectors, partitions, row_partitions) in enumerate(parts):
        table.require_fit(keys)
        if vectors.shape[0] != len(keys) or vectors.shape[1] != table.dims:
            raise ValueError("expected a vector of its version for each key")
        if store is not None and store is not table.store:
            raise ValueError("expected versions of one hub")
        store = table.store
        for name in partitions:
            batches[i].partition_names.push_back(bytes_view(name))
        if row_partitions is not None:
            labels = row_partitions
            if labels.shape[0] != len(keys):
                raise ValueError("expected a partition for each key")
            batches[i].row_partitions = &labels[0] if len(keys) else NULL
        batches[i].table = table.table
        batches[i].vectors = &vectors[0, 0] if len(keys) else NULL
        batches[i].keys = keys.views
        if bounds is not None and bounds[i] is not None:
            batches[i].is_bound = True
            for name in bounds[i]:
                batches[i].bounds.push_back(find_partition(deref(table.table), bytes_view(name)))
        taken.append((keys, vectors, row_partitions))
    if store is None:
        return
    batches[0].notes = changes_of(notes)
    store.require_open()
    with nogil:
        status = store.engine.get().write_all(batches)
    check(status)


# --- a point in time ---

@cython.final
cdef class Snapshot:
    cdef const CSnapshot* held(self) except NULL:
        if self.snapshot.get() == NULL:
            raise ClosedError(f"the snapshot of space {self.table.space!r} is closed")
        return self.snapshot.get()

    def view(self):
        cdef View view = View.__new__(View)
        self.table.store.require_open()
        view.view = self.held().view()
        view.table = self.table
        view.place = self.place
        return view

    def close(self):
        self.snapshot.reset()

    @property
    def closed(self):
        return self.snapshot.get() == NULL


cdef NoteChanges changes_of(dict notes) except *:
    cdef NoteChanges changes
    cdef NoteChange change
    for name, text in ({} if notes is None else notes).items():
        change.name = name.encode()
        if text is None:
            change.text.reset()
        else:
            change.text = <string>text.encode()
        changes.push_back(change)
    return changes


cdef string_view bytes_view(object name) except *:
    if not isinstance(name, bytes):
        raise TypeError("expected a name in UTF-8")
    return string_view(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name))


cdef str listed(list names):
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) or "none"
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown
