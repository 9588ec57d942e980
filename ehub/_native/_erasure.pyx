# Erasing: what is stored of keys, and its removal. A part of _store.pyx.

def stored_rows(Table table not None, Keys keys not None):
    cdef CStoredRows stored
    cdef Status status
    table.require_fit(keys)
    with nogil:
        status = take(
            table.store.engine.get().stored_rows(deref(table.table), keys.views), &stored
        )
    check(status)
    return stored_tuple(stored)


def missing_keys(Store store not None, list tables not None, Keys keys not None):
    cdef vector[shared_ptr[CTable]] handles
    cdef uint64_t missing = 0
    cdef Status status
    cdef Table table
    store.require_open()
    keys.view_all()
    for table in tables:
        if table.store is not store:
            raise ValueError("expected versions of this hub")
        table.require_fit(keys)
        handles.push_back(table.table)
    with nogil:
        status = take(store.engine.get().missing_keys(handles, keys.views), &missing)
    check(status)
    return missing


def stored_keys(Table table not None):
    cdef vector[string] keys
    cdef Status status
    cdef string_view view
    with nogil:
        status = take(table.store.engine.get().stored_keys(deref(table.table)), &keys)
    check(status)
    found = []
    for i in range(keys.size()):
        view = string_view(keys[i].data(), keys[i].size())
        found.append(key_object(view, table.integer))
    return found


def held_manifests(Store store not None):
    cdef vector[string] held
    cdef Status status
    store.require_open()
    with nogil:
        status = take(store.engine.get().held_manifests(), &held)
    check(status)
    return [os.fsdecode(path) for path in held]


def erase(Store store not None, list parts not None, notes=None):
    cdef NoteChanges changes = changes_of(notes)
    cdef vector[CErasure] erasures
    cdef CErasureReport report
    cdef Status status
    cdef Table table
    cdef Keys keys
    store.require_open()
    erasures.resize(len(parts))
    for i, (table, keys, drops_dead) in enumerate(parts):
        if table.store is not store:
            raise ValueError("expected versions of this hub")
        table.require_fit(keys)
        erasures[i].table = table.table
        erasures[i].keys = keys.views
        erasures[i].drops_dead = drops_dead
    with nogil:
        status = take(store.engine.get().erase(erasures, changes), &report)
    check(status)
    return report_tuple(report)


def finish_erasure(Store store not None):
    cdef CErasureReport report
    cdef Status status
    store.require_open()
    with nogil:
        status = take(store.engine.get().finish_erasure(), &report)
    check(status)
    return report_tuple(report)


cdef tuple stored_tuple(CStoredRows& stored):
    tags = [tag.decode() for tag in stored.tags]
    return stored.rows, stored.rows_live, tags, stored.snapshots, list(stored.segments)


cdef tuple report_tuple(CErasureReport& report):
    return (
        [stored_tuple(report.parts[i]) for i in range(report.parts.size())],
        records_of(report.written),
        records_of(report.removed),
        [os.fsdecode(path) for path in report.held],
        report.done,
    )


cdef list records_of(vector[CFileRecord]& records):
    return [(os.fsdecode(record.path), record.bytes, record.crc) for record in records]
