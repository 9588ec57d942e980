# The files of a hub, for a backup. A part of _store.pyx.

def stored_files(Store store not None):
    cdef CStoredFiles stored
    cdef Status status
    store.require_open()
    with nogil:
        status = take(store.engine.get().files(), &stored)
    check(status)
    files = [
        (
            os.fsdecode(file.path),
            file.bytes,
            file.row_bytes,
            file.segment,
            file.stamp.decode(),
            file.derived,
        )
        for file in stored.files
    ]
    return stored.manifest, stored.seq, stored.hash_seed, <bytes>stored.current, files


def damage_of(Store store not None, segments):
    cdef cset[uint64_t] wanted = segments
    cdef vector[CFinding] findings
    cdef Status status
    store.require_open()
    with nogil:
        status = take(store.engine.get().damage_of(wanted), &findings)
    check(status)
    return findings_of(findings)
