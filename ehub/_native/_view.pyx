# Reading: a space at one point in time, and what comes out of it. A part of _store.pyx.

@cython.final
cdef class Stop:
    def set(self):
        self.wanted.store(True)


# For as long as the caller holds it.
cdef const atomic[cbool]* wanted_of(Stop stop) noexcept:
    if stop is None:
        return NULL
    return &stop.wanted


@cython.final
cdef class View:
    @property
    def seq(self):
        return deref(self.view).seq()

    def row_count(self):
        cdef uint64_t rows = 0
        cdef Status status
        with nogil:
            status = take(deref(self.view).row_count(), &rows)
        check(status)
        return rows

    cdef int locate(self, Keys keys, vector[Ordinal]& rows) except -1:
        cdef Status status
        self.table.require_fit(keys)
        rows.resize(keys.views.size())
        with nogil:
            status = deref(self.view).locate(keys.views.data(), keys.views.size(), rows.data())
        return check(status)

    cdef int require_all(self, Keys keys, vector[Ordinal]& rows) except -1:
        cdef size_t i
        self.locate(keys, rows)
        for i in range(rows.size()):
            if rows[i] == kNoOrdinal:
                self.missing(keys, i)
        return 0

    cdef int missing(self, Keys keys, size_t position) except -1:
        raise NotFoundError(
            f"{self.place} has no key {keys.key_at(position)!r} (key {position} of {len(keys)})"
        )

    # Rows of kNoOrdinal become zeros.
    cdef object gather(self, const vector[Ordinal]& rows):
        cdef Status status
        vectors = _empty((rows.size(), self.table.dims), _float32)
        cdef float* out = <float*>data_of(vectors)
        with nogil:
            status = deref(self.view).gather(rows.data(), rows.size(), out)
        check(status)
        return vectors

    cdef object keys_of(self, const vector[Ordinal]& rows):
        cdef vector[string_view] keys
        cdef Status status
        cdef size_t i
        with nogil:
            keys.resize(rows.size())
            for i in range(rows.size()):
                status = take(deref(self.view).key(rows[i]), &keys[i])
                if not status.ok():
                    break
        check(status)
        return integer_array(keys) if self.table.integer else string_array(keys)

    def get(self, key, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef cbool found = False
        cdef Status status
        self.table.one_key(key, &integer, &encoded_key)
        values = _empty(self.table.dims, _float32)
        cdef float* out = <float*>data_of(values)
        with nogil:
            status = take(deref(self.view).get(encoded_key, out), &found)
        check(status)
        if not found:
            raise NotFoundError(f"{self.place} has no key {key!r}")
        return values

    def contains(self, key, /):
        cdef int64_t integer
        cdef string_view encoded_key
        cdef Ordinal row = kNoOrdinal
        cdef Status status
        self.table.one_key(key, &integer, &encoded_key)
        with nogil:
            status = deref(self.view).locate(&encoded_key, 1, &row)
        check(status)
        return row != kNoOrdinal

    def multiget(self, Keys keys not None):
        cdef vector[Ordinal] rows
        self.require_all(keys, rows)
        return self.gather(rows)

    def births(self, Keys keys not None):
        cdef vector[Ordinal] rows
        cdef Status status
        self.locate(keys, rows)
        born = _empty(rows.size(), _uint64)
        cdef uint64_t* out = <uint64_t*>data_of(born)
        with nogil:
            status = deref(self.view).births(rows.data(), rows.size(), out)
        check(status)
        return born

    def multiget_found(self, Keys keys not None):
        cdef vector[Ordinal] rows
        cdef size_t i
        self.locate(keys, rows)
        found = _empty(rows.size(), bool)
        cdef cbool* flags = <cbool*>data_of(found)
        for i in range(rows.size()):
            flags[i] = rows[i] != kNoOrdinal
        return self.gather(rows), found

    def scan(self, size_t batch_rows):
        return make_cursor(self, batch_rows, True)

    def scan_keys(self, size_t batch_rows):
        return make_cursor(self, batch_rows, False)

    def select(self, Keys keys not None):
        cdef Filter filter = Filter.__new__(Filter)
        cdef vector[Ordinal] rows
        self.locate(keys, rows)
        filter.view = self
        with nogil:
            filter.selection = deref(self.view).select(rows.data(), rows.size())
        return filter

    def nearest(
        self,
        const float[:, ::1] queries not None,
        size_t k,
        float distance_max,
        Filter filter=None,
        size_t ef=0,
        bint exact=False,
        Stop stop=None,
    ):
        return self.search(queries, k, distance_max, filter, ef, exact, NULL, stop)

    # One query alone, for which every microsecond of the way there counts.
    def nearest_one(
        self, query, size_t k, float distance_max, size_t ef, bint exact, Stop stop=None
    ):
        cdef Py_buffer buffer
        cdef vector[vector[Neighbor]] found
        if not as_floats(query, self.table.dims, &buffer):
            raise TypeError("expected contiguous float32[dims]")
        try:
            self.find(
                <const float*>buffer.buf, 1, k, distance_max, NULL, ef, exact, NULL, stop, found
            )
        finally:
            PyBuffer_Release(&buffer)
        return self.answer(found[0])

    def nearest_to(
        self,
        Keys keys not None,
        size_t k,
        float distance_max,
        Filter filter=None,
        size_t ef=0,
        bint exact=False,
        Stop stop=None,
    ):
        cdef vector[Ordinal] rows
        self.require_all(keys, rows)
        return self.search(
            self.gather(rows), k, distance_max, filter, ef, exact, rows.data(), stop
        )

    cdef const Selection* selection_of(self, Filter filter) except? NULL:
        if filter is None:
            return NULL
        if filter.view is not self:
            raise ValueError("a filter belongs to the view that made it")
        return &filter.selection

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
    ):
        cdef vector[vector[Neighbor]] found
        cdef const Selection* selection = self.selection_of(filter)
        cdef size_t m = queries.shape[0]
        if queries.shape[1] != self.table.dims:
            raise ValueError("expected queries of this space")
        if m != 0:
            self.find(
                &queries[0, 0], m, k, distance_max, selection, ef, exact, excluded, stop, found
            )
        return self.answers(found)

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
    ) except -1:
        cdef SearchOptions options
        cdef Status status
        options.k = k
        options.distance_max = distance_max
        options.filter = filter
        options.ef = ef
        options.exact = exact
        options.excluded = excluded
        options.stopped = wanted_of(stop)
        require_valid(queries, m, self.table.dims, deref(self.view).schema().metric)
        with nogil:
            self.table.store.engine.get().note_search(deref(self.table.table))
            status = take(deref(self.view).nearest(queries, m, options), &found)
        return check(status)

    cdef tuple answer(self, const vector[Neighbor]& found):
        cdef vector[Ordinal] rows
        cdef size_t i
        rows.reserve(found.size())
        distances = _empty(found.size(), _float32)
        cdef float* out = <float*>data_of(distances)
        for i in range(found.size()):
            rows.push_back(found[i].row)
            out[i] = found[i].distance
        return self.keys_of(rows), distances

    # Keys and distances of all answers in one piece, and where each query's begin.
    cdef object answers(self, const vector[vector[Neighbor]]& found):
        cdef vector[Ordinal] rows
        cdef size_t q, i
        cdef list begins = [0]
        for q in range(found.size()):
            for i in range(found[q].size()):
                rows.push_back(found[q][i].row)
            begins.append(rows.size())
        distances = _empty(rows.size(), _float32)
        cdef float* out = <float*>data_of(distances)
        for q in range(found.size()):
            for i in range(found[q].size()):
                out[0] = found[q][i].distance
                out += 1
        return self.keys_of(rows), distances, begins

    def graph(self):
        cdef shared_ptr[const GraphFile] graph
        with nogil:
            graph = deref(self.view).sole_graph()
        if graph.get() == NULL:
            return None
        cdef const GraphFile* file = graph.get()
        links = _empty((file.view().rows, file.view().link_stride), _uint32)
        cdef uint32_t* out = <uint32_t*>data_of(links)
        with nogil:
            memcpy(
                out,
                file.view().links,
                <size_t>file.view().rows * file.view().link_stride * sizeof(uint32_t),
            )
        return links

    # Around a vector that was made of stored ones, none of which is in the answer.
    def recommend(
        self,
        const float[:, ::1] queries not None,
        Keys examples not None,
        size_t k,
        float distance_max,
        Filter filter=None,
        size_t ef=0,
        bint exact=False,
        Stop stop=None,
    ):
        cdef vector[Ordinal] rows
        cdef vector[vector[Neighbor]] found
        cdef vector[Neighbor] kept
        cdef size_t i
        if queries.shape[0] != 1 or queries.shape[1] != self.table.dims:
            raise ValueError("expected one query of this space")
        self.require_all(examples, rows)
        sort(rows.begin(), rows.end())
        rows.erase(unique(rows.begin(), rows.end()), rows.end())
        self.find(
            &queries[0, 0],
            1,
            k + rows.size(),
            distance_max,
            self.selection_of(filter),
            ef,
            exact,
            NULL,
            stop,
            found,
        )
        for i in range(found[0].size()):
            if kept.size() < k and not binary_search(rows.begin(), rows.end(), found[0][i].row):
                kept.push_back(found[0][i])
        return self.answer(kept)

    def within(self, tuple partitions not None):
        cdef View view = View.__new__(View)
        cdef vector[uint32_t] numbers = self.table.numbers_of(partitions)
        view.table = self.table
        names = ", ".join(repr(name.decode()) for name in partitions[:_NAMES_SHOWN])
        view.place = f"partition {names} of {self.place}"
        with nogil:
            view.view = view_within(deref(self.view), numbers)
        return view

    def partitions(self):
        cdef vector[uint64_t] counts
        cdef Status status
        cdef list names = self.table.partition_names()
        cdef uint32_t count = <uint32_t>len(names)
        with nogil:
            status = take(deref(self.view).partition_counts(count), &counts)
        check(status)
        return {name: counts[i + 1] for i, name in enumerate(names) if counts[i + 1] != 0}

    def averages(
        self,
        Keys keys not None,
        const uint64_t[::1] begins not None,
        const double[::1] weights=None,
        bint normalize=False,
        bint skips_missing=False,
    ):
        cdef Groups groups
        cdef size_t count = begins.shape[0] - 1
        self.table.require_type(keys)
        if weights is not None and weights.shape[0] != len(keys):
            raise ValueError("expected a weight for each key")
        if begins[0] != 0 or begins[count] != <size_t>len(keys):
            raise ValueError("expected groups of all keys")
        groups.rows = NULL
        groups.keys = KeyList(keys.integers.data() if keys.integer else NULL, keys.views.data())
        groups.needs_all = not skips_missing
        groups.weights = &weights[0] if weights is not None and len(keys) != 0 else NULL
        groups.begins = &begins[0]
        groups.count = count
        return self.means(count, keys, &groups, normalize)

    def partition_averages(self, bint normalize=False):
        cdef list names = self.table.partition_names()
        return (names, *self.means(len(names), None, NULL, normalize))

    # Of groups of these keys or, without, of that many partitions.
    cdef tuple means(self, size_t count, Keys keys, const Groups* groups, cbool normalize):
        cdef Status status
        cdef uint64_t missing = kNoMember
        means = _empty((count, self.table.dims), _float32)
        found = _empty(count, _int64)
        states = _empty(count, _uint8)
        cdef float* out = <float*>data_of(means)
        cdef int64_t* found_out = <int64_t*>data_of(found)
        cdef MeanState* states_out = <MeanState*>data_of(states)
        with nogil:
            if groups != NULL:
                status = average_groups(
                    deref(self.view),
                    deref(groups),
                    normalize,
                    0,
                    out,
                    found_out,
                    states_out,
                    &missing,
                )
            else:
                status = average_partitions(
                    deref(self.view), <uint32_t>count, normalize, out, found_out, states_out
                )
        if missing != kNoMember:
            self.missing(keys, missing)
        check(status)
        return means, found, states

    def kmeans(self, size_t k, uint64_t seed, uint64_t sample=0):
        cdef KMeans kmeans = KMeans.__new__(KMeans)
        cdef KMeansOptions options
        cdef Status status
        options.k = k
        options.seed = seed
        options.sample = sample
        with nogil:
            status = take(CKMeans.start(self.view, options), &kmeans.engine)
        check(status)
        return kmeans


@cython.final
cdef class KMeans:
    def step(self):
        cdef uint64_t changed = 0
        cdef Status status
        with nogil:
            status = take(self.engine.get().step(), &changed)
        check(status)
        return changed

    @property
    def rows(self):
        return self.engine.get().row_count()

    @property
    def inertia(self):
        return self.engine.get().inertia()

    def centroids(self):
        cdef size_t k = self.engine.get().k()
        cdef size_t dims = self.engine.get().dims()
        centroids = _empty((k, dims), _float32)
        memcpy(data_of(centroids), self.engine.get().centroids(), k * dims * sizeof(float))
        return centroids

    def counts(self):
        cdef vector[int64_t] counts = self.engine.get().counts()
        array = _empty(counts.size(), _int64)
        memcpy(data_of(array), counts.data(), counts.size() * sizeof(int64_t))
        return array


def changed_keys(Snapshot then not None, Snapshot now not None):
    cdef View earlier = View.__new__(View)
    cdef View later = View.__new__(View)
    cdef View newest = then.table.view()
    cdef vector[Ordinal] gone
    cdef vector[Ordinal] come
    cdef Status status
    if then.table.id != now.table.id:
        raise ValueError("expected two snapshots of one version")
    earlier.table = later.table = then.table
    earlier.view = deref(then.held().view()).over(deref(newest.view).state())
    later.view = deref(now.held().view()).over(deref(newest.view).state())
    with nogil:
        status = take(deref(earlier.view).rows_not_in(deref(later.view)), &gone)
        if status.ok():
            status = take(deref(later.view).rows_not_in(deref(earlier.view)), &come)
    check(status)
    return earlier.keys_of(gone), later.keys_of(come)


cdef int require_valid(const float* queries, size_t m, size_t dims, Metric metric) except -1:
    cdef size_t row = first_invalid_row(kernels(), metric, queries, m, dims)
    if row == m:
        return 0
    query = "the query vector" if m == 1 else f"query vector {row}"
    vector = _asarray(<float[:dims]><float*>(queries + row * dims), _float64)
    norm = sqrt((vector * vector).sum())
    if not isfinite(norm):
        raise InvalidVectorError(f"{query} holds a NaN or an infinity")
    if norm == 0:
        raise InvalidVectorError(f"{query} is zero: it has no direction, which cosine compares")
    raise InvalidVectorError(
        f"{query} has the norm {norm:.3g}; under cosine it must be between 1e-19 and 1e19"
    )


cdef object integer_array(const vector[string_view]& keys):
    cdef size_t i
    array = _empty(keys.size(), _int64)
    cdef int64_t* out = <int64_t*>data_of(array)
    for i in range(keys.size()):
        memcpy(out + i, keys[i].data(), sizeof(int64_t))
    return array


cdef object string_array(const vector[string_view]& keys):
    cdef size_t i
    cdef list strings = PyList_New(<Py_ssize_t>keys.size())
    for i in range(keys.size()):
        key = PyUnicode_DecodeUTF8(keys[i].data(), <Py_ssize_t>keys[i].size(), "backslashreplace")
        Py_INCREF(key)
        PyList_SET_ITEM(strings, <Py_ssize_t>i, key)
    array = _empty(keys.size(), object)
    array[:] = strings
    return array


@cython.final
cdef class Filter:
    @property
    def row_count(self):
        return self.selection.row_count


cdef Cursor make_cursor(View view, size_t rows_max, bint with_vectors):
    cdef Cursor cursor = Cursor.__new__(Cursor)
    if rows_max == 0:
        raise ValueError("batch_rows is 0")
    cursor.view = view
    cursor.cursor.reset(new ScanCursor(view.view))
    cursor.rows_max = rows_max
    cursor.with_vectors = with_vectors
    return cursor


@cython.final
cdef class Cursor:
    def __iter__(self):
        return self

    def __next__(self):
        cdef ScanBatch batch
        cdef Status status
        self.view.table.store.require_open()
        with nogil:
            status = next_batch(self.lock, deref(self.cursor), self.rows_max, &batch)
        check(status)
        if batch.rows.empty():
            raise StopIteration
        keys = self.view.keys_of(batch.rows)
        if not self.with_vectors:
            return keys
        if batch.vectors == NULL:
            return keys, self.view.gather(batch.rows)
        return keys, array_over(batch, self.view.table.dims)


cdef object array_over(const ScanBatch& batch, Py_ssize_t dims):
    cdef Rows rows = Rows.__new__(Rows)
    rows.owner = batch.owner
    rows.vectors = batch.vectors
    rows.shape[0] = <Py_ssize_t>batch.rows.size()
    rows.shape[1] = dims
    rows.strides[0] = dims * <Py_ssize_t>sizeof(float)
    rows.strides[1] = sizeof(float)
    return _asarray(rows)


@cython.final
cdef class Rows:
    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("stored vectors are read-only")
        if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS:
            raise BufferError("stored vectors lie row by row")
        buffer.buf = <void*>self.vectors
        buffer.len = self.shape[0] * self.strides[0]
        buffer.itemsize = sizeof(float)
        buffer.readonly = 1
        buffer.format = <char*>b"f" if flags & PyBUF_FORMAT else <char*>NULL
        buffer.ndim = 2
        buffer.shape = &self.shape[0] if flags & PyBUF_ND else <Py_ssize_t*>NULL
        buffer.strides = <Py_ssize_t*>NULL
        if flags & PyBUF_STRIDES == PyBUF_STRIDES:
            buffer.strides = &self.strides[0]
        buffer.suboffsets = NULL
        buffer.internal = NULL
        buffer.obj = self
