"""Real text that every Python has: the functions and classes of its own library.

The sources are parsed, never imported, so nothing in them runs. A text is keyed by the qualified
name of what it describes, such as `json.dumps`.
"""

from __future__ import annotations

import ast
import gc
import os
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEXT_CHARS_MAX = 1500
NOT_MODULES = {"__pycache__", "site-packages", "dist-packages", "lib2to3", "config"}
TESTS = {"test", "tests", "idle_test"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def collect_texts(count_max: int) -> dict[str, str]:
    """Texts by qualified name: of the library first, then of its tests, up to `count_max`."""
    texts: dict[str, str] = {}
    with no_collection():
        for path, module in library_files():
            for name, text in texts_of(path, module):
                texts[name] = text
                if len(texts) == count_max:
                    return texts
    return texts


@contextmanager
def no_collection() -> Iterator[None]:
    """Stop the garbage collector: syntax trees have no cycles, and it would walk them in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def library_files() -> Iterator[tuple[Path, str]]:
    """The source files of the standard library and their modules' names, always in one order."""
    roots = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    files: dict[str, Path] = {}
    for root in roots:
        for directory, inner, names in os.walk(root):
            inner[:] = [name for name in inner if name not in NOT_MODULES]
            package = Path(directory).relative_to(root).parts
            for name in names:
                if name.endswith(".py"):
                    module = module_name((*package, name.removesuffix(".py")))
                    files.setdefault(module, Path(directory, name))
    for module in sorted(files, key=lambda name: (not TESTS.isdisjoint(name.split(".")), name)):
        yield files[module], module


def module_name(parts: tuple[str, ...]) -> str:
    """What a file's module is imported as: `json/__init__.py` is `json`."""
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def texts_of(path: Path, module: str) -> Iterator[tuple[str, str]]:
    """The names and texts that one file defines."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        lines = source.decode().splitlines()
    except (OSError, SyntaxError, ValueError):
        return  # test data that is not meant to parse
    yield module, ast.get_docstring(tree, clean=False) or "\n".join(lines)[:TEXT_CHARS_MAX]
    yield from definitions(tree, module, lines)


def definitions(node: ast.AST, prefix: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Everything that is defined in a module or class, wherever it is nested."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            name = f"{prefix}.{child.name}"
            yield name, describe(child, lines)
            yield from definitions(child, name, lines)
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from definitions(child, prefix, lines)


def describe(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> str:
    """What a definition says about itself; if nothing, its source."""
    docstring = ast.get_docstring(node, clean=False)
    if docstring is not None and len(docstring) > 20:
        return docstring[:TEXT_CHARS_MAX]
    return "\n".join(lines[node.lineno - 1 : node.end_lineno])[:TEXT_CHARS_MAX]
