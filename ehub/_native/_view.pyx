# Reading: a space at one point in time, and what comes out of it. A part of _store.pyx.

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
                raise NotFoundError(
                    f"space {self.table.space!r} has no key {keys.key_at(i)!r} "
                    f"(key {i} of {rows.size()})"
                )
        return 0

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

    def multiget(self, Keys keys not None):
        cdef vector[Ordinal] rows
        self.require_all(keys, rows)
        return self.gather(rows)

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
    ):
        return self.search(queries, k, distance_max, filter, ef, exact, NULL)

    # One query alone, for which every microsecond of the way there counts.
    def nearest_one(self, query, size_t k, float distance_max, size_t ef, bint exact):
        cdef Py_buffer buffer
        cdef vector[vector[Neighbor]] found
        if not as_floats(query, self.table.dims, &buffer):
            raise TypeError("expected contiguous float32[dims]")
        try:
            self.find(<const float*>buffer.buf, 1, k, distance_max, NULL, ef, exact, NULL, found)
        finally:
            PyBuffer_Release(&buffer)
        keys, distances, _ = self.answers(found)
        return keys, distances

    def nearest_to(
        self,
        Keys keys not None,
        size_t k,
        float distance_max,
        Filter filter=None,
        size_t ef=0,
        bint exact=False,
    ):
        cdef vector[Ordinal] rows
        self.require_all(keys, rows)
        return self.search(self.gather(rows), k, distance_max, filter, ef, exact, rows.data())

    cdef object search(
        self,
        const float[:, ::1] queries,
        size_t k,
        float distance_max,
        Filter filter,
        size_t ef,
        bint exact,
        const Ordinal* excluded,
    ):
        cdef vector[vector[Neighbor]] found
        cdef const Selection* selection = NULL
        cdef size_t m = queries.shape[0]
        if queries.shape[1] != self.table.dims:
            raise ValueError("expected queries of this space")
        if filter is not None:
            if filter.view is not self:
                raise ValueError("a filter belongs to the view that made it")
            selection = &filter.selection
        if m != 0:
            self.find(&queries[0, 0], m, k, distance_max, selection, ef, exact, excluded, found)
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
        require_valid(queries, m, self.table.dims, deref(self.view).schema().metric)
        with nogil:
            self.table.store.engine.get().note_search(deref(self.table.table))
            status = take(deref(self.view).nearest(queries, m, options), &found)
        return check(status)

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

    def weighted_sum(self, Keys keys not None, const double[::1] weights=None):
        cdef vector[Ordinal] rows
        cdef Status status
        cdef const double* factors = NULL
        if weights is not None:
            if weights.shape[0] != len(keys):
                raise ValueError("expected a weight for each key")
            factors = &weights[0] if len(keys) else NULL
        self.require_all(keys, rows)
        sums = _empty(self.table.dims, _float64)
        cdef double* out = <double*>data_of(sums)
        with nogil:
            status = deref(self.view).weighted_sum(rows.data(), factors, rows.size(), out)
        check(status)
        return sums


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
