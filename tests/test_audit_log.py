"""The audit log proves that no line was changed, removed or moved, and survives crashes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ehub
from ehub.access import AuditLog, check, entries


@pytest.fixture
def log(tmp_path):
    """A log of twenty lines over several files; its hub's directory, and its head."""
    with_lines(tmp_path, 20)
    return tmp_path


def with_lines(hub, count, **options):
    opened = AuditLog(hub, **({"file_bytes_max": 1_000} | options))
    for number in range(count):
        opened.append({"action": "mutation", "principal": f"key:{number}", "rows": number})
    opened.close()
    return opened.head


def files(hub):
    return sorted((hub / "audit").glob("audit-*.jsonl"))


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_log_is_found_whole_over_all_its_files(log):
    report = check(log)
    assert report.findings == ()
    assert report.lines == 20
    assert report.head[0] == 20
    assert len(files(log)) > 3
    assert [entry["principal"] for entry in entries(log)] == [f"key:{n}" for n in range(20)]


def test_there_is_nothing_to_find_where_there_is_no_log(tmp_path):
    assert check(tmp_path) == check(tmp_path / "missing")
    assert check(tmp_path).lines == 0
    assert list(entries(tmp_path)) == []


def test_the_chain_goes_on_after_it_was_opened_again(log):
    before = check(log).head
    with_lines(log, 5)
    report = check(log, before)
    assert (report.findings, report.lines) == ((), 25)


def test_a_changed_byte_in_any_line_but_the_last_is_found(log):
    head = check(log).head
    for path in files(log):
        data = path.read_bytes()
        for place in range(0, len(data), 13):
            changed = bytearray(data)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert check(log, head).findings, (path.name, place)
        path.write_bytes(data)
    assert check(log, head).findings == ()


def test_a_removed_line_is_found(log):
    for path in files(log):
        whole = lines(path)
        for place in range(len(whole)):
            path.write_bytes(b"".join(whole[:place] + whole[place + 1 :]))
            is_last = path == files(log)[-1] and place == len(whole) - 1
            report = check(log)
            assert bool(report.findings) != is_last  # which only a known head can tell
        path.write_bytes(b"".join(whole))


def test_lines_that_changed_places_are_found(log):
    path = files(log)[1]
    first, second, *rest = lines(path)
    path.write_bytes(b"".join([second, first, *rest]))
    assert any("order" in one for one in check(log).findings)


def test_a_repeated_line_is_found(log):
    path = files(log)[-1]
    path.write_bytes(path.read_bytes() + lines(path)[-1])
    assert check(log).findings


def test_an_inserted_line_with_the_right_hash_is_found(log):
    path = files(log)[0]
    first, *rest = lines(path)
    forged = dict(json.loads(rest[0]), principal="key:innocent")
    path.write_bytes(b"".join([first, json.dumps(forged).encode() + b"\n", *rest[1:]]))
    assert any("changed" in one for one in check(log).findings)


def test_a_log_cut_off_at_the_end_is_found_by_a_known_head(log):
    head = check(log).head
    path = files(log)[-1]
    path.write_bytes(b"".join(lines(path)[:-1]))
    assert check(log).findings == ()
    assert any("cut off" in one for one in check(log, head).findings)


def test_a_log_written_anew_is_found_by_a_known_head(log, tmp_path):
    head = check(log).head
    for path in files(log):
        path.unlink()
    with_lines(log, 30)
    assert check(log).findings == ()
    assert any("another one" in one for one in check(log, head).findings)


def test_a_head_that_was_kept_elsewhere_is_not_hidden_by_another_of_its_number(log):
    head = check(log).head
    forged = (head[0], "0" * 64)
    for known in ((forged, head), (head, forged)):
        (finding,) = check(log, *known).findings
        assert "line 20 is another one" in finding
    assert check(log, head, head).findings == ()


def test_a_missing_file_is_found_wherever_it_was(log):
    for path in files(log)[:-1]:
        data = path.read_bytes()
        path.unlink()
        assert any("missing" in one for one in check(log).findings), path.name
        path.write_bytes(data)


def test_a_torn_line_is_no_finding_and_is_set_aside_at_the_next_open(log):
    path = files(log)[-1]
    path.write_bytes(path.read_bytes() + b'{"n":21,"prev":"')
    report = check(log)
    assert (report.findings, report.torn, report.lines) == ((), True, 20)
    with_lines(log, 1)
    report = check(log)
    assert (report.findings, report.torn, report.lines) == ((), False, 21)
    assert [one.read_bytes() for one in (log / "audit").glob("torn-*")] == [b'{"n":21,"prev":"']


def test_every_place_where_a_crash_can_cut_the_last_line_is_recovered(tmp_path):
    with_lines(tmp_path, 3, file_bytes_max=1 << 20)
    path = files(tmp_path)[0]
    data = path.read_bytes()
    start = len(data) - len(lines(path)[-1])
    for end in range(start, len(data)):
        path.write_bytes(data[:end])
        with_lines(tmp_path, 1, file_bytes_max=1 << 20)
        assert check(tmp_path).findings == ()
        assert check(tmp_path).lines == 3


def test_a_crash_right_after_a_rotation_leaves_an_empty_file_and_a_whole_chain(log):
    number = len(files(log)) + 1
    (log / "audit" / f"audit-{number:06d}.jsonl").touch()
    with_lines(log, 1)
    assert check(log).findings == ()
    assert check(log).lines == 21


def test_a_last_line_that_is_none_is_not_built_upon(log):
    path = files(log)[-1]
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ehub.CorruptionError, match="last line"):
        AuditLog(log)
    assert any("no line" in one for one in check(log).findings)


def test_lines_of_killed_processes_are_all_there(tmp_path):
    script = (
        "import os, sys; from ehub.access import AuditLog\n"
        "log = AuditLog(sys.argv[1])\n"
        "for n in range(100): log.append({'action': 'mutation', 'rows': n})\n"
        "os.kill(os.getpid(), 9)"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == -9
    report = check(tmp_path)
    assert (report.findings, report.lines) == ((), 300)


def test_many_threads_append_and_the_chain_holds(tmp_path):
    log = AuditLog(tmp_path, file_bytes_max=5_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append({"action": "x", "n2": n}), range(1_000)))
    log.close()
    report = check(tmp_path, log.head)
    assert (report.findings, report.lines) == ((), 1_000)
    assert sorted(entry["n2"] for entry in entries(tmp_path)) == list(range(1_000))


def test_what_a_caller_writes_cannot_end_a_line_or_pass_for_another(tmp_path):
    log = AuditLog(tmp_path)
    nasty = 'x\n{"n":2,"prev":"0"}\r\u2028"\0\ud800'
    log.append({"principal": nasty, "n": 99, "prev": "mine", "empty": "", "none": None})
    log.close()
    (entry,) = entries(tmp_path)
    assert (entry["n"], entry["prev"], entry["principal"]) == (1, "0" * 64, nasty)
    assert set(entry) == {"n", "prev", "time", "principal"}
    assert check(tmp_path).findings == ()


def test_a_failed_write_leaves_no_part_of_a_line(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    log.append({"action": "first"})
    real = os.write

    def short_then_full(descriptor, data):
        if len(data) > 20:
            return real(descriptor, data[:20])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("ehub.access.audit.os.write", short_then_full)
    with pytest.raises(OSError, match="full"):
        log.append({"action": "second"})
    monkeypatch.undo()
    log.append({"action": "third"})
    log.close()
    assert [entry["action"] for entry in entries(tmp_path)] == ["first", "third"]
    assert check(tmp_path).findings == ()


def test_a_durable_line_is_synced_before_the_call_returns(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    synced = []
    real = os.fsync
    monkeypatch.setattr("ehub.access.audit.os.fsync", lambda fd: (synced.append(fd), real(fd)))
    log.append({"action": "x"})
    assert synced == []
    log.append({"action": "grant"}, durable=True)
    assert len(synced) == 1
    log.close()


def test_a_file_that_could_not_be_begun_leaves_no_gap_in_their_numbers(tmp_path, monkeypatch):
    log = AuditLog(tmp_path, file_bytes_max=1)
    log.append({"action": "first"})
    real = os.open

    def no_descriptor_left(path, *flags):
        if str(path).endswith(".jsonl"):
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, *flags)

    monkeypatch.setattr("ehub.access.audit.os.open", no_descriptor_left)
    for _ in range(3):
        with pytest.raises(OSError, match="too many"):
            log.append({"action": "lost"})
    monkeypatch.undo()
    log.append({"action": "second"})
    log.close()
    assert [path.name for path in files(tmp_path)] == ["audit-000001.jsonl", "audit-000002.jsonl"]
    assert check(tmp_path).findings == ()


def test_lines_are_synced_again_after_a_sync_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("ehub.access.audit.SYNC_SECONDS", 0.01)
    log = AuditLog(tmp_path)
    synced, fails = threading.Event(), [OSError(errno.EMFILE, "full")] * 2

    def sync(descriptor):
        if fails:
            raise fails.pop()
        synced.set()

    monkeypatch.setattr("ehub.access.audit.os.fsync", sync)
    log.append({"action": "x"})
    assert synced.wait(30)
    log.close()


def test_the_head_of_a_sync_is_on_the_disk(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    log.append({"action": "first"})
    monkeypatch.setattr("ehub.access.audit.os.fsync", lambda fd: log.append({"action": "later"}))
    synced = log.sync()
    monkeypatch.undo()
    assert synced[0] == 1
    assert log.head[0] == 2
    log.close()
    assert check(tmp_path, synced).findings == ()


def test_a_closed_log_takes_no_lines(tmp_path):
    log = AuditLog(tmp_path)
    log.close()
    log.close()
    with pytest.raises(ehub.ClosedError):
        log.append({"action": "x"})


def test_the_engine_leaves_the_log_alone(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2)
        head = with_lines(tmp_path / "hub", 10)
        items.multiset({"a": [1, 0]})
        items.delete("a")
        items.compact()
        hub.checkpoint()
        assert hub.verify().findings == ()
    with ehub.open(tmp_path / "hub") as hub:
        hub.checkpoint()
    ehub.repair(tmp_path / "hub")
    report = check(tmp_path / "hub", head)
    assert (report.findings, report.lines) == ((), 10)


def test_only_the_owner_can_read_it(tmp_path):
    with_lines(tmp_path, 1)
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0
    assert [path for path in files(tmp_path) if path.stat().st_mode & 0o077] == []


def test_odd_files_beside_the_log_are_not_of_it(log):
    for name in ("audit-x.jsonl", "audit-.jsonl", "audit-1.txt", "notes.jsonl"):
        Path(log, "audit", name).write_text("?\n")
    assert check(log).findings == ()
