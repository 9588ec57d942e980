"""The commands print what the hub holds and end with the promised exit code.

Commands run in this process through `ehub.cli.run`, as the console script does; what concerns a
process (pipes, signals, the terminal) runs in one of its own.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub.cli import output

PACKAGE_PARENT = Path(ehub.__file__).parent.parent
COMMANDS = [
    "import",
    "export",
    "info",
    "spaces",
    "partitions",
    "subindices",
    "get",
    "search",
    "average",
    "tag",
    "untag",
    "tags",
    "snapshot",
    "restore",
    "fork",
    "diff",
    "versions",
    "freeze",
    "delete-version",
    "aliases",
    "alias",
    "promote",
    "rollback",
    "compare",
    "drift",
    "verify",
    "repair",
    "compact",
    "backup",
    "backups",
    "restore-backup",
    "prune-backups",
    "erase",
    "delete-space",
    "demo",
    "bench",
    "serve",
    "top",
    "auth",
    "audit",
]


def process(*arguments, through=(), **options):
    """A command as a process of its own, which writes bytes; maybe through another program."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT), "NO_COLOR": "1"}
    command = [*through, sys.executable, "-m", "ehub.cli", *map(str, arguments)]
    return subprocess.Popen(command, env=env, **options)


@pytest.fixture
def fruit(tmp_path):
    """A hub with a space of fruit and one of numbered points."""
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        food = hub.create_space("fruit", dims=3, metric="cosine")
        food.multiset({"apple": [1, 0, 0], "pear": [0.9, 0.1, 0], "plum": [0, 0, 1]})
        points = hub.create_space("points", dims=2, metric="l2", key_type="int")
        points.multiset([1, 2, 3, -4], np.array([[0, 0], [1, 0], [0, 2], [9, 9]], np.float32))
    return path


# --- help and usage ---


def test_version_is_that_of_the_package(cli):
    assert cli("--version").out == f"ehub {ehub.__version__}\n"


def test_python_runs_it_by_the_name_of_the_package():
    command = [sys.executable, "-m", "ehub", "--version"]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT)}
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert out == f"ehub {ehub.__version__}\n"


def test_to_import_every_module_runs_no_command():
    """As tools do that look for modules."""
    for name in ("ehub.__main__", "ehub.server.__main__"):
        importlib.import_module(name)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli, command):
    outcome = cli(command, "--help")
    assert outcome.code == 0
    assert "Usage: ehub" in outcome.out


def test_help_lists_all_commands_and_the_exit_codes(cli):
    out = cli("--help").out
    assert [command for command in COMMANDS if command not in out] == []
    assert "130" in out


def test_no_command_shows_the_help(cli):
    outcome = cli()
    assert outcome.code == 2
    assert outcome.out == cli("--help").out
    assert outcome.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["info"],
        ["info", "--nonsense", "hub"],
        ["import", "hub", "--space", "s"],
        ["import", "hub", "missing.npy", "--space", "s"],
        ["search", "hub", "s"],
        ["search", "hub", "s", "--key", "a", "--vector", "[1]"],
        ["search", "hub", "s", "--key", "a", "-k", "0"],
        ["search", "hub", "s", "--vector", "one"],
        ["search", "hub", "s", "--vector", "missing.npy"],
        ["search", "hub", "s", "--vector", "[" * 100_000],
        ["info", ""],
        ["import", "", "--space", "s", __file__],
        ["export", "hub", "x.docx", "--space", "s"],
        ["export", "hub", "-", "--space", "s", "--json"],
        ["demo", "--rows", "1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_one_line(cli, arguments, fruit, monkeypatch):
    monkeypatch.chdir(fruit.parent)
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err
    assert "--help" in outcome.err


# --- info and spaces ---


def test_info_shows_each_space_on_a_line(cli, fruit):
    outcome = cli("info", fruit)
    assert outcome.code == 0
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    assert [line[:5] for line in lines] == [
        ["fruit", "3", "3", "cosine", "str"],
        ["points", "4", "2", "l2", "int"],
    ]


def test_info_as_json_has_all_of_it(cli, fruit):
    document = cli("info", fruit, "--json").json
    assert document["hub"] == str(fruit)
    assert document["bytes_on_disk"] > 0
    fruit_space, points = document["spaces"]
    assert fruit_space["name"] == "fruit"
    assert (fruit_space["rows"], fruit_space["dims"], fruit_space["metric"]) == (3, 3, "cosine")
    assert (points["rows"], points["key_type"]) == (4, "int")


def test_an_environment_variable_names_the_hub(cli, fruit, monkeypatch):
    monkeypatch.setenv("EMBEDDINGHUB_DATA", str(fruit))
    assert cli("spaces").out == "fruit\npoints\n"
    assert cli("spaces", "--json").json == ["fruit", "points"]


def test_commands_that_read_do_so_beside_a_writer(cli, fruit):
    with ehub.open(fruit) as hub:
        hub.get_space("fruit").set("fig", [1, 1, 1])
        assert cli("info", fruit).out.startswith("fruit\t4\t")
        assert cli("get", fruit, "fruit", "fig").code == 0


@pytest.mark.parametrize(
    "command",
    [["info"], ["spaces"], ["verify"], ["repair"], ["compact"], ["delete-space", "--yes", "s"]],
)
def test_a_mistyped_hub_is_an_error_and_is_not_made(cli, tmp_path, command):
    missing = tmp_path / "typo"
    outcome = cli(command[0], missing, *reversed(command[1:]))
    assert outcome.code == 1
    assert "typo" in outcome.err
    assert not missing.exists()


# --- get ---


def test_get_prints_key_and_vector_per_line(cli, fruit):
    outcome = cli("get", fruit, "fruit", "plum", "apple")
    assert outcome.code == 0
    assert outcome.out == "plum\t[0.0, 0.0, 1.0]\napple\t[1.0, 0.0, 0.0]\n"


def test_get_as_json_gives_the_same_float32_back(cli, tmp_path):
    vectors = np.random.default_rng(5).standard_normal((4, 50)).astype(np.float32)
    with ehub.open(tmp_path / "hub") as hub:
        hub.create_space("s", dims=50, metric="l2").multiset(list("abcd"), vectors)
    rows = cli("get", tmp_path / "hub", "s", *"abcd", "--json").json["rows"]
    assert [row["key"] for row in rows] == list("abcd")
    assert np.array([row["vector"] for row in rows], np.float32).tobytes() == vectors.tobytes()


def test_get_of_integer_keys(cli, fruit):
    document = cli("get", fruit, "points", "3", "--json", "--", "-4").json
    assert document["rows"] == [
        {"key": 3, "vector": [0.0, 2.0]},
        {"key": -4, "vector": [9.0, 9.0]},
    ]


def test_a_text_is_no_key_where_keys_are_integers(cli, fruit):
    outcome = cli("get", fruit, "points", "three")
    assert outcome.code == 2
    assert "'three' is not an integer" in outcome.err


def test_a_missing_key_is_named(cli, fruit):
    outcome = cli("get", fruit, "fruit", "apple", "aple")
    assert outcome.code == 1
    assert outcome.out == ""
    assert "aple" in outcome.err


def test_a_mistyped_space_brings_up_close_names(cli, fruit):
    outcome = cli("get", fruit, "friut", "apple")
    assert outcome.code == 1
    assert "no space 'friut'" in outcome.err
    assert "did you mean 'fruit'?" in outcome.err


def test_an_unknown_space_brings_up_all_names(cli, fruit):
    assert "fruit, points" in cli("get", fruit, "zzz", "apple").err


def test_keys_cannot_break_lines_or_fields_of_plain_output(cli, tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        hub.create_space("s", dims=1, metric="l2").set("a\tb\nc\\d\x1b", [1])
    assert cli("get", tmp_path / "hub", "s", "a\tb\nc\\d\x1b").out == "a\\tb\\nc\\\\d\\x1b\t[1.0]\n"


# --- search ---


def test_search_by_key_leaves_the_key_out(cli, fruit):
    outcome = cli("search", fruit, "fruit", "--key", "apple", "-k", "5")
    keys = [line.split("\t")[0] for line in outcome.out.splitlines()]
    assert keys == ["pear", "plum"]


def test_search_by_json_vector_gives_distances(cli, fruit):
    document = cli("search", fruit, "points", "--vector", "[0, 1]", "-k", "3", "--json").json
    assert document["metric"] == "l2"
    assert {(found["key"], found["distance"]) for found in document["neighbors"]} == {
        (1, 1.0),
        (3, 1.0),
        (2, 2.0),
    }


def test_search_takes_a_npy_file(cli, fruit, tmp_path):
    np.save(tmp_path / "q.npy", np.array([[0.0, 0.0, 2.0]]))
    outcome = cli("search", fruit, "fruit", "--vector", tmp_path / "q.npy", "-k", "1")
    assert outcome.out == "plum\t0\n"


def test_search_reads_a_vector_from_standard_input(fruit):
    done = process(
        *("search", fruit, "fruit", "--vector", "-", "-k", "1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    out, _ = done.communicate(b"[0, 0, 3]", timeout=60)
    assert out == b"plum\t0\n"


def test_partitions_are_listed_with_their_counts(cli, tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        items.multiset(list("abc"), np.eye(3, 2), partition=["us", "eu", "us"])
        items.set("d", [5, 5])
    assert cli("partitions", tmp_path, "items").out == "eu\t1\nus\t2\n"
    assert cli("partitions", tmp_path, "items", "--json").json == {
        "space": "items",
        "partitions": {"us": 2, "eu": 1},
    }


def test_search_can_be_kept_to_partitions(cli, tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", 2, metric="l2")
        items.multiset(list("abc"), np.eye(3, 2), partition=["us", "eu", "asia"])

    def keys(*options):
        lines = cli("search", tmp_path, "items", "--vector", "[1, 0]", *options).out.splitlines()
        return [line.split("\t")[0] for line in lines]

    assert keys("--partition", "eu") == ["b"]
    assert keys("--partition", "eu", "--partition", "asia") == ["c", "b"]
    assert keys() == ["a", "c", "b"]
    failed = cli("search", tmp_path, "items", "--vector", "[1, 0]", "--partition", "x")
    assert failed.code == 1
    assert "no partition 'x'" in failed.err


def test_search_leaves_out_what_is_too_far(cli, fruit):
    outcome = cli("search", fruit, "points", "--key", "1", "--max-distance", "1.5")
    assert outcome.out == "2\t1\n"


def test_a_vector_of_other_dims_is_an_error_of_one_line(cli, fruit):
    outcome = cli("search", fruit, "fruit", "--vector", "[1, 2]")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "3" in outcome.err
    assert "Traceback" not in outcome.err


BAD_VECTORS = {
    "empty": b"",
    "text": b"[1, 2, 3]",
    "pickled": b"\x80\x04N.",
    "truncated": b"\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
}


@pytest.mark.parametrize("name", BAD_VECTORS)
def test_a_bad_npy_file_of_a_vector_is_an_error_of_one_line(cli, fruit, tmp_path, name):
    (tmp_path / "q.npy").write_bytes(BAD_VECTORS[name])
    outcome = cli("search", fruit, "fruit", "--vector", tmp_path / "q.npy")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"error: {tmp_path}/q.npy: damaged, or not of the format")


def test_a_number_too_large_for_float32_is_an_error_of_one_line(cli, fruit):
    outcome = cli("search", fruit, "fruit", "--vector", "[1, 0, 1e39]")
    assert outcome.code == 1
    assert outcome.err == "error: the vector has a number that is too large for float32\n"


# --- upkeep ---


def test_verify_of_a_sound_hub_says_ok(cli, fruit):
    outcome = cli("verify", fruit)
    assert outcome.code == 0
    assert outcome.out.startswith("ok: ")
    assert cli("verify", fruit, "--json").json["findings"] == []


@pytest.fixture
def damaged(tmp_path):
    """A hub with a flipped bit in a file of vectors; and that file."""
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(2000), np.random.default_rng(3).random((2000, 64), np.float32))
        hub.checkpoint()
    [file] = (path / "segments").glob("*.f32")
    data = bytearray(file.read_bytes())
    data[200_000] ^= 4
    file.write_bytes(data)
    return path, file


def test_verify_names_the_damaged_file_and_exits_with_1(cli, damaged):
    path, file = damaged
    outcome = cli("verify", path)
    assert outcome.code == 1
    assert file.name in outcome.out
    findings = cli("verify", path, "--json").json["findings"]
    assert any(file.name in finding["path"] + finding["what"] for finding in findings)


@pytest.mark.parametrize("pattern", ["manifest-*", "wal/*.log", "CURRENT"])
def test_verify_of_a_hub_that_does_not_open_is_a_finding(cli, damaged, pattern):
    path, _ = damaged
    for file in path.glob(pattern):
        file.write_bytes(b"x" * file.stat().st_size)
    outcome = cli("verify", path)
    assert outcome.code == 1
    assert file.name in outcome.out
    assert "ehub repair" in outcome.err
    assert "ehub verify" not in outcome.err
    outcome = cli("verify", path, "--json")
    assert outcome.code == 1
    [finding] = outcome.json["findings"]
    assert finding["path"] == str(file)
    assert finding["what"].startswith("damaged at byte 0: ")


def test_a_command_that_meets_damage_says_what_to_do(cli, damaged, tmp_path):
    path, file = damaged
    outcome = cli("export", path, tmp_path / "out.npy", "--space", "items")
    assert outcome.code == 1
    assert file.name in outcome.err
    assert "ehub verify" in outcome.err
    assert not list(tmp_path.glob("*out*"))


def test_repair_keeps_what_is_sound(cli, damaged):
    path, _ = damaged
    outcome = cli("repair", path, "--yes", "--json")
    assert outcome.code == 0
    report = outcome.json
    assert report["rows_kept"] + report["rows_dropped"] == 2000
    assert 0 < report["rows_dropped"] < 2000
    assert report["batches_dropped"] == 0
    assert cli("verify", path).code == 0
    assert cli("info", path).out.split("\t")[1] == str(report["rows_kept"])


def test_repair_says_when_it_is_not_known_how_much_is_gone(cli, tmp_path):
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        hub.create_space("items", dims=2).set("a", [1, 2])
    [log] = path.glob("wal/*.log")
    content = bytearray(log.read_bytes())
    content[content.rindex(b"EHWR") + 50] ^= 1
    log.write_bytes(content)
    outcome = cli("repair", path, "--yes")
    assert outcome.code == 0
    assert "0 rows kept, 0 rows dropped\nbatches dropped: 1; how many rows" in outcome.out


def test_repair_asks_first_and_takes_silence_for_no(damaged):
    path, file = damaged
    before = file.read_bytes()
    asked = process(
        "repair", path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, err = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert b"nothing was changed" in err
    assert file.read_bytes() == before


def test_compact_frees_what_overwrites_left(cli, tmp_path):
    path = tmp_path / "hub"
    vectors = np.random.default_rng(3).random((2000, 64), np.float32)
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=64, metric="l2", key_type="int")
        for _ in range(4):
            items.multiset(np.arange(2000), vectors)
    outcome = cli("compact", path, "items", "--json")
    assert outcome.code == 0
    assert outcome.json["spaces"] == ["items"]
    assert outcome.json["bytes_after"] < outcome.json["bytes_before"]
    with ehub.open(path, read_only=True) as hub:
        assert np.array_equal(hub.get_space("items").multiget(np.arange(2000)), vectors)


def test_delete_space_asks_for_confirmation(cli, fruit, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert cli("delete-space", fruit, "fruit").code == 1
    assert cli("spaces", fruit).out == "fruit\npoints\n"
    assert cli("delete-space", fruit, "fruit", "--yes").code == 0
    assert cli("spaces", fruit).out == "points\n"


def test_a_locked_hub_names_its_holder(cli, fruit):
    with ehub.open(fruit):
        outcome = cli("compact", fruit)
    assert outcome.code == 1
    assert str(os.getpid()) in outcome.err
    assert "one process writes at a time" in outcome.err


def test_an_import_on_a_full_disk_says_what_is_stored_though_closing_fails(
    cli, tmp_path, monkeypatch
):
    def fail(*_):
        raise ehub.StorageError(errno.ENOSPC, "the disk is full")

    np.save(tmp_path / "v.npy", np.ones((257, 3), np.float32))
    store = ehub.Space.multiset
    monkeypatch.setattr(ehub.Hub, "close", fail)
    monkeypatch.setattr(
        ehub.Space,
        "multiset",
        lambda self, *rows: (store if len(self) < 100 else fail)(self, *rows),
    )
    command = ["import", tmp_path / "hub", tmp_path / "v.npy", "--space", "s"]
    outcome = cli(*command, "--batch-rows", "50")
    assert outcome.code == 1
    assert "error: [Errno 28] the disk is full\n" in outcome.err
    assert "100 rows are stored, whole batches; to go on: --resume" in outcome.err


# --- a terminal, a pipe ---


def test_a_terminal_gets_a_table_with_a_header(fruit):
    controller, terminal = pty.openpty()
    shown = process("info", fruit, stdout=terminal)
    assert shown.wait(timeout=60) == 0
    os.close(terminal)
    text = os.read(controller, 65536).decode()
    os.close(controller)
    assert "space" in text
    assert "metric" in text
    assert "\t" not in text


def test_a_reader_that_stops_early_causes_no_noise(tmp_path):
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(4000), np.ones((4000, 64), np.float32))
    writer = process(
        *("export", path, "-", "--space", "items"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout.readline().startswith(b"key,v0,v1,")
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(timeout=60) == 141
    assert err == b""


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_closed_streams_neither_stop_a_command_nor_become_files_of_the_hub(tmp_path, closed):
    (tmp_path / "f.csv").write_text("id,x\na,1\nb,2\n")
    path = tmp_path / "hub"
    commands = [
        ["import", path, tmp_path / "f.csv", "--space", "s", "--metric", "l2"],
        ["verify", path],
        ["search", path, "s", "--key", "a"],
        ["export", path, "-", "--space", "s"],
    ]
    # A shell closes them: this process, which has threads of gRPC's, is not forked.
    shell = ["sh", "-c", 'exec "$@" ' + " ".join(f"{stream}>&-" for stream in closed), "sh"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for command in commands:
        assert process(*command, **streams, through=shell).wait(timeout=60) == 0
    with ehub.open(path, read_only=True) as hub:
        assert sorted(hub.get_space("s")) == ["a", "b"]


def test_numbers_of_bytes_are_short():
    sizes = [0, 999, 1000, 1_234_567, 5e9, 7e12]
    assert [output.bytes_text(size) for size in sizes] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "5.0 GB",
        "7.0 TB",
    ]
