# Keys and vectors on their way in: packed for the engine, with errors that name the culprit. A part
# of _store.pyx.

cdef object which(Py_ssize_t position):
    return "the key" if position < 0 else f"key {position}"


cdef int wrong_type(object key, Py_ssize_t position, str space, str expected) except -1:
    raise InvalidKeyError(
        f"{which(position)} is {key!r:.100} ({type(key).__name__}); "
        f"space {space!r} has {expected} keys"
    )


cdef int unencodable(object key, Py_ssize_t position) except -1:
    PyErr_Clear()
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidKeyError(
            f"{which(position)} ({key!r:.100}) has a lone surrogate at its position {error.start}: "
            "it is no UTF-8"
        ) from None
    raise MemoryError


cdef int wrong_size(Py_ssize_t size, Py_ssize_t position) except -1:
    if size == 0:
        raise InvalidKeyError(f"{which(position)} is empty")
    raise InvalidKeyError(f"{which(position)} has {size} bytes; a key has at most {kKeyBytesMax}")


cdef inline int utf8_of(object key, Py_ssize_t position, str space, string_view* out) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* data
    if not isinstance(key, str):
        return wrong_type(key, position, space, "str")
    data = PyUnicode_AsUTF8AndSize(key, &size)
    if data == NULL:
        return unencodable(key, position)
    if not 0 < size <= <Py_ssize_t>kKeyBytesMax:
        return wrong_size(size, position)
    out[0] = string_view(data, <size_t>size)
    return 0


cdef inline int int64_of(object key, Py_ssize_t position, str space, int64_t* out) except -1:
    cdef int overflow = 0
    if not isinstance(key, int):
        if not PyIndex_Check(key):
            return wrong_type(key, position, space, "int")
        try:
            key = key.__index__()
        except TypeError:
            return wrong_type(key, position, space, "int")
    elif isinstance(key, bool):
        return wrong_type(key, position, space, "int")
    out[0] = PyLong_AsLongLongAndOverflow(key, &overflow)
    if overflow != 0:
        raise InvalidKeyError(
            f"{which(position)} is {key!r:.100}; an int key has at most 64 bits, sign included"
        )
    return 0


cdef inline string_view int64_bytes(const int64_t* integer) noexcept nogil:
    return string_view(<const char*>integer, sizeof(int64_t))


@cython.final
cdef class Keys:
    def __len__(self):
        return <Py_ssize_t>self.views.size()

    @staticmethod
    def of_objects(keys, str key_type not None, str space not None):
        cdef Keys packed = Keys.__new__(Keys)
        # A copy: its strings stay while the GIL is released, whatever becomes of a list.
        cdef tuple objects = tuple(keys)
        cdef Py_ssize_t i
        packed.owner = objects
        packed.integer = key_type == "int"
        packed.views.resize(<size_t>len(objects))
        if not packed.integer:
            for i in range(len(objects)):
                utf8_of(objects[i], i, space, &packed.views[i])
            return packed
        packed.integers.resize(<size_t>len(objects))
        for i in range(len(objects)):
            int64_of(objects[i], i, space, &packed.integers[i])
            packed.views[i] = int64_bytes(&packed.integers[i])
        return packed

    @staticmethod
    def of_integers(const int64_t[::1] keys not None):
        # A copy: the engine reads a key several times, and another thread may change the array.
        cdef Keys packed = Keys.__new__(Keys)
        cdef Py_ssize_t i
        packed.integer = True
        packed.views.resize(<size_t>keys.shape[0])
        packed.integers.resize(<size_t>keys.shape[0])
        for i in range(keys.shape[0]):
            packed.integers[i] = keys[i]
            packed.views[i] = int64_bytes(&packed.integers[i])
        return packed

    @staticmethod
    def of_utf8(const int64_t[::1] offsets not None, const uint8_t[::1] data not None):
        # A copy, as of integers; and each offset is read once.
        cdef Keys packed = Keys.__new__(Keys)
        cdef Py_ssize_t i, end, size
        cdef Py_ssize_t begin = offsets[0]
        cdef const char* copied
        packed.views.resize(<size_t>(offsets.shape[0] - 1))
        for i in range(offsets.shape[0] - 1):
            end = offsets[i + 1]
            size = end - begin
            if not 0 < size <= <Py_ssize_t>kKeyBytesMax:
                wrong_size(size, i)
            if begin < 0 or end > data.shape[0]:
                raise InvalidKeyError(f"key {i} lies outside its buffer")
            packed.utf8.insert(packed.utf8.end(), &data[begin], &data[begin] + size)
            packed.views[i] = string_view(NULL, <size_t>size)
            begin = end
        copied = <const char*>packed.utf8.data()
        for i in range(<Py_ssize_t>packed.views.size()):
            packed.views[i] = string_view(copied, packed.views[i].size())
            copied += packed.views[i].size()
        return packed

    cdef object key_at(self, Py_ssize_t position):
        return key_object(self.views[position], self.integer)


cdef object key_object(string_view key, cbool integer):
    cdef int64_t value = 0
    if not integer:
        return PyUnicode_DecodeUTF8(key.data(), <Py_ssize_t>key.size(), "backslashreplace")
    memcpy(&value, key.data(), sizeof(value))
    return value


# --- memory ---

# The address of a new array's elements. It stays: nobody else has the array yet.
cdef void* data_of(object array) except? NULL:
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_WRITABLE)
    cdef void* data = buffer.buf
    PyBuffer_Release(&buffer)
    return data


# Fills `buffer`, and is true, if `values` is contiguous float32[dims]; else there is nothing to
# release.
cdef bint as_floats(object values, Py_ssize_t dims, Py_buffer* buffer) except -1:
    if not PyObject_CheckBuffer(values):
        return False
    try:
        PyObject_GetBuffer(values, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (BufferError, ValueError):
        return False
    if (
        buffer.ndim == 1
        and buffer.shape[0] == dims
        and buffer.format != NULL
        and strcmp(buffer.format, "f") == 0
    ):
        return True
    PyBuffer_Release(buffer)
    return False


def read_pairs(pairs, Py_ssize_t first, float[:, ::1] vectors not None, as_vector):
    cdef Py_ssize_t row = 0
    cdef Py_buffer buffer
    cdef list keys = []
    for pair in pairs:
        try:
            key, values = pair
        except (TypeError, ValueError):
            raise InvalidArgumentError(
                f"row {first + row} of the stream is {pair!r:.100}; "
                "expected a pair of key and vector"
            ) from None
        # The buffer of a masked array does not say what is masked.
        if isinstance(values, _MaskedArray) or not as_floats(values, vectors.shape[1], &buffer):
            values = as_vector(values, first + row)
            PyObject_GetBuffer(values, &buffer, PyBUF_C_CONTIGUOUS)
        memcpy(&vectors[row, 0], buffer.buf, <size_t>vectors.shape[1] * sizeof(float))
        PyBuffer_Release(&buffer)
        keys.append(key)
        row += 1
        if row == vectors.shape[0]:
            break
    return keys
