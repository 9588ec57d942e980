"""Builds the native modules of ehub; everything else about the package is in pyproject.toml.

The engine (`src/`) is compiled once, each file with its own flags, and linked into every native
module that uses it. An object is compiled again when its flags or any file it includes have
changed, so a rebuild takes seconds: `python setup.py build_ext --inplace`.

Switches, from the environment:

- `EHUB_TESTING`: `1` builds `ehub._native._testing`, through which pytest sees the C++ internals;
  `0` does not. Unset: built in a checkout, not from an sdist, so that wheels for users lack it.
- `EHUB_DEBUG=1`: no optimisation, debug information, bounds checks in Cython.
- `EHUB_SANITIZE=address`: AddressSanitizer and UBSan; run with
  `LD_PRELOAD=$(gcc -print-file-name=libasan.so)`.
- `EHUB_COVERAGE=1`: counts lines of C++ for gcov.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("EHUB_DEBUG", "0") == "1"
COVERAGE = os.environ.get("EHUB_COVERAGE", "0") == "1"
SANITIZE = os.environ.get("EHUB_SANITIZE", "")

# Paths are relative, as setuptools wants them; a build starts where setup.py is.
BINDERS = sorted(Path("tests").glob("*/bind_*.cpp"))
IS_CHECKOUT = not Path("PKG-INFO").exists()  # with which every sdist begins
TESTING = os.environ.get("EHUB_TESTING", str(int(IS_CHECKOUT))) == "1"

# One file per instruction set; dispatch.cpp asks the CPU before it calls one. No other file may be
# built with these.
ISA_FLAGS = {
    "sse41.cpp": ["-msse4.1"],
    "avx2.cpp": ["-mavx2", "-mfma"],
    "avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma"],
    "avx512_vnni.cpp": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"],
}


def common_flags() -> list[str]:
    """Compiler flags of every file, after those that Python was built with."""
    flags = ["-std=c++20", "-Wall", "-Wextra", "-fvisibility=hidden"]
    flags += ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-g0"]
    return flags


def instrumentation_flags() -> list[str]:
    """What the sanitizers and coverage add, for both the compiler and the linker."""
    flags = ["--coverage"] if COVERAGE else []
    if SANITIZE == "address":
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        # What AddressSanitizer finds as well, or nothing of ours does: half of the time to compile.
        flags += ["-fno-sanitize=null,object-size,vptr"]
        flags += ["-O1", "-g1", "-fno-omit-frame-pointer"]
    elif SANITIZE:
        sys.exit(f"EHUB_SANITIZE={SANITIZE}: only 'address' is known")
    return flags


def flags_of(source: Path) -> list[str]:
    """The flags of one file."""
    flags = common_flags()
    if source.parent == Path("src/hnsw"):
        # A fused multiply-add rounds once where others round twice: codes must not depend on it.
        flags += ["-ffp-contract=off"]
    if source.parent == Path("src/kernels") and platform.machine() in ("x86_64", "AMD64"):
        flags += ISA_FLAGS.get(source.name, [])
    if uses_pybind11(source):
        flags += ["-O1"]  # it takes long to optimise, and the work is done elsewhere
    if source.name == "_testing.cpp":
        names = [binder.stem.removeprefix("bind_") for binder in BINDERS]
        flags += ["-DEHUB_BINDERS(X)=" + " ".join(f"X({name})" for name in names)]
    return flags


def uses_pybind11(source: Path) -> bool:
    """Whether a file is a binding in C++."""
    return source in BINDERS or source.name in ("_hnsw.cpp", "_testing.cpp")


def engine(*layers: str) -> list[Path]:
    """The engine's sources in these layers of `src/`, without the disk that fails on request."""
    sources = [path for layer in layers for path in Path("src", layer).rglob("*.cpp")]
    return sorted(path for path in sources if not path.name.startswith("fault_"))


def extension(name: str, sources: Iterable[Path]) -> Extension:
    """A native module of the package."""
    return Extension(f"ehub._native.{name}", [str(path) for path in sources], language="c++")


def extensions() -> list[Extension]:
    """The native modules that this tree has sources for."""
    native = Path("ehub/_native")
    modules = []
    if (native / "_store.pyx").exists():
        modules.append(
            extension(
                "_store", [native / "_store.pyx", *engine("base", "io", "kernels", "hnsw", "store")]
            )
        )
    if (native / "_hnsw.cpp").exists():
        modules.append(
            extension("_hnsw", [native / "_hnsw.cpp", *engine("base", "io", "kernels", "hnsw")])
        )
    if TESTING:
        modules.append(
            extension("_testing", [native / "_testing.cpp", *BINDERS, *Path("src").rglob("*.cpp")])
        )
    return modules


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Lets one build at a time write into `directory`: two would link half-written objects."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class BuildExt(build_ext):
    """build_ext that compiles each source once, on all cores, and only if it is stale."""

    def build_extensions(self) -> None:
        """Compile what is stale, then link every module."""
        # Objects are checked one by one. Modules are always linked and copied: it is cheap, and
        # right after any switch.
        self.force = self.compiler.force = True
        with exclusive(Path(self.build_temp)):
            for ext in self.extensions:
                ext.sources = [self.translate(ext.name, source) for source in ext.sources]
            sources = sorted({Path(source) for ext in self.extensions for source in ext.sources})
            write_compile_commands(sources)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self.objects = dict(zip(sources, pool.map(self.compile, sources), strict=True))
            for ext in self.extensions:
                self.build_extension(ext)

    def translate(self, module: str, source: str) -> str:
        """The C++ of a `.pyx` file, written outside the tree; any other file is itself."""
        if not source.endswith(".pyx"):
            return source
        from Cython.Build import cythonize

        directives = {
            "language_level": 3,
            "binding": True,
            "boundscheck": DEBUG,
            "wraparound": False,
            # These two leave out methods that no stub would name.
            "auto_pickle": False,
            "autotestdict": False,
            "freethreading_compatible": True,
        }
        # Cython does not see a change of directives: each set of them has its own directory.
        build_dir = Path(self.build_temp, "cython-debug" if DEBUG else "cython")
        translated = Extension(module, [source], language="c++")
        return cythonize([translated], build_dir=str(build_dir), compiler_directives=directives)[
            0
        ].sources[0]

    def compile(self, source: Path) -> Path:
        """Compile one file if it is stale; return its object."""
        [name] = self.compiler.object_filenames([str(source)], output_dir=self.build_temp)
        built = Path(name)
        flags = flags_of(source) + instrumentation_flags()
        if not is_fresh(built, flags):
            built.parent.mkdir(parents=True, exist_ok=True)
            started = time.time()
            self.compiler.compile(
                [str(source)],
                output_dir=self.build_temp,
                include_dirs=["src"],
                extra_postargs=[*flags, "-MMD", *pybind11_include(source)],
            )
            stamp_of(built).write_text(repr(flags))
            os.utime(stamp_of(built), (started, started))
        return built

    def build_extension(self, ext: Extension) -> None:
        """Link one module from its objects."""
        path = Path(self.get_ext_fullpath(ext.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            [str(self.objects[Path(source)]) for source in ext.sources],
            str(path),
            extra_postargs=[*instrumentation_flags(), "-pthread"],
            target_lang="c++",
        )


def pybind11_include(source: Path) -> list[str]:
    """Where pybind11 is, for files that use it; `-MMD` and warnings skip system directories."""
    if not uses_pybind11(source):
        return []
    import pybind11

    return ["-isystem", pybind11.get_include()]


def write_compile_commands(sources: list[Path]) -> None:
    """Tell clangd, clang-tidy and `.ci/run` how the engine is compiled."""
    commands = [
        {
            "directory": str(Path.cwd()),
            "file": str(source),
            "arguments": ["g++", *flags_of(source), "-Isrc", "-c", str(source)],
        }
        for source in sources
        if source.parts[0] == "src"
    ]
    path, text = Path("build/compile_commands.json"), json.dumps(commands, indent=1)
    # Not while somebody reads the same from it.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def stamp_of(built: Path) -> Path:
    """The file that holds an object's flags and, as its own time, when the compilation began."""
    return built.with_suffix(".flags")


def is_fresh(built: Path, flags: list[str]) -> bool:
    """Whether an object is newer than all it was made from, and was made with these flags."""
    stamp, depends = stamp_of(built), built.with_suffix(".d")
    if not (built.exists() and depends.exists() and stamp.exists()):
        return False
    sources = depends.read_text().replace("\\\n", " ").partition(":")[2].split()
    began = stamp.stat().st_mtime
    return stamp.read_text() == repr(flags) and all(
        Path(path).exists() and Path(path).stat().st_mtime < began for path in sources
    )


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt},
    exclude_package_data={} if TESTING else {"ehub._native": ["_testing.pyi"]},
)
