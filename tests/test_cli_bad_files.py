"""A file that holds no embeddings, or is damaged, is refused by name before a hub is made."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehub.cli import run
from ehub.formats import InputError, Selection, open_source

VECTORS = np.random.default_rng(11).standard_normal((257, 12)).astype(np.float32)


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs an import that must fail and leave no hub; gives what it said."""

    def call(path, *options):
        hub = tmp_path / "hub"
        code = run(["import", str(hub), str(path), "--space", "s", *options])
        captured = capsys.readouterr()
        assert code == 1
        assert captured.out == ""
        assert captured.err.startswith(f"error: {path}")
        assert not hub.exists()
        return captured.err

    return call


def text(content):
    return lambda path: path.write_bytes(content)


def npy(array, **options):
    return lambda path: np.save(path, array, **options)


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def archive(**members):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(name.replace("_", "."), data)

    return write


def hdf5(train):
    def write(path):
        with h5py.File(path, "w") as file:
            file["train"] = train

    return write


def parquet(columns, about=None):
    table = pa.table(columns).replace_schema_metadata({"ehub": about} if about else None)
    return lambda path: pq.write_table(table, path)


EMPTY_LISTS = pa.array([[], []], pa.list_(pa.float32()))

BAD = {
    "one axis": ("f.npy", npy(np.ones(3)), "expected numbers [rows x dims]"),
    "text": ("f.npy", npy(np.array([["a"]])), "expected numbers"),
    "no npy": ("f.npy", text(b"nonsense"), "damaged, or not of the format"),
    "empty npy": ("f.npy", text(b""), "damaged, or not of the format"),
    "zip as npy": ("f.npy", archive(vectors_npy=b"x"), "magic string is not correct"),
    "pickled npy": ("f.npy", npy(np.array([{}]), allow_pickle=True), "Python objects"),
    "no npz": ("f.npz", text(b"nonsense"), "not a zip file"),
    "npz header": (
        "f.npz",
        archive(vectors_npy=b"\x93NUMPY\1\0\4\0{}ab"),
        "Cannot parse header",
    ),
    "npz magic": ("f.npz", archive(vectors_npy=b"nonsense"), "magic string is not correct"),
    "npz cut in header": ("f.npz", archive(vectors_npy=b"\x93NUM"), "EOF: reading magic"),
    "npz version": ("f.npz", archive(vectors_npy=b"\x93NUMPY\x09\0"), "in version (9, 0)"),
    "npz without arrays": ("f.npz", archive(vectors=b"nonsense"), "no arrays in the file"),
    "npz by column": ("f.npz", npz(v=np.asfortranarray(VECTORS)), "column by column"),
    "npz pickled": ("f.npz", npz(v=VECTORS.astype(object)), "pickled objects"),
    "npz pickled metric": ("f.npz", npz(vectors=VECTORS, metric=np.array({})), "allow_pickle"),
    "npz of which": ("f.npz", npz(a=VECTORS, b=VECTORS), "say --vectors, one of: a, b"),
    "npz few keys": ("f.npz", npz(vectors=VECTORS, keys=[1]), "1 keys for 257"),
    "npz flat keys": ("f.npz", npz(vectors=VECTORS, keys=VECTORS), "keys have one"),
    "npz float keys": ("f.npz", npz(vectors=VECTORS, keys=VECTORS[:, 0]), "float32"),
    "no HDF5": ("f.h5", text(b"nonsense"), "damaged, or not of the format"),
    "HDF5 scalar": ("f.h5", hdf5(5.0), "'train' is float64 [scalar]"),
    "HDF5 empty": ("f.h5", hdf5(h5py.Empty("f4")), "'train' is float32 [scalar]"),
    "HDF5 named type": ("f.h5", hdf5(np.dtype("f4")), "no arrays in the file"),
    "no Parquet": ("f.parquet", text(b"nonsense"), "damaged, or not of the format"),
    "Parquet of text": ("f.parquet", parquet({"a": ["x"]}), "no column of"),
    "Parquet bools": ("f.parquet", parquet({"v": [[True]]}), "is list<element: bool>"),
    "Parquet nested": ("f.parquet", parquet({"v": [[[1.0]]]}), "expected lists of numbers"),
    "Parquet no dims": ("f.parquet", parquet({"v": EMPTY_LISTS}), "the first vector has 0 dims"),
    "Parquet note": ("f.parquet", parquet({"v": [[1.0]]}, b"nonsense"), "metadata 'ehub'"),
    "Parquet note of list": ("f.parquet", parquet({"v": [[1.0]]}, b"[1]"), "metadata 'ehub'"),
    "empty CSV": ("f.csv", text(b""), "the file is empty"),
    "CSV of no lines": ("f.csv", text(b"\n\n"), "the file is empty"),
    "CSV of keys": ("f.csv", text(b"a\nb\n"), "no columns of numbers"),
    "CSV not UTF-8": ("f.csv", text(b"a,\xff\n"), "not a table"),
    "unknown": ("f.docx", text(b"a"), "unknown format"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_holds_no_embeddings_is_refused(refused, tmp_path, name):
    file, write, message = BAD[name]
    write(tmp_path / file)
    assert message in refused(tmp_path / file)


AMBIGUOUS = {
    "1,0.5\n2,0.25\n": "say --keys 0 if they are the keys, --no-keys if they are not",
    "n,x\n1,0.5\n": "say --keys 0 if they are the keys, --no-keys if they are not",
    "word,0,1,2\na,5,6,7\n": "say --header or --no-header",
    "id,0,1\na,5,6\n": "say --header or --no-header",
}


@pytest.mark.parametrize("content", AMBIGUOUS)
def test_a_table_that_could_mean_two_things_is_refused_with_the_question(
    refused, tmp_path, content
):
    (tmp_path / "f.csv").write_text(content)
    assert AMBIGUOUS[content] in refused(tmp_path / "f.csv")


def test_columns_that_hold_no_numbers_are_refused(refused, tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": ["x"], "b": [1.0], "c": [[1.0]]}), path)
    assert "column 'a' is string; expected numbers" in refused(path, "--vectors", "b,a")
    assert "column 'c' is list<element: double>" in refused(path, "--vectors", "b,c")
    assert "'c' holds lists: name it alone" in refused(path, "--vectors", "c,b")
    assert "'d' is not in the file" in refused(path, "--vectors", "b,d")


def test_a_column_that_is_there_twice_is_refused(refused, tmp_path):
    column = pa.array([1.0])
    table = pa.Table.from_arrays([column, column, pa.array([[1.0]])], names=["x", "x", "v"])
    pq.write_table(table, tmp_path / "f.parquet")
    assert "more than once" in refused(tmp_path / "f.parquet", "--vectors", "x")


def test_a_damaged_page_of_parquet_is_refused(refused, tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"v": VECTORS.tolist()}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    quarter = len(data) // 4
    data[quarter : 2 * quarter] = bytes(quarter)
    path.write_bytes(data)
    assert "f.parquet: damaged" in refused(path, "--batch-rows", "300")


def test_an_npz_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, vectors=VECTORS)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(257, 12)", b"(258, 12)"))
    with pytest.raises(InputError), open_source(path, Selection()) as source:
        list(source.batches(1000))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_file_with_damage_anywhere_is_read_or_refused(tmp_path, suffix):
    """Never another exception than the two that the command line reports in one line.

    HDF5 is left out: its C library promises too little about damage to be fed 200 kinds of it.
    """
    path = tmp_path / f"f{suffix}"
    keys = np.array([f"key {i}" for i in range(len(VECTORS))])
    writers = {
        ".npy": lambda: np.save(path, VECTORS),
        ".npz": lambda: np.savez_compressed(path, vectors=VECTORS, keys=keys, metric="l2"),
        ".parquet": lambda: pq.write_table(pa.table({"id": keys, "v": VECTORS.tolist()}), path),
    }
    writers[suffix]()
    sound = path.read_bytes()
    random = np.random.default_rng(5)
    for _ in range(200):
        data = bytearray(sound[: random.integers(len(sound))] if random.random() < 0.2 else sound)
        for _ in range(3):
            # Where the structure is: near either end, mostly.
            place = int(random.exponential(300)) % max(1, len(data))
            if data:
                data[place if random.random() < 0.5 else -1 - place] = random.integers(256)
        path.write_bytes(data)
        try:
            with open_source(path, Selection()) as source:
                for _ in source.batches(100):
                    pass
        except (InputError, OSError):
            pass
