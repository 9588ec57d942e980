# Small values on their way between the languages: a Status becomes an exception, a name a number. A
# part of _store.pyx.

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
    <int>Code.kConflict: ConflictError,
    <int>Code.kDeadline: DeadlineError,
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


# Of many, in a message.
cdef Py_ssize_t _NAMES_SHOWN = 10


cdef int choice(str option, object value, dict choices) except -1:
    cdef object error = InvalidArgumentError if isinstance(value, str) else TypeError
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(f'"{name}"' for name in choices)
        raise error(f"{option} is {value!r:.100}; expected one of {expected}")
    return choices[value]


cdef str name_of(int number, dict choices):
    return next(name for name, value in choices.items() if value == number)


# A name or a note as a file says it, where nothing but a checksum spoke for it.
cdef str text_of(const string& text):
    try:
        return text.decode()
    except UnicodeDecodeError:
        shown = text.decode("utf-8", "backslashreplace")
        raise CorruptionError(f"the hub has a name or note that is no UTF-8: {shown:.100}") from None


cdef bytes encoded(object name):
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the name {name!r:.100} has a lone surrogate at position {error.start}"
        ) from None


cdef list findings_of(vector[CFinding]& findings):
    return [
        (os.fsdecode(finding.path), finding.what.decode("utf-8", "backslashreplace"))
        for finding in findings
    ]
