"""The native side of ehub.

`_store` (Cython) is the store: lifetimes, packing of keys, export of buffers, Status to exception.
`_testing` (pybind11) is the engine's C++ internals, built only where the tests are. No array of a
user's gets here unchecked: `ehub._arrays` is the one door.
"""
