"""Errors: one family, each also the built-in that fits, made from a Status in one place."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub import errors
from ehub._native import _store

BUILT_INS = {
    "ClosedError": None,
    "ConflictError": None,
    "CorruptionError": None,
    "DeadlineError": TimeoutError,
    "DimensionError": ValueError,
    "ExistsError": None,
    "FormatError": None,
    "FrozenError": None,
    "InvalidArgumentError": ValueError,
    "InvalidKeyError": ValueError,
    "InvalidVectorError": ValueError,
    "LockedError": None,
    "ModelMismatchError": None,
    "NotFoundError": KeyError,
    "PermissionDeniedError": PermissionError,
    "ReadOnlyError": None,
    "StorageError": OSError,
    "UnavailableError": ConnectionError,
}


def test_the_list_of_errors_is_complete_and_public():
    assert set(errors.__all__) == {"EhubError", *BUILT_INS}
    assert all(getattr(ehub, name) is getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("name", BUILT_INS)
def test_an_error_is_of_the_family_and_of_a_built_in(name):
    kind = getattr(errors, name)
    assert issubclass(kind, ehub.EhubError)
    built_in = BUILT_INS[name]
    assert built_in is None or issubclass(kind, built_in)
    assert str(kind("what happened")) == "what happened"
    copy = pickle.loads(pickle.dumps(kind("what happened")))
    assert (type(copy), str(copy)) == (kind, "what happened")


def test_each_status_code_has_an_error_of_its_own():
    classes = list(_store._ERRORS.values())
    assert len(set(classes)) == len(classes)
    assert sorted(_store._ERRORS) == list(range(1, 15))  # all but kOk, kIo, kOutOfMemory
    assert all(issubclass(kind, ehub.EhubError) for kind in classes)


def test_a_failed_system_call_has_its_errno(tmp_path):
    (tmp_path / "file").write_text("not a hub")
    with pytest.raises(ehub.StorageError) as caught:
        ehub.open(tmp_path / "file")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert isinstance(caught.value, OSError)
    assert str(tmp_path / "file") in str(caught.value)


FULL_DISK = """
import errno, resource, sys
import numpy as np
import ehub

with ehub.open(sys.argv[1]) as hub:
    items = hub.create_space("items", dims=64)
    items.set("a", np.ones(64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        items.multiset([str(i) for i in range(20_000)], np.ones((20_000, 64)))
    except ehub.StorageError as error:
        print(error.errno == errno.EFBIG, isinstance(error, OSError))
    print(list(items))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with ehub.open(sys.argv[1]) as hub:
    items = hub.get_space("items")
    print(list(items))
    print(items.multiset([str(i) for i in range(20_000)], np.ones((20_000, 64))))
"""


def test_a_write_that_does_not_fit_the_disk_changes_nothing(tmp_path):
    """A limit on the size of files stands in for a full disk; the errno is EFBIG."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["True True", "['a']", "['a']", "20000"]


def test_a_damaged_manifest_is_corruption_that_names_the_file(tmp_path):
    with ehub.open(tmp_path) as hub:
        hub.create_space("items", dims=2)
        hub.checkpoint()
    for manifest in tmp_path.glob("manifest-*"):
        data = manifest.read_bytes()
        manifest.write_bytes(data.replace(b"EHUBMAN1", b"EHUBMAN?"))  # both copies
    with pytest.raises(ehub.CorruptionError, match="manifest-"):
        ehub.open(tmp_path)


@pytest.mark.parametrize("file", ["segments/*.seg", "segments/*.f32", "wal/*.log", "manifest-*"])
def test_a_missing_file_is_corruption_that_names_it_and_no_key_error(file, tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(2000), np.ones((2000, 64), np.float32))
    for found in tmp_path.glob(file):
        found.unlink()

    def read():
        with ehub.open(tmp_path, read_only=True) as hub:
            hub.get_space("items").get(7)

    with pytest.raises(ehub.CorruptionError, match="missing") as caught:
        read()
    assert not isinstance(caught.value, KeyError)
    assert file.split("/")[0].rstrip("*") in str(caught.value) or "CURRENT" in str(caught.value)


def test_missing_vectors_of_the_log_are_corruption(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(2000), np.ones((2000, 64), np.float32))
        items.set(1, np.zeros(64))
        shutil.copytree(tmp_path / "hub", tmp_path / "killed")
    [file] = (tmp_path / "killed").glob("segments/*.f32")
    file.unlink()
    with pytest.raises(ehub.CorruptionError, match=file.name):
        ehub.open(tmp_path / "killed")


def test_a_write_to_a_hub_whose_directory_has_gone_is_a_storage_error(tmp_path):
    hub = ehub.open(tmp_path / "hub")
    items = hub.create_space("items", dims=64, metric="l2", key_type="int")
    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    for call in (lambda: items.multiset(np.arange(2000), np.ones((2000, 64))), hub.checkpoint):
        with pytest.raises(ehub.StorageError) as caught:
            call()
        assert caught.value.errno == errno.ENOENT
    (tmp_path / "elsewhere").rename(tmp_path / "hub")
    hub.close()


def test_another_format_version_is_refused(tmp_path):
    """The manifest's version is the 32 bits behind its checksum, which is made to fit."""
    _testing = pytest.importorskip("ehub._native._testing")
    ehub.open(tmp_path).close()
    manifest = max(tmp_path.glob("manifest-*"))
    data = manifest.read_bytes()
    covered = struct.pack("<IQ", 3, 4) + b"body"
    checksum = _testing.crc_mask(_testing.crc32c(covered))
    manifest.write_bytes(data[:8] + struct.pack("<I", checksum) + covered)
    with pytest.raises(ehub.FormatError, match="format version 3"):
        ehub.open(tmp_path)


def test_a_key_error_reads_like_a_sentence(tmp_path):
    with ehub.open(tmp_path) as hub, pytest.raises(KeyError) as caught:
        hub.get_space("it's")
    assert "it's" in str(caught.value)
    assert not str(caught.value).startswith(("'", '"'))


MISTAKES = {
    "restore(None)": (lambda s: s.restore(None), "None; expected a tag or a snapshot"),
    "diff(None)": (lambda s: s.diff(None), "None; expected a tag or a view"),
    "a tag's name for a snapshot": (
        lambda s: s.tag("new", "then"),
        "'then' is not a snapshot; exp",
    ),
    "a model's name for it": (lambda s: s.create_version("new", model="m"), "an ehub.Model"),
    "a space of it": (lambda s: s.hub.create_space("new", model="m"), "an ehub.Model"),
    "a model's dims": (lambda _: ehub.Model(name="m", dims=0), "dims is 0; expected 1 to"),
    "a model's metric": (lambda _: ehub.Model(name="m", metric="far"), "'far'; expected one of"),
    "normalized": (lambda _: ehub.Model(name="m", normalized="no"), "'no'; expected True, False"),
    "protect": (lambda s: s.alias("prod", "initial", protect="no"), "'no'; expected True or"),
    "require": (lambda s: s.promote("other", require=["cka"]), "expected a mapping such as"),
    "a bound": (lambda s: s.promote("other", require={"cka": "high"}), "'high'; expected a num"),
    "one of several versions": (
        lambda s: s.multiset(["a"], {"initial": [[1, 2]], "other": [[1, 2]]}),
        "for version 'other': vectors have shape",
    ),
    "a group that is read": (lambda s: s.averages("means").get(5), "'means' has str groups"),
    "a group": (lambda s: s.averages("means").update(5, ["a"]), "'means' has str groups"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_says_what_was_given_and_expected_and_nothing_changes(mistake, tmp_path):
    call, said = MISTAKES[mistake]
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", 2)
        items.multiset({"a": [1, 0]})
        items.tag("then")
        items.create_version("other", dims=3)
        items.create_average("means", {"g": ["a"]}).refresh()
        before = hub.info().seq
        with pytest.raises((ehub.EhubError, TypeError)) as caught:
            call(items)
        assert said in str(caught.value)
        assert hub.info().seq == before
        assert list(items.aliases()) == ["default"]
        assert (items.versions(), hub.spaces()) == (["initial", "other"], ["items"])


def test_the_native_layer_refuses_what_the_door_would_not_let_through(tmp_path):
    store = _store.Store(str(tmp_path))
    table = store.create_version("items", "initial", 2, "l2", "str")
    one = _store.Keys.of_objects(["a"], "str", "items")
    numbers = _store.Keys.of_objects([1], "int", "items")
    good = np.ones((1, 2), np.float32)
    view = table.view()
    everything = float("inf")
    calls = [
        (lambda: table.multiset(numbers, good), TypeError),
        (lambda: table.multiset(one, np.ones((2, 2), np.float32)), ValueError),
        (lambda: table.multiset(one, np.ones((1, 3), np.float32)), ValueError),
        (lambda: table.multiset(one, np.ones((1, 2))), ValueError),
        (lambda: table.multiset(one, good, ("us",)), TypeError),
        (lambda: table.multiset(one, good, (b"us",), np.zeros(2, np.uint32)), ValueError),
        (lambda: table.multiset(one, good, (b"us",), np.ones(1, np.uint32)), ValueError),
        (lambda: table.multiset(None, good), TypeError),
        (lambda: table.set("a", np.ones(3, np.float32)), TypeError),
        (lambda: table.set("a", np.ones(2)), TypeError),
        (lambda: table.set("a", [1, 2]), TypeError),
        (lambda: view.multiget(numbers), TypeError),
        (lambda: view.nearest(np.ones((1, 3), np.float32), 1, everything), ValueError),
        (lambda: view.nearest(good, 1, everything, table.view().select(one)), ValueError),
        (lambda: view.scan(0), ValueError),
        (lambda: _store.Store.__init__(store, str(tmp_path)), ValueError),
        (lambda: _store.Keys.of_utf8(np.array([0, 5]), np.zeros(3, np.uint8)), ValueError),
    ]
    for call, error in calls:
        with pytest.raises(error):
            call()
    assert table.row_count() == 0
    store.close()
