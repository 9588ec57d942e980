"""No instruction reaches a machine that lacks it, and the NEON kernels, untested on x86, work.

An object built for AVX must not lend its code to the rest of the program: no weak symbol (the
linker could prefer it to a plain copy), and no AVX encoding in any other object. Sources are
compiled here with the flags that setup.py gives them, and the built modules are disassembled.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ehub._native import _testing

ROOT = Path(__file__).resolve().parent.parent.parent
KERNELS = ROOT / "src" / "kernels"
CROSS_COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"

# VEX and EVEX encodings, the only way to the upper lanes, have mnemonics in v (AVX) or operate on
# mask registers.
AVX = re.compile(r"\t(v(?!err|erw|mcall|mmcall)[a-z0-9]+|k[a-z]+[bwdq]) .*%([xyz]mm|k)\d")

on_x86 = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the objects of this machine have no AVX"
)


def isa_flags():
    """ISA_FLAGS of setup.py, which cannot be imported without starting a build."""
    for statement in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "ISA_FLAGS":
            return ast.literal_eval(statement.value)
    raise AssertionError("setup.py has no ISA_FLAGS")


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Each kernel source, compiled as setup.py does."""
    directory, flags = tmp_path_factory.mktemp("objects"), isa_flags()
    compiled = {}
    for source in sorted(KERNELS.glob("*.cpp")):
        compiled[source.stem] = directory / f"{source.stem}.o"
        common = ["-std=c++20", "-O3", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'src'}"]
        run("g++", *common, *flags.get(source.name, []), "-c", source, "-o", compiled[source.stem])
    return compiled


def avx_instructions(binary):
    """The AVX instructions of a binary, as a dict from function to the first of them."""
    found, function = {}, ""
    for line in run("objdump", "-d", "--no-show-raw-insn", binary).splitlines():
        if line.endswith(">:"):
            function = line.split("<", 1)[1][:-2]
        elif AVX.search(line):
            found.setdefault(function, line.strip())
    return found


@on_x86
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("avx2", "kAvx2Kernels"),
        ("avx512", "kAvx512Kernels"),
        ("avx512_vnni", "kAvx512VnniCodes"),
        ("sse41", "kSse41Kernels"),
        ("scalar", "kScalarKernels"),
    ],
)
def test_an_isa_object_exports_its_table_and_nothing_else(objects, name, table):
    symbols = run("nm", "--defined-only", "--extern-only", objects[name]).splitlines()
    assert [symbol.split()[2] for symbol in symbols] == [f"_ZN4ehub{len(table)}{table}E"]
    assert "W" not in {symbol.split()[1] for symbol in symbols}


@on_x86
def test_avx_is_in_the_avx_objects_only(objects):
    with_avx = {name for name, path in objects.items() if avx_instructions(path)}
    assert with_avx == {"avx2", "avx512", "avx512_vnni"}
    # The pattern above would not be worth much if it missed these.
    assert any("%zmm" in line for line in avx_instructions(objects["avx512"]).values())
    assert not any("%zmm" in line for line in avx_instructions(objects["avx2"]).values())
    assert "vpdpbusd" in run("objdump", "-d", objects["avx512_vnni"])
    assert "vpdpbusd" not in run("objdump", "-d", objects["avx512"])


def built_modules():
    return sorted(Path(_testing.__file__).parent.glob("*.so"))


@on_x86
@pytest.mark.parametrize("module", built_modules(), ids=lambda module: module.name)
def test_a_built_module_has_avx_in_the_avx_kernels_only(module):
    # Every function of those kernels is a template over the tier, or a member of it.
    functions = avx_instructions(module)
    assert [name for name in functions if "Avx2" not in name and "Avx512" not in name] == []


def test_codes_of_rows_are_computed_without_fused_operations():
    # Where the compiler may fuse, as on AArch64, the same rows would have other codes.
    assert 'source.parent == Path("src/hnsw")' in (ROOT / "setup.py").read_text()
    assert "-ffp-contract=off" in (ROOT / "setup.py").read_text()


def test_the_isa_flags_name_no_machine_and_keep_arithmetic_exact():
    setup = (ROOT / "setup.py").read_text()
    for flag in ("-march", "-mtune", "-ffast-math", "-Ofast", "-funsafe-math"):
        assert flag not in setup


@pytest.fixture(scope="module")
def neon_check(tmp_path_factory):
    """The program neon_check.cpp, built for AArch64."""
    compiler = shutil.which(CROSS_COMPILER)
    if compiler is None:
        pytest.skip(f"{CROSS_COMPILER} is not installed")
    program = tmp_path_factory.mktemp("neon") / "neon_check"
    names = ("neon", "scalar", "dispatch", "scan", "avx2", "avx512", "avx512_vnni", "sse41")
    sources = [KERNELS / f"{name}.cpp" for name in names]
    sources += [ROOT / "src" / "base" / "check.cpp", Path(__file__).with_name("neon_check.cpp")]
    flags = ["-std=c++20", "-O3", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'src'}"]
    run(compiler, *flags, *sources, "-o", program)
    return program


def test_neon_agrees_with_scalar_and_with_itself(neon_check):
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        pytest.skip(f"{EMULATOR} is not installed")
    assert run(emulator, "-L", "/usr/aarch64-linux-gnu", neon_check) == "ok\n"
