"""What a user installs: one version, typed, documented, quick to import, fit for old machines."""

from __future__ import annotations

import importlib.metadata
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ehub

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = Path(ehub.__file__).parent


def test_there_is_one_version():
    try:
        installed = importlib.metadata.version("ehub")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("built in place, not installed")
    assert installed == ehub.__version__


def test_type_checkers_find_the_package_typed():
    assert (INSTALLED / "py.typed").exists()


def test_every_native_module_has_a_stub():
    modules = {path.name.partition(".")[0] for path in (INSTALLED / "_native").glob("*.so")}
    assert modules
    assert {
        name for name in modules if not (INSTALLED / "_native" / f"{name}.pyi").exists()
    } == set()


def test_every_public_name_exists_and_is_documented():
    missing = [name for name in ehub.__all__ if not hasattr(ehub, name)]
    assert missing == []
    things = {name: getattr(ehub, name) for name in ehub.__all__ if name != "__version__"}
    public = {**things, **{k: v for name, thing in things.items() for k, v in methods(name, thing)}}
    assert [name for name, thing in public.items() if not inspect.getdoc(thing)] == []


def methods(name: str, thing: object) -> list[tuple[str, object]]:
    """The public methods and properties of a class of ours; nothing of anything else."""
    if not inspect.isclass(thing) or not thing.__module__.startswith("ehub"):
        return []
    members = [(key, value) for key, value in vars(thing).items() if not key.startswith("_")]
    return [
        (f"{name}.{key}", value)
        for key, value in members
        if callable(value) or isinstance(value, property)
    ]


def test_import_pulls_in_nothing_optional_or_slow():
    script = "import sys, ehub; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=INSTALLED.parent,
    )
    optional = {
        "pyarrow",
        "h5py",
        "polars",
        "pandas",
        "typer",
        "matplotlib",
        "rich",
        "grpc",
        "hypothesis",
        "pytest",
    }
    assert set(loaded.stdout.split()) & optional == set()


SMALL_SEARCH = """
import tempfile
import numpy as np
import ehub

vectors = np.eye(64, dtype=np.float32)
with tempfile.TemporaryDirectory() as directory, ehub.open(directory) as hub:
    items = hub.create_space("items", dims=64, metric="cosine")
    items.multiset([str(i) for i in range(64)], vectors)
    assert items.nearest_neighbors(1, vector=vectors[7]).keys[0] == "7"
"""


@pytest.mark.skipif(
    shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 (qemu-user) is not here"
)
def test_the_package_runs_on_a_processor_without_avx():
    """Nehalem, of 2008, has SSE4.2 and nothing later; numpy itself asks for no less."""
    command = ["qemu-x86_64", "-cpu", "Nehalem", sys.executable, "-c", SMALL_SEARCH]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=INSTALLED.parent
    )
    assert done.returncode == 0, done.stderr
