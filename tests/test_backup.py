"""A backup is the hub as it was, moves only what is new, and a restore is that hub or nothing."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from backups import DIMS, contents, filled, keys, vectors
from obstore.store import MemoryStore

import ehub
from ehub.access.audit import AuditLog
from ehub.backup import chunks, cutting, lease, making, record
from ehub.backup.cutting import pieces_of
from ehub.backup.place import Place, open_place
from ehub.backup.pruning import chosen
from ehub.backup.record import Backup


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hub"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "backups"


def objects(place: Path) -> list[Path]:
    return sorted(path for path in (place / "chunks").rglob("*") if path.is_file())


def restored(where, to: Path, **options) -> dict[str, object]:
    ehub.restore(where, to, **options)
    with ehub.open(to) as hub:
        assert hub.verify().findings == ()
        return contents(hub)


# --- what a backup has ---


def test_a_restored_hub_is_the_one_that_was_backed_up(path, place, tmp_path):
    with filled(path) as hub:
        made = hub.backup(place)
        expected = contents(hub)
        seq = hub.info().seq
        hub.get_space("items").set("later", [0] * DIMS)
    assert (made.number, made.seq) == (1, seq)
    assert restored(place, tmp_path / "new") == expected
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if p.name != "index") == [
        "CURRENT",
        "LOCK",
        "RESERVE",
        next((tmp_path / "new").glob("manifest-*")).name,
        "segments",
        "wal",
    ]


def test_a_hub_that_is_closed_or_read_only_is_backed_up_as_well(path, place, tmp_path):
    with filled(path) as hub:
        expected = contents(hub)
        with ehub.open(path, read_only=True) as reader:
            reader.backup(place)
    with ehub.open(path, read_only=True) as reader:
        reader.backup(place)
    assert restored(place, tmp_path / "beside", number=1) == expected
    assert restored(place, tmp_path / "closed", number=2) == expected


@pytest.mark.parametrize("index", [True, False])
def test_graphs_are_copied_if_they_are_wanted(path, place, tmp_path, index):
    with ehub.open(path) as hub:
        items = hub.create_space("items", 16)
        items.multiset(keys(0, 5000), vectors(5000, 1, 16))
        items.wait_indexed()
        hub.backup(place, index=index)
        hub.backup(place, index=index)
    ehub.restore(place, tmp_path / "new")
    with ehub.open(tmp_path / "new", read_only=True) as hub:
        assert hub.get_space("items").index_stats().segments == int(index)


def test_the_audit_log_is_copied_up_to_its_last_whole_line(path, place, tmp_path):
    ehub.open(path).close()
    log = AuditLog(path)
    log.append({"verb": "write"})
    log.close()
    file = path / "audit" / "audit-000001.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"n": 2, "pre')
    with ehub.open(path, read_only=True) as hub:
        hub.backup(place)
    ehub.restore(place, tmp_path / "new")
    copy = tmp_path / "new" / "audit" / file.name
    assert copy.read_bytes() == whole
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_backup_beside_a_writer_has_whole_batches_and_all_that_were_acknowledged(path, tmp_path):
    store = MemoryStore()
    batch, written, stop = 200, [0], threading.Event()
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)

        def write() -> None:
            while not stop.is_set():
                n = written[0]
                items.multiset(keys(n * batch, batch), vectors(batch, n))
                written[0] = n + 1
                if n % 7 == 0:
                    hub.checkpoint()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(1, 9):
                before = written[0]
                hub.backup(store)
                after = written[0] + 1
                ehub.restore(store, tmp_path / str(number))
                with ehub.open(tmp_path / str(number)) as copy:
                    batches, rest = divmod(len(copy.get_space("items")), batch)
                assert rest == 0
                assert before <= batches <= after
        finally:
            stop.set()
            writer.join()


def test_vectors_that_only_a_log_has_are_copied_though_they_are_merged(path, place, monkeypatch):
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        items.multiset(keys(0, 5_000), vectors(5_000, 0))
        expected = contents(hub)
        [growing] = path.glob("segments/*.f32")

        def merge(*_):
            hub.checkpoint()
            items.multidelete(keys(0, 4_000))
            items.compact()
            assert not growing.exists()

        monkeypatch.setattr(making.Making, "_require_sound", merge)
        hub.backup(place)
    assert restored(place, path.with_name("new")) == expected


def test_a_restored_hub_goes_on_in_the_same_place(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
    ehub.restore(place, tmp_path / "new")
    with ehub.open(tmp_path / "new") as hub:
        hub.get_space("items").set("more", [1] * DIMS)
        made = hub.backup(place)
        expected = contents(hub)
    assert made.number == 2
    assert made.bytes_moved < made.bytes / 2
    assert restored(place, tmp_path / "again") == expected


# --- what is moved ---


@pytest.mark.parametrize("sealed", [True, False])
def test_one_percent_of_new_rows_moves_two_percent_at_most(path, place, sealed):
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        items.multiset(keys(0, 60_000), vectors(60_000, 1))
        if sealed:
            items.wait_indexed()
        first = hub.backup(place)
        items.multiset(keys(60_000, 600), vectors(600, 2))
        second = hub.backup(place)
        third = hub.backup(place)
    assert first.bytes_moved > 0.9 * first.bytes
    assert second.bytes_moved <= 0.02 * second.bytes
    assert third.bytes_moved == 0


def test_vectors_that_were_merged_are_not_moved_again(path, place):
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        for part in range(4):
            items.multiset(keys(part * 5000, 5000), vectors(5000, part))
            hub.checkpoint()
        first = hub.backup(place, index=False)
        items.optimize()
        assert len(items.stats().segments) == 1
        second = hub.backup(place, index=False)
    assert second.bytes_moved < 0.35 * first.bytes_moved  # a piece or two at each seam


def test_an_object_that_was_lost_or_cut_short_is_put_there_again(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
        largest = sorted(objects(place), key=lambda file: file.stat().st_size)[-2:]
        largest[0].unlink()
        largest[1].write_bytes(b"")
        hub.backup(place)
        expected = contents(hub)
    assert restored(place, tmp_path / "one", number=1) == expected
    assert restored(place, tmp_path / "two", number=2) == expected


def test_pieces_are_the_file_and_stay_the_same_as_it_grows():
    data = vectors(20_000, 1).tobytes()
    row_bytes = DIMS * 4
    pieces = list(pieces_of(io.BytesIO(data), len(data), row_bytes))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= cutting.PIECE_BYTES_MAX
    assert all(len(piece) % row_bytes == 0 for piece in pieces)
    grown = list(pieces_of(io.BytesIO(data + data[:999]), len(data) + 999, 0))
    assert b"".join(grown) == data + data[:999]
    more = data + vectors(3000, 2).tobytes()
    again = list(pieces_of(io.BytesIO(more), len(more), row_bytes))
    assert again[: len(pieces) - 1] == pieces[:-1]


@pytest.mark.parametrize("dims", [1, 7, 65_535])
def test_pieces_of_equal_or_very_long_rows_have_bounds(dims):
    data = bytes(dims * 4 * 40) + vectors(3_000_000 // dims + 1, 1, dims).tobytes()
    pieces = list(pieces_of(io.BytesIO(data), len(data), dims * 4))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= cutting.PIECE_BYTES_MAX


# --- damage ---


def test_each_damaged_or_missing_object_is_named_and_nothing_is_left(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
    for number, file in enumerate(objects(place)):
        whole = file.read_bytes()
        name = f"chunks/{file.parent.name}/{file.name}"
        middle = len(whole) // 2
        spoilt = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damaged in (spoilt, whole[:-1], whole + b"x", None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            with pytest.raises(ehub.CorruptionError, match=name):
                ehub.restore(place, tmp_path / f"new{number}")
            assert not (tmp_path / f"new{number}").exists()
        file.write_bytes(whole)
    ehub.restore(place, tmp_path / "new")


def test_a_damaged_record_is_named_and_concerns_no_other_backup(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
        expected = contents(hub)
        hub.backup(place)
        file = place / record.path_of(2)
        for damaged in (file.read_bytes().replace(b'"seq": ', b'"seq": 1'), b"", b"{}", b"[1]"):
            file.write_bytes(damaged)
            with pytest.raises(ehub.CorruptionError, match="00000002"):
                ehub.restore(place, tmp_path / "bad")
            with pytest.raises(ehub.CorruptionError, match="00000002"):
                ehub.backups(place)
            with pytest.raises(ehub.CorruptionError, match="00000002"):
                ehub.prune_backups(place, keep_last=1)
        assert hub.backup(place).number == 3
    assert restored(place, tmp_path / "one", number=1) == expected
    assert restored(place, tmp_path / "three") == expected


def test_no_file_is_written_that_a_hub_does_not_have(path, place, tmp_path):
    with ehub.open(path) as hub:
        hub.backup(place)
    where = open_place(place)
    made = record.read(where, 1)
    entries = record.files_in(where, made)
    entries[0] = record.FileEntry("wal/../../evil", entries[0].bytes, "", entries[0].chunks)
    chunk, data = chunks.packed(record.lines_of(entries), compress=True)
    where.put(chunk.path, data)
    where.put(
        record.path_of(2),
        record.written(record.Record(Backup(2, made.backup.time, 0, 1, 1, 1), made.hub, (chunk,))),
    )
    with pytest.raises(ehub.CorruptionError, match="evil"):
        ehub.restore(place, tmp_path / "a" / "new")
    assert not (tmp_path / "evil").exists()


def test_a_hub_that_is_damaged_where_no_backup_has_it_is_not_backed_up(path, place, tmp_path):
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        items.multiset(keys(0, 2000), vectors(2000, 1))
        hub.checkpoint()
        hub.backup(place)
        expected = contents(hub)
        items.multiset(keys(2000, 2000), vectors(2000, 2))
        hub.checkpoint()
    file = sorted((path / "segments").glob("*.f32"))[-1]
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with (
        ehub.open(path, read_only=True) as hub,
        pytest.raises(ehub.CorruptionError, match=file.name),
    ):
        hub.backup(place)
    assert [one.number for one in ehub.backups(place)] == [1]
    assert restored(place, tmp_path / "new") == expected


# --- where it is restored to ---


def test_a_directory_with_anything_in_it_is_refused(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
    for name in ("CURRENT", "notes.txt", "segments", "restoring/mine"):
        target = tmp_path / f"for {name}".replace("/", "-")
        (target / name).parent.mkdir(parents=True)
        (target / name).write_text("mine")
        with pytest.raises(ehub.ExistsError, match="not empty"):
            ehub.restore(place, target)
        assert (target / name).read_text() == "mine"
    with pytest.raises(ehub.ExistsError):
        ehub.restore(place, path)
    (tmp_path / "empty").mkdir()
    ehub.restore(place, tmp_path / "empty")


def test_two_restores_do_not_meet(path, place, tmp_path):
    with filled(path) as hub:
        hub.backup(place)
    outcomes: list[object] = []

    def restore() -> None:
        try:
            outcomes.append(ehub.restore(place, tmp_path / "new").number)
        except (ehub.LockedError, ehub.ExistsError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=restore) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(1) == 1
    with ehub.open(tmp_path / "new") as hub:
        assert hub.verify().findings == ()


def test_what_is_not_there_is_said(path, place, tmp_path):
    with pytest.raises(ehub.NotFoundError, match="no directory"):
        ehub.backups(place)
    with pytest.raises(ehub.NotFoundError, match="no directory"):
        ehub.restore(place, tmp_path / "new")
    place.mkdir()
    assert ehub.backups(place) == []
    with pytest.raises(ehub.NotFoundError, match="no backups"):
        ehub.restore(place, tmp_path / "new")
    with ehub.open(path) as hub:
        hub.backup(place)
    with pytest.raises(ehub.NotFoundError, match="no backup 7"):
        ehub.restore(place, tmp_path / "new", number=7)
    with pytest.raises(TypeError, match="number"):
        ehub.restore(place, tmp_path / "new", number="7")
    assert not (tmp_path / "new").exists()


# --- places ---


@pytest.mark.parametrize("url", ["s3://who:secret@bucket/x", "s3://bucket/x?key=secret"])
def test_a_url_has_no_credentials(path, url):
    with ehub.open(path) as hub, pytest.raises(ehub.InvalidArgumentError) as caught:
        hub.backup(url)
    assert "environment" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://", "what://bucket", "", "a\0b"])
def test_a_place_that_can_be_none_is_refused(path, url):
    with ehub.open(path) as hub, pytest.raises(ehub.InvalidArgumentError):
        hub.backup(url)


def test_the_hub_is_no_place_for_its_own_backups(path):
    with ehub.open(path) as hub:
        for inside in (path, path / "x", f"file://{path}/x"):
            with pytest.raises(ehub.InvalidArgumentError, match="in the hub itself"):
                hub.backup(inside)
    assert not (path / "x").exists()


def test_each_hub_has_a_place_of_its_own(path, place, tmp_path):
    with ehub.open(path) as hub:
        hub.backup(place)
    with (
        ehub.open(tmp_path / "other") as other,
        pytest.raises(ehub.ConflictError, match="another hub"),
    ):
        other.backup(place)


def test_without_the_extra_the_error_says_what_to_install(path, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with (
        ehub.open(path) as hub,
        pytest.raises(ehub.UnavailableError, match=r"ehub\[backup\]"),
    ):
        hub.backup(place)


# --- several at once ---


def test_backups_at_once_have_numbers_of_their_own(path, tmp_path):
    store, numbers = MemoryStore(), []
    with filled(path) as hub:
        expected = contents(hub)
        threads = [
            threading.Thread(target=lambda: numbers.append(hub.backup(store).number))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(numbers) == [1, 2, 3, 4]
    for number in numbers:
        assert restored(store, tmp_path / str(number), number=number) == expected


def test_a_pruning_and_a_backup_exclude_each_other(path, place):
    with ehub.open(path) as hub:
        hub.backup(place)
        where = open_place(place)
        with lease.leased(where, "backup"), pytest.raises(ehub.ConflictError, match="a backup is"):
            ehub.prune_backups(place, keep_last=1)
        with lease.leased(where, "prune"):
            with pytest.raises(ehub.ConflictError, match="a prune is"):
                hub.backup(place)
            with pytest.raises(ehub.ConflictError, match="a prune is"):
                ehub.prune_backups(place, keep_last=1)
        assert where.objects("locks") == {}
        ehub.prune_backups(place, keep_last=1)
        hub.backup(place)


def test_a_lease_is_renewed_while_it_is_held(place, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    place.mkdir()
    where = open_place(place)
    with lease.leased(where, "backup") as held:
        (first,) = where.objects("locks").values()
        time.sleep(1.2)
        held.require()
        (later,) = where.objects("locks").values()
        assert later.modified > first.modified
    assert where.objects("locks") == {}


@pytest.mark.parametrize("how", ["dead", "late"])
def test_a_lease_of_somebody_who_died_is_of_no_account(path, place, monkeypatch, how):
    with ehub.open(path) as hub:
        hub.backup(place)
        where = open_place(place)
        said = lease.this_process()
        if how == "dead":
            said["started"] = "1"
        else:
            monkeypatch.setattr(lease, "LEASE_SECONDS", -1.0)
        where.put("locks/prune-0.json", json.dumps(said).encode())
        if how == "late":
            with pytest.raises(ehub.ConflictError, match="held up"):
                hub.backup(place)  # for it, too, the time is over
        else:
            hub.backup(place)
    assert where.objects("locks") == {}


def test_a_backup_whose_lease_was_taken_does_not_become_one(path, place, monkeypatch):
    with filled(path) as hub:
        put = Place.put

        def put_and_lose(self, name, data, **options):
            put(self, name, data, **options)
            if name.startswith("chunks"):
                for held in (place / "locks").iterdir():
                    held.unlink(missing_ok=True)  # several threads do so

        monkeypatch.setattr(Place, "put", put_and_lose)
        with pytest.raises(ehub.ConflictError, match="held up"):
            hub.backup(place)
    assert ehub.backups(place) == []


# --- pruning ---


def test_pruning_keeps_what_others_need(path, place, tmp_path):
    expected = {}
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        for number in range(1, 5):
            items.multiset(keys(number * 400, 600), vectors(600, number))
            items.multidelete(keys(number * 400 + 500, 50))
            if number % 2:
                items.compact()
            hub.backup(place)
            expected[number] = contents(hub)
        (place / "others").mkdir()
        (place / "others" / "draft#1").write_bytes(b"of somebody who keeps something else there")
        before = objects(place)
        assert ehub.prune_backups(place, keep_last=2, dry_run=True).objects > 0
        assert objects(place) == before
        (place / "chunks" / "aa").mkdir(exist_ok=True)
        (place / "chunks" / "aa" / "bb#1").write_bytes(b"of a writer that was killed")
        pruned = ehub.prune_backups(place, keep_last=2)
        assert [one.number for one in pruned.kept] == [3, 4]
        assert [one.number for one in pruned.removed] == [1, 2]
        assert len(before) - len(objects(place)) == pruned.objects > 0
        assert [one.number for one in ehub.backups(place)] == [3, 4]
        for number in (3, 4):
            assert restored(place, tmp_path / str(number), number=number) == expected[number]
        assert hub.backup(place).number == 5


def day(number: int, hours: int = 0) -> Backup:
    time = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number, hours=hours)
    return Backup(number * 24 + hours, time.isoformat(), 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({"keep_last": 2}, [720, 726]),
        ({"keep_last": 0}, [726]),
        ({"keep_daily": 3}, [678, 702, 726]),
        ({"keep_weekly": 2}, [582, 726]),  # 2026-01-25 is a Sunday
        ({"keep_monthly": 9}, [726]),
        ({"keep_last": 1, "keep_daily": 2}, [702, 726]),
    ],
)
def test_rules_say_which_backups_stay(rules, kept):
    backups = [day(number, hours) for number in range(1, 31) for hours in (0, 6)]
    assert sorted(chosen(backups, rules, None)) == kept


def test_what_was_made_before_goes_whatever_else_is_said():
    backups = [day(number) for number in range(1, 6)]
    limit = datetime(2026, 1, 4, tzinfo=timezone.utc)
    assert sorted(chosen(backups, {}, limit)) == [72, 96, 120]
    assert sorted(chosen(backups, {"keep_last": 9}, limit)) == [72, 96, 120]
    with pytest.raises(ehub.ConflictError, match="make one first"):
        chosen(backups, {}, datetime(2026, 2, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    "rules", [{}, {"keep_last": -1}, {"keep_daily": 1.5}, {"made_before": "soon"}]
)
def test_rules_that_say_nothing_are_refused(place, rules):
    place.mkdir()
    with pytest.raises(TypeError if rules == {"keep_daily": 1.5} else ehub.InvalidArgumentError):
        ehub.prune_backups(place, **rules)


# --- erasures ---


def test_an_erasure_says_that_backups_have_the_keys_and_pruning_takes_them_out(path, place):
    secret = "secret-person-4711"
    vector = np.arange(DIMS, dtype=np.float32) + 0.25
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(keys(0, 3000), vectors(3000, 1))
        items.set(secret, vector)
        hub.checkpoint()
        hub.backup(place)
        assert any(vector.tobytes() in file.read_bytes() for file in objects(place))
        assert items.erasure_plan([secret]).backups == (str(place),)
        receipt = items.erase([secret])
        assert receipt.complete
        assert receipt.backups == (str(place),)
        assert f"ehub prune-backups {place} --made-before {receipt.time}" in str(receipt)
        with pytest.raises(ehub.ConflictError, match="make one first"):
            ehub.prune_backups(place, made_before=receipt.time)
        second = hub.backup(place)
        assert second.bytes_moved < 0.5 * second.bytes
        ehub.prune_backups(place, made_before=receipt.time)
    assert [one.number for one in ehub.backups(place)] == [2]
    assert not any(vector.tobytes() in file.read_bytes() for file in objects(place))
