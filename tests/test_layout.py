"""The house rules: who may include or import whom, how long things may grow, what nobody writes.

Every rule reads the sources as text, so a breach is reported with its file and line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lizard
import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGE = ROOT / "ehub"

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# A layer of src/ and the layers it may include, besides itself.
LAYERS = {
    "base": set(),
    "io": {"base"},
    "kernels": {"base"},
    "hnsw": {"base", "io", "kernels"},
    "store": {"base", "io", "kernels", "hnsw"},
}

# The only Python modules that may import each native module; users see the facade.
NATIVE_USERS = {
    "_store": {
        "_arrays",
        "average",
        "checked_call",
        "dataset",
        "diff",
        "erasure",
        "hidden",
        "history",
        "hub",
        "ingest",
        "interrupts",
        "kept_average",
        "kmeans",
        "local_copy",
        "making",
        "named_average",
        "names",
        "packing",
        "partition",
        "reading",
        "remote_rows",
        "remote_table",
        "searches",
        "scope",
        "snapshot",
        "space",
        "subindex",
        "targets",
        "transfer",
        "version",
        "view",
        "writing",
    },
    "_hnsw": {"hnswlib_io"},
}

# The engine neither prints nor knows Python; a failed assertion is the one thing it writes.
ENGINE_BANNED = re.compile(
    r"Python\.h|pybind11|<iostream>|std::c(out|err|log)\b|\bv?f?printf\s*\(|\bf?puts\s*\("
)
ENGINE_MAY_WRITE = {SRC / "base" / "check.cpp"}

# Spelled apart, or this file would break its own rule.
BANNED_WORDS = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b"
)

CPP = (".h", ".cpp")
CODE = (*CPP, ".py", ".pyi", ".pyx", ".pxd")


def files(
    *suffixes: str, under: tuple[str, ...] = ("src", "ehub", "tests", "benchmarks")
) -> list[Path]:
    """The files of ours with one of these suffixes."""
    found = [path for top in under for path in (ROOT / top).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if "_pb2" not in path.name)


def name_of(path: Path) -> str:
    """How a file is named in a report."""
    return path.relative_to(ROOT).as_posix()


def breaches(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    """The lines of these files in which the pattern is found."""
    return [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def own_includes(path: Path) -> list[str]:
    """What a file of the engine includes in quotes."""
    return re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("layer", LAYERS)
def test_includes_go_down_only(layer):
    allowed = LAYERS[layer] | {layer}
    wrong = [
        f"{name_of(path)} includes {include}"
        for path in files(*CPP, under=(f"src/{layer}",))
        for include in own_includes(path)
        if include.partition("/")[0] not in allowed or not (SRC / include).exists()
    ]
    assert not wrong


def test_every_directory_of_the_engine_is_a_known_layer():
    assert {path.name for path in SRC.iterdir() if path.is_dir()} <= set(LAYERS)
    assert [path for path in SRC.iterdir() if path.suffix in CPP] == []


def test_the_engine_neither_prints_nor_knows_python():
    paths = [path for path in files(*CPP, under=("src",)) if path not in ENGINE_MAY_WRITE]
    assert breaches(paths, ENGINE_BANNED) == []


def test_every_header_opens_with_what_it_is_for():
    assert [name_of(path) for path in files(".h") if not path.read_text().startswith("// ")] == []


def test_a_file_is_one_concept_long():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files(*CODE)}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_a_function_fits_on_a_screen():
    functions = [
        (function.length, f"{name_of(path)}:{function.start_line} {function.name}")
        for path in files(*CPP, ".py")
        for function in lizard.analyze_file(str(path)).function_list
    ]
    assert [entry for entry in functions if entry[0] > FUNCTION_LINES_MAX] == []


def test_nobody_leaves_notes_for_later():
    docs = [*ROOT.glob("*.md"), ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
    assert breaches([*files(*CODE, ".md"), *docs], BANNED_WORDS) == []


def test_only_the_doors_import_native_modules():
    wrong = [
        f"{name_of(path)} imports {imported}"
        for path in files(".py", under=("ehub",))
        for imported in imports_of(path)
        if not may_import(path, imported)
    ]
    assert wrong == []


def may_import(path: Path, imported: str) -> bool:
    """Whether a Python module is in the table for what it imports; what is not native, it is."""
    native = imported.removeprefix("ehub._native").removeprefix(".")
    if not imported.startswith("ehub._native") or path.parent.name == "_native":
        return True
    return path.stem in NATIVE_USERS.get(native.partition(".")[0], set())


def test_python_modules_import_downwards_only():
    """No import cycle: an order of layers exists. Imports for type checkers only do not count."""
    graph = {module_of(path): runtime_imports(path) for path in files(".py", under=("ehub",))}
    graph.pop("ehub", None)  # the package itself re-exports its modules
    done: set[str] = set()
    while ready := {
        name for name in graph if name not in done and graph[name] & set(graph) <= done
    }:
        done |= ready
    assert sorted(set(graph) - done) == [], "these import each other"


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def runtime_imports(path: Path) -> set[str]:
    """The modules of ours that a module imports when it is itself imported."""
    return {name for name in imports_of(path, top_level=True) if name != module_of(path)}


def imports_of(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """The modules of ours that a file imports: `from ehub import hub` gives ehub.hub."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ehub"))
        elif isinstance(node, ast.ImportFrom):
            yield from names_from(node, path)


def names_from(node: ast.ImportFrom, path: Path) -> Iterator[str]:
    """The modules of ours that `from ... import ...` names."""
    package = module_of(path.parent / "__init__.py").split(".")
    base = package[: len(package) - node.level + 1] if node.level else []
    source = ".".join([*base, *(node.module.split(".") if node.module else [])])
    if source.partition(".")[0] != "ehub":
        return
    for alias in node.names:
        inner = ROOT.joinpath(*source.split("."), alias.name)
        is_module = inner.is_dir() or list(inner.parent.glob(f"{alias.name}.*"))
        yield f"{source}.{alias.name}" if is_module else source
