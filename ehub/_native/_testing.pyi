# The C++ internals, for tests: whatever tests/*/bind_*.cpp add. Open on purpose: the bindings
# describe themselves (help(ehub._native._testing)), change with the engine, and no user sees them.

from typing import Any

def __getattr__(name: str) -> Any: ...
