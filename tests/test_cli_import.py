"""What is imported is what NumPy reads from the file, whole batches at any end, and back again.

Each format is written here by its own library, so an import is checked against that and not
against our own writer; exports are read back by the same libraries, and by an import.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imported import DIMS, KEYS, ROWS, VECTORS, contents, refused, rows

import ehub
from ehub.formats import Selection, open_source

PACKAGE_PARENT = Path(ehub.__file__).parent.parent
FORMATS = [".npy", ".npz", ".h5", ".hdf5", ".parquet", ".pq", ".csv", ".tsv"]


@pytest.fixture
def hub(tmp_path):
    return tmp_path / "hub"


def schema(hub, space="s"):
    with ehub.open(hub, read_only=True) as store:
        found = store.get_space(space)
        return found.dims, found.metric, found.key_type


# --- each format ---


def write_npy(path):
    np.save(path, VECTORS)
    np.save(path.with_name("f.keys.npy"), np.array(KEYS))


def write_npz(path):
    np.savez_compressed(path, embeddings=VECTORS, ids=np.array(KEYS), other=np.arange(3))


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=VECTORS, chunks=(50, DIMS), compression="gzip")
        file.create_dataset("keys", data=[key.encode() for key in KEYS])
        file.create_dataset("test", data=VECTORS[:5])
        file.attrs["distance"] = "euclidean"


def write_parquet(path):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.reshape(-1)), DIMS)
    table = pa.table({"title": ["x"] * ROWS, "id": KEYS, "vector": lists})
    pq.write_table(table, path, row_group_size=100)


def write_text(path):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(["name", *(f"d{i}" for i in range(DIMS))])
        for key, vector in zip(KEYS, VECTORS, strict=True):
            writer.writerow([key, *(str(number) for number in vector)])


WRITERS = {
    ".npy": write_npy,
    ".npz": write_npz,
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
    ".parquet": write_parquet,
    ".pq": write_parquet,
    ".csv": write_text,
    ".tsv": write_text,
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_imports_to_the_same_rows(cli, hub, tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    WRITERS[suffix](path)
    code, out, err = cli("import", hub, path, "--space", "s", "--batch-rows", "64", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["rows_stored"], report["rows_skipped"], report["complete"]) == (ROWS, 0, True)
    assert contents(hub) == rows(KEYS, VECTORS)
    assert schema(hub) == (DIMS, "l2" if suffix in (".h5", ".hdf5") else "cosine", "str")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("key_type", ["str", "int"])
def test_an_export_imports_to_the_same_space(cli, hub, tmp_path, suffix, key_type):
    keys = KEYS if key_type == "str" else np.arange(ROWS) * 10**15 - 2**60
    vectors = VECTORS.copy()
    vectors.view(np.uint32)[:] ^= np.arange(ROWS, dtype=np.uint32)[:, None]  # all low bits in use
    vectors[0, :3] = [-0.0, 1e-45, 3.4028235e38]
    with ehub.open(hub) as store:
        space = store.create_space("s", dims=DIMS, metric="ip", key_type=key_type)
        space.multiset(keys, vectors)
    out = tmp_path / f"out{suffix}"
    assert cli("export", hub, out, "--space", "s")[0] == 0
    options = ["--space", "s", "--key-type", key_type]
    if suffix in (".npy", ".csv", ".tsv"):  # which do not say what the metric was
        options += ["--metric", "ip"]
    code, _, err = cli("import", tmp_path / "copy", out, *options)
    assert code == 0, err
    assert contents(tmp_path / "copy") == contents(hub)
    assert schema(tmp_path / "copy") == schema(hub)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_exports_are_read_by_the_libraries_of_their_formats(cli, hub, tmp_path):
    with ehub.open(hub) as store:
        store.create_space("s", dims=DIMS, metric="cosine").multiset(KEYS, VECTORS)
    for suffix in (".npy", ".npz", ".h5", ".parquet"):
        assert cli("export", hub, tmp_path / f"o{suffix}", "--space", "s")[0] == 0
    expected = rows(KEYS, VECTORS)
    keys = np.load(tmp_path / "o.keys.npy")
    assert rows(keys.tolist(), np.load(tmp_path / "o.npy", mmap_mode="r")) == expected
    archive = np.load(tmp_path / "o.npz")
    assert rows(archive["keys"].tolist(), archive["vectors"]) == expected
    with h5py.File(tmp_path / "o.h5") as file:
        assert rows(file["keys"].asstr()[:].tolist(), file["vectors"][:]) == expected
        assert file.attrs["distance"] == "angular"
    table = pq.read_table(tmp_path / "o.parquet")
    assert rows(table["key"].to_pylist(), table["vector"].to_pylist()) == expected


def test_a_parquet_export_says_of_which_version_model_and_lineage_it_is(cli, hub, tmp_path):
    model = ehub.Model(name="m", revision="2", dims=DIMS, metric="l2")
    with ehub.open(hub) as store:
        space = store.create_space("s", dims=DIMS)
        made = space.create_version("v2", model=model, run_id="run-7", labels={"team": "search"})
        made.multiset(KEYS, VECTORS)
        made.tag("then")
        lineage = made.lineage
    out = tmp_path / "out.parquet"
    assert cli("export", hub, out, "--space", "s", "--version", "v2", "--at", "then")[0] == 0
    about = json.loads(pq.read_schema(out).metadata[b"ehub"])
    assert (about["space"], about["version"], about["tag"]) == ("s", "v2", "then")
    assert ehub.Model.from_dict(about["model"]) == model
    assert ehub.Lineage(**about["lineage"]) == lineage
    assert cli("import", tmp_path / "copy", out, "--space", "s")[0] == 0
    assert contents(tmp_path / "copy") == rows(KEYS, VECTORS)


def test_an_empty_space_exports_to_every_format(cli, hub, tmp_path):
    with ehub.open(hub) as store:
        store.create_space("s", dims=DIMS)
    for suffix in FORMATS:
        code, _, err = cli("export", hub, tmp_path / f"o{suffix}", "--space", "s")
        assert code == 0, err


def test_an_export_never_overwrites_unasked(cli, hub, tmp_path):
    write_npy(tmp_path / "f.npy")
    assert cli("import", hub, tmp_path / "f.npy", "--space", "s")[0] == 0
    for name in ("f.npy", "f.keys.npy"):
        before = (tmp_path / name).read_bytes()
        code, _, err = cli("export", hub, tmp_path / "f.npy", "--space", "s")
        assert code == 1
        assert "exists" in err
        assert (tmp_path / name).read_bytes() == before
    assert cli("export", hub, tmp_path / "f.npy", "--space", "s", "--force")[0] == 0


def test_a_failed_export_leaves_nothing_behind(cli, hub, tmp_path):
    with ehub.open(hub) as store:
        store.create_space("s", dims=1).set("a\0", [1])
    for suffix in (".npy", ".npz", ".h5"):
        code, _, err = cli("export", hub, tmp_path / f"o{suffix}", "--space", "s")
        assert code == 1
        assert "NUL" in err
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


# --- where keys and vectors come from ---


def test_a_file_without_keys_gets_row_numbers_from_file_to_file(cli, hub, tmp_path):
    np.save(tmp_path / "a.npy", VECTORS[:100])
    np.save(tmp_path / "b.npy", VECTORS[100:])
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert cli("import", hub, *files, "--space", "s", "--batch-rows", "30")[0] == 0
    assert contents(hub) == rows(range(ROWS), VECTORS)
    assert schema(hub) == (DIMS, "cosine", "int")


@pytest.mark.parametrize("kind", ["keys.npy", "keys.txt", "keys.csv:name", "keys.csv:1"])
def test_keys_may_come_from_a_file_of_their_own(cli, hub, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", VECTORS)
    np.save("keys.npy", np.array(KEYS))
    Path("keys.txt").write_text("\n".join(KEYS) + "\n")
    header = [] if kind.endswith("1") else [["n", "name"]]
    with Path("keys.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*header, *enumerate(KEYS)])
    code, _, err = cli("import", hub, "v.npy", "--space", "s", "--keys", kind, "--batch-rows", "50")
    assert code == 0, err
    assert contents(hub) == rows(KEYS, VECTORS)


def test_keys_and_vectors_are_found_by_the_names_given(cli, hub, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["group/emb"] = VECTORS.astype(np.float16)
        file["group/no"] = np.arange(ROWS) + 5
        file["train"] = VECTORS * 2
    selection = ["--keys", "group/no", "--vectors", "group/emb"]
    assert cli("import", hub, tmp_path / "f.h5", "--space", "s", *selection)[0] == 0
    assert contents(hub) == rows(range(5, ROWS + 5), VECTORS.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", ">f4", "uint32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_numbers_become_float32(cli, hub, tmp_path, dtype, order):
    values = np.asarray(np.abs(VECTORS) * 20 + 1, dtype=dtype, order=order)
    np.save(tmp_path / "f.npy", values)
    assert cli("import", hub, tmp_path / "f.npy", "--space", "s", "--batch-rows", "100")[0] == 0
    assert contents(hub) == rows(range(ROWS), values.astype(np.float32))


def test_parquet_with_a_column_per_number(cli, hub, tmp_path):
    columns = {f"e{i}": VECTORS[:, i].astype(np.float64) for i in range(DIMS)}
    table = pa.table({"word": pa.array(KEYS).dictionary_encode(), **columns})
    pq.write_table(table, tmp_path / "f.parquet")
    options = ["--space", "s", "--keys", "word"]
    assert cli("import", hub, tmp_path / "f.parquet", *options)[0] == 0
    assert contents(hub) == rows(KEYS, VECTORS)


def test_parquet_without_a_column_named_as_keys_gets_row_numbers(cli, hub, tmp_path):
    labels = [f"label {i % 3}" for i in range(ROWS)]
    table = pa.table({"label": labels, "year": range(ROWS), "vector": VECTORS.tolist()})
    pq.write_table(table, tmp_path / "f.parquet")
    code, out, err = cli("import", hub, tmp_path / "f.parquet", "--space", "s")
    assert code == 0
    assert "keys: row numbers (--keys would take one of: label, year)" in err
    assert f"stored {ROWS} rows in space 's': " in out
    assert contents(hub) == rows(range(ROWS), VECTORS)


def test_parquet_with_lists_and_chosen_columns(cli, hub, tmp_path):
    table = pa.table(
        {"a": KEYS, "n": range(ROWS), "x": VECTORS.tolist(), "y": (VECTORS + 1).tolist()}
    )
    pq.write_table(table, tmp_path / "f.parquet")
    code, _, err = cli("import", hub, tmp_path / "f.parquet", "--space", "s")
    assert code == 1
    assert "say --vectors, one of: x, y" in err
    selection = ["--keys", "n", "--vectors", "y"]
    assert cli("import", hub, tmp_path / "f.parquet", "--space", "s", *selection)[0] == 0
    assert contents(hub) == rows(range(ROWS), VECTORS + 1)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a,1,2\nb,3,4\n", [], {"a": [1, 2], "b": [3, 4]}),
        ("key,x,y\na,1,2\n", [], {"a": [1, 2]}),
        (",0,1,2\na,5,6,7\n", [], {"a": [5, 6, 7]}),
        ("word,0,1,2\na,5,6,7\n", ["--header"], {"a": [5, 6, 7]}),
        ("word,0,1,2\na,5,6,7\n", ["--no-header"], {"word": [0, 1, 2], "a": [5, 6, 7]}),
        ("key,0.5,0.25\na,5,6\n", [], {"key": [0.5, 0.25], "a": [5, 6]}),
        ("id,5,6\nnan,7,8\n", [], {"id": [5, 6], "nan": [7, 8]}),
        ("a,1,2,3\n", [], {"a": [1, 2, 3]}),
        ("a,0,1\n", [], {"a": [0, 1]}),
        ("0.5,0.25\n0.5,0.75\n", [], {0: [0.5, 0.25], 1: [0.5, 0.75]}),
        ("x,y\n0.5,2\n0.5,4\n", [], {0: [0.5, 2], 1: [0.5, 4]}),
        ("1,2\n1,4\n", ["--no-keys"], {0: [1, 2], 1: [1, 4]}),
        ("1,2\n1,4\n", ["--vectors", "0,1"], {0: [1, 2], 1: [1, 4]}),
        ("id,x\n1,2\n", ["--no-keys"], {0: [1, 2]}),
        ("n,x\n7,2\n", ["--keys", "n"], {"7": [2]}),
        ("id,x\n7,2\n", [], {"7": [2]}),
        ("1,0,1,2\n", ["--no-header", "--keys", "0"], {"1": [0, 1, 2]}),
        ("a,5,6\nb,7,8\n", ["--header"], {"b": [7, 8]}),
        ("\ufeffkey,x\n\n\na,1e2\n\n", [], {"a": [100]}),
        ('"a,""b""\n",1,2\n', [], {'a,"b"\n': [1, 2]}),
        ("n,x,id,y\n9,1,a,2\n", ["--vectors", "x,y"], {"a": [1, 2]}),
        ("1,2,a\n3,4,b\n", ["--keys", "2"], {"a": [1, 2], "b": [3, 4]}),
    ],
)
def test_tables_with_and_without_header(cli, hub, tmp_path, text, options, expected):
    path = tmp_path / "f.csv"
    path.write_text(text, encoding="utf-8", newline="")
    code, _, err = cli("import", hub, path, "--space", "s", "--metric", "l2", *options)
    assert code == 0, err
    assert contents(hub) == rows(expected, list(expected.values()))


def test_keys_are_converted_to_those_of_the_space(cli, hub, tmp_path):
    (tmp_path / "f.csv").write_text("7,1,2\n-3,3,4\n")
    options = ["--space", "s", "--key-type", "int", "--keys", "0"]
    assert cli("import", hub, tmp_path / "f.csv", *options)[0] == 0
    assert contents(hub) == rows([7, -3], [[1, 2], [3, 4]])
    (tmp_path / "g.csv").write_text("8,1,2\neight,3,4\n")
    code, _, err = cli("import", hub, tmp_path / "g.csv", "--space", "s", "--keys", "0")
    assert code == 1
    assert "'eight' is not a 64-bit integer" in err


def test_rows_under_keys_that_were_there_are_counted_apart(cli, hub, tmp_path):
    (tmp_path / "f.csv").write_text("id,x\na,1\na,2\nb,3\n")
    command = ["import", hub, tmp_path / "f.csv", "--space", "s", "--metric", "l2", "--json"]
    counts = []
    for _ in range(2):
        report = json.loads(cli(*command)[1])
        counts.append((report["rows_stored"], report["keys_added"], report["rows_replaced"]))
    assert counts == [(3, 2, 1), (3, 0, 3)]


def test_what_a_table_was_taken_for_is_said(cli, hub, tmp_path):
    (tmp_path / "a.csv").write_text("id,x,y\na,1,2\n")
    (tmp_path / "b.csv").write_text("b,3,4\n")
    err = cli("import", hub, tmp_path / "a.csv", tmp_path / "b.csv", "--space", "s")[2]
    assert "a.csv: first line taken as header; keys: column 'id'; vectors: 2 columns\n" in err
    assert "b.csv: keys: column '0'; vectors: 2 columns; 2 dims, cosine\n" in err


def test_no_keys_leaves_out_what_would_be_taken_for_keys(cli, hub, tmp_path):
    for suffix in FORMATS:
        path = tmp_path / f"f{suffix}"
        WRITERS[suffix](path)
        options = ["--space", suffix, "--no-keys"]
        if suffix in (".csv", ".tsv"):  # where the column of text is no vectors' either
            options += ["--vectors", ",".join(f"d{i}" for i in range(DIMS))]
        code, _, err = cli("import", hub, path, *options)
        assert code == 0, err
        assert contents(hub, suffix) == rows(range(ROWS), VECTORS)
    code, _, err = cli("import", hub, path, "--space", "s", "--no-keys", "--keys", "name")
    assert code == 2
    assert "either --keys or --no-keys" in err


def test_the_last_of_rows_with_one_key_wins_within_and_across_batches(cli, hub, tmp_path):
    (tmp_path / "f.csv").write_text("a,1\na,2\nb,3\nb,4\nc,5\na,6\n")
    options = ["--space", "s", "--metric", "l2", "--batch-rows", "2"]
    code, out, _ = cli("import", hub, tmp_path / "f.csv", *options)
    assert code == 0
    assert "6 rows in space 's' (3 new keys; 3 rows in place of others with the same key)" in out
    expected = rows("abc", [[6], [4], [5]])
    assert contents(hub) == expected
    assert cli("import", hub, tmp_path / "f.csv", *options, "--resume")[0] == 0
    assert contents(hub) == expected


# --- refusals: before anything is written, and with the place ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1,2\nb,3\n", "line 2: 2 fields, the first has 3"),
        ("a,1,2\nb,3,x\n", "line 2: could not convert string to float: 'x'"),
        ("a,1,missing\nb,1,2\n", "line 1: could not convert"),
        ("a,1,2\nb,nan,2\n", "rows 0 to 1"),
        ("a,1,2\nb,1e39,2\n", "rows 0 to 1"),
        ("a,1,2\n" + "b" * 1025 + ",1,2\n", "rows 0 to 1"),
    ],
)
def test_a_bad_row_is_named(cli, hub, tmp_path, text, message):
    (tmp_path / "f.csv").write_text(text)
    err = refused(cli, hub, tmp_path / "f.csv")
    assert message in err
    assert "f.csv" in err
    assert "--resume" not in err
    assert not hub.exists() or ehub.open(hub, read_only=True).spaces() == []


def test_parquet_rows_without_a_value_or_with_other_dims_are_named(cli, hub, tmp_path):
    path = tmp_path / "f.parquet"
    good = [[1.0, 2.0]] * 5
    for bad, message in [
        (None, "no value in row 5"),
        ([1.0], "row 5 has 1 dims"),
        ([1.0, None], ""),
    ]:
        pq.write_table(pa.table({"id": list("abcdef"), "v": [*good, bad]}), path)
        assert message in refused(cli, hub, path, "--batch-rows", "3")
        assert set(contents(hub)) == set("abc")


def test_a_failed_import_is_not_in_the_way_of_a_better_one(cli, hub, tmp_path):
    (tmp_path / "mixed.csv").write_text("id,title,a,b\nx,one,1,2\ny,two,3,4\n")
    err = refused(cli, hub, tmp_path / "mixed.csv")
    assert "'one' (--vectors names the columns of numbers)" in err
    assert not hub.exists()
    options = ["--space", "s", "--vectors", "a,b"]
    assert cli("import", hub, tmp_path / "mixed.csv", *options)[0] == 0
    assert contents(hub) == rows("xy", [[1, 2], [3, 4]])


def test_a_space_that_was_there_survives_a_failed_import(cli, hub, tmp_path):
    with ehub.open(hub) as store:
        store.create_space("s", dims=1)
    (tmp_path / "f.csv").write_text("a,1e99\n")
    refused(cli, hub, tmp_path / "f.csv")
    assert contents(hub) == {}


def test_a_file_without_rows_makes_an_empty_space(cli, hub, tmp_path):
    np.save(tmp_path / "f.npy", VECTORS[:0])
    assert cli("import", hub, tmp_path / "f.npy", "--space", "s")[0] == 0
    assert contents(hub) == {}
    assert schema(hub) == (DIMS, "cosine", "int")


def test_a_key_file_of_another_length_is_refused(cli, hub, tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "keys.txt").write_text("a\nb\n")
    err = refused(cli, hub, tmp_path / "v.npy", "--keys", tmp_path / "keys.txt")
    assert "2 keys for 257 vectors" in err
    assert "no such file" in refused(cli, hub, tmp_path / "v.npy", "--keys", "nowhere.txt")
    assert not hub.exists()


def test_a_space_with_other_dims_metric_or_keys_is_refused(cli, hub, tmp_path):
    with ehub.open(hub) as store:
        store.create_space("s", dims=5, metric="l2")
        store.create_space("t", dims=DIMS, metric="l2")
    np.save(tmp_path / "v.npy", VECTORS)
    assert "has 5" in refused(cli, hub, tmp_path / "v.npy")
    options = ["--space", "t"]
    assert "has metric l2" in refused(cli, hub, tmp_path / "v.npy", *options, "--metric", "ip")
    assert "has str keys" in refused(cli, hub, tmp_path / "v.npy", *options, "--key-type", "int")
    assert "have 12 dims, not 3" in refused(cli, hub, tmp_path / "v.npy", *options, "--dims", "3")
    assert contents(hub, "t") == {}


def test_files_that_do_not_fit_together_are_refused(cli, hub, tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    np.save(tmp_path / "b.npy", VECTORS[:, :3])
    err = refused(cli, hub, tmp_path / "a.npy", tmp_path / "b.npy")
    assert "a.npy has dims 12" in err
    assert "b.npy has dims 3" in err
    assert not hub.exists()


def test_no_create_makes_neither_hub_nor_space(cli, hub, tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    refused(cli, hub, tmp_path / "v.npy", "--no-create")
    assert not hub.exists()
    with ehub.open(hub) as store:
        store.create_space("other", dims=DIMS)
    assert "no space 's'" in refused(cli, hub, tmp_path / "v.npy", "--no-create")


def test_an_unknown_metric_of_a_file_must_be_overruled(cli, hub, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["train"] = VECTORS
        file.attrs["distance"] = "hamming"
    assert "metric is 'hamming'" in refused(cli, hub, tmp_path / "f.h5")
    assert cli("import", hub, tmp_path / "f.h5", "--space", "s", "--metric", "l2")[0] == 0
    assert schema(hub) == (DIMS, "l2", "int")


# --- memory ---


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".parquet", ".csv"])
def test_a_source_gives_whole_batches_but_for_the_last(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    WRITERS[suffix](path)
    with open_source(path, Selection()) as source:
        sizes = [len(batch) for batch in source.batches(100)]
    assert sizes == [100, 100, 57]
