# Keys and vectors on their way in: packed for the engine, with errors that name the culprit. A part
# of _store.pyx.

cdef extern from *:
    """
    #include <cstring>
    #include <memory_resource>
    #include <mutex>
    #include <string_view>

    #include "base/limits.h"
    #include "store/threads.h"

    // The text of a str that is ASCII, in place; nothing of other objects, nor of what is no key. It reads the object
    // and asks nothing of the interpreter: while one thread has the GIL and waits, others may call it.
    inline std::string_view ascii_of(PyObject* key) {
      if (!PyUnicode_Check(key) || !PyUnicode_IS_COMPACT_ASCII(key)) return {};
      const auto size = static_cast<size_t>(PyUnicode_GET_LENGTH(key));
      if (size > ehub::kKeyBytesMax) return {};
      return {reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(key)), size};
    }

    // Copies such texts, on as many threads as they are worth, and has views of the copies; empty ones of other keys.
    inline ehub::Status copy_ascii(PyObject* const* keys, size_t n, std::pmr::memory_resource& memory,
                                   std::string_view* out) {
      constexpr size_t kKeysPerThread = 32'768;
      constexpr size_t kKeysAtATime = 2048;
      constexpr size_t kKeysAhead = 16;  // objects lie anywhere: so many are asked for ahead
      std::mutex mutex;
      return ehub::run_ranges(n, kKeysAtATime, ehub::threads_worth(n, kKeysPerThread),
                              [&](size_t begin, size_t end, unsigned) -> ehub::Status {
        size_t bytes = 0;
        for (size_t i = begin; i < end; ++i) {
          if (i + kKeysAhead < end) {
            __builtin_prefetch(keys[i + kKeysAhead]);
            __builtin_prefetch(reinterpret_cast<const char*>(keys[i + kKeysAhead]) + 63);  // the text of a short str
          }
          out[i] = ascii_of(keys[i]);
          bytes += out[i].size();
        }
        char* copy = nullptr;
        {
          const std::lock_guard lock(mutex);
          copy = static_cast<char*>(memory.allocate(bytes, 1));
        }
        for (size_t i = begin; i < end; ++i) {
          if (out[i].empty()) continue;
          std::memcpy(copy, out[i].data(), out[i].size());
          out[i] = {copy, out[i].size()};
          copy += out[i].size();
        }
        return {};
      });
    }
    """
    Status copy_ascii(
        PyObject** keys, size_t n, monotonic_buffer_resource& memory, string_view* out
    ) except +


cdef object which(Py_ssize_t position):
    return "the key" if position < 0 else f"key {position}"


cdef int wrong_type(object key, Py_ssize_t position, str space, str expected) except -1:
    raise InvalidKeyError(
        f"{which(position)} is {brief(key)} ({type(key).__name__}); "
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
            f"{which(position)} is {brief(key)}; an int key has at most 64 bits, sign included"
        )
    return 0


cdef inline string_view int64_bytes(const int64_t* integer) noexcept nogil:
    return string_view(<const char*>integer, sizeof(int64_t))


# Objects lie anywhere in memory: so many ahead are asked for.
cdef enum: kObjectsAhead = 16


# References of its own to some objects.
cdef tuple held(PyObject** objects, Py_ssize_t n):
    cdef tuple holder = PyTuple_New(n)
    cdef Py_ssize_t i
    for i in range(n):
        Py_INCREF(<object>objects[i])
        PyTuple_SET_ITEM(holder, i, <object>objects[i])
    return holder


@cython.final
cdef class Keys:
    def __len__(self):
        return <Py_ssize_t>(self.integers.size() if self.integer else self.views.size())

    # Integers are many as often as not, and averages do without views of them.
    cdef int view_all(self) except -1:
        cdef size_t i
        if self.integer and self.views.size() != self.integers.size():
            self.views.resize(self.integers.size())
            for i in range(self.integers.size()):
                self.views[i] = int64_bytes(&self.integers[i])
        return 0

    @staticmethod
    def of_objects(keys, str key_type not None, str space not None):
        cdef Keys packed = Keys.__new__(Keys)
        objects = PySequence_Fast(keys, "expected keys")
        packed.pack(
            PySequence_Fast_ITEMS(objects), PySequence_Fast_GET_SIZE(objects), key_type, space
        )
        return packed

    @staticmethod
    def of_groups(list groups not None, str key_type not None, str space not None):
        cdef Keys packed = Keys.__new__(Keys)
        cdef vector[pyobject] objects
        cdef Py_ssize_t i, members = 0
        begins = _empty(len(groups) + 1, _uint64)
        cdef uint64_t* begin = <uint64_t*>data_of(begins)
        begin[0] = 0
        for group in groups:
            if not isinstance(group, (list, tuple)):
                raise TypeError("expected groups that are lists or tuples")
            members += PySequence_Fast_GET_SIZE(group)
        objects.reserve(<size_t>members)
        for i in range(len(groups)):
            group = groups[i]
            objects.insert(
                objects.end(),
                PySequence_Fast_ITEMS(group),
                PySequence_Fast_ITEMS(group) + PySequence_Fast_GET_SIZE(group),
            )
            begin[i + 1] = objects.size()
        packed.pack(objects.data(), <Py_ssize_t>objects.size(), key_type, space)
        return packed, begins

    # All of it is copied: another thread may change a list, and whatever holds the objects, while
    # the GIL is released. It is not as long as no code in Python runs.
    cdef int pack(self, PyObject** objects, Py_ssize_t n, str key_type, str space) except -1:
        self.integer = key_type == "int"
        return self.pack_int(objects, n, space) if self.integer else self.pack_str(objects, n, space)

    cdef int pack_str(self, PyObject** objects, Py_ssize_t n, str space) except -1:
        cdef string_view text
        cdef Py_ssize_t i
        self.views.resize(<size_t>n)
        check(copy_ascii(objects, <size_t>n, self.utf8, self.views.data()))
        for i in range(n):
            if self.views[i].size() == 0:
                utf8_of(<object>objects[i], i, space, &text)
                self.views[i] = self.copied(text.data(), text.size())
        return 0

    cdef string_view copied(self, const void* text, size_t size) except *:
        cdef char* copy = <char*>self.utf8.allocate(size, 1)
        memcpy(copy, text, size)
        return string_view(copy, size)

    cdef int pack_int(self, PyObject** objects, Py_ssize_t n, str space) except -1:
        cdef Py_ssize_t i
        cdef tuple holder = None  # once a key may run code in Python
        self.integers.resize(<size_t>n)
        for i in range(n):
            if i + kObjectsAhead < n:
                prefetch(objects[i + kObjectsAhead])
            if holder is None and not PyLong_CheckExact(<object>objects[i]):
                holder = held(objects, n)
                objects = PySequence_Fast_ITEMS(holder)
            int64_of(<object>objects[i], i, space, &self.integers[i])
        return 0

    @staticmethod
    def of_integers(const int64_t[::1] keys not None):
        # A copy: the engine reads a key several times, and another thread may change the array.
        cdef Keys packed = Keys.__new__(Keys)
        packed.integer = True
        if keys.shape[0] != 0:
            packed.integers.assign(&keys[0], &keys[0] + keys.shape[0])
        return packed

    @staticmethod
    def of_utf8(const int64_t[::1] offsets not None, const uint8_t[::1] data not None):
        # A copy, as of integers; and each offset is read once.
        cdef Keys packed = Keys.__new__(Keys)
        cdef Py_ssize_t i, end, size
        cdef Py_ssize_t begin = offsets[0]
        packed.views.reserve(<size_t>(offsets.shape[0] - 1))
        for i in range(offsets.shape[0] - 1):
            end = offsets[i + 1]
            size = end - begin
            if not 0 < size <= <Py_ssize_t>kKeyBytesMax:
                wrong_size(size, i)
            if begin < 0 or end > data.shape[0]:
                raise InvalidKeyError(f"key {i} lies outside its buffer")
            packed.views.push_back(packed.copied(&data[begin], <size_t>size))
            begin = end
        return packed

    def packed(self):
        cdef size_t i, total = 0
        cdef char* out
        cdef uint16_t* lengths
        self.view_all()
        for i in range(self.views.size()):
            total += self.views[i].size()
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
        out = PyBytes_AS_STRING(data)
        for i in range(self.views.size()):
            memcpy(out, self.views[i].data(), self.views[i].size())
            out += self.views[i].size()
        if self.integer:
            return data, b""
        sizes = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(2 * self.views.size()))
        lengths = <uint16_t*>PyBytes_AS_STRING(sizes)
        for i in range(self.views.size()):
            lengths[i] = <uint16_t>self.views[i].size()
        return data, sizes

    cdef object key_at(self, Py_ssize_t position):
        if self.integer:
            return self.integers[position]
        return key_object(self.views[position], False)


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
