"""Whatever a log's records say, a hub opens or refuses by a typed error, and takes little memory.

Attacked are the operations on versions and points in time: tags, restores, forks, frozen versions
and notes; a set, a delete and an average come along. A hub is killed with all of them in its log.
Then each byte of the log is damaged, and the log is cut at each place: what opens shows the hub
as it was after some of the operations. At last the records are forged: payloads are mutated and
their checksums made right, so that only the decoder is between them and the hub.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
from memory import watched_kib

import ehub
from ehub._native import _testing as native

HEADER = struct.Struct("<4sIQQQQII")
MEMORY_KIB_MAX = 100 << 10
HUGE = (1 << 31, (1 << 32) + 1, 1 << 62, (1 << 64) - 1)
DAMAGE = (ehub.CorruptionError, ehub.FormatError)


def checksum(data: bytes) -> int:
    return native.crc_mask(native.crc32c(data))


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def records_of(log: bytes) -> list[tuple[int, bytes]]:
    """Where each record begins, and its payload."""
    records, at = [], 0
    while at + HEADER.size <= len(log) and log[at : at + 4] == b"EHWR":
        size = HEADER.unpack_from(log, at)[5]
        records.append((at, log[at + HEADER.size : at + HEADER.size + size]))
        at += (HEADER.size + size + 7) // 8 * 8
    return records


def forged(log: bytes, at: int, payload: bytes) -> bytes:
    """The log with another payload in one record, and right checksums."""
    number, seq, synced, size, _, kind = HEADER.unpack_from(log, at)[2:]
    end = at + (HEADER.size + size + 7) // 8 * 8
    covered = struct.pack("<QQQQII", number, seq, synced, len(payload), checksum(payload), kind)
    header = b"EHWR" + struct.pack("<I", checksum(covered)) + covered
    return log[:at] + header + payload + bytes(-len(payload) % 8) + log[end:]


def shown(hub: ehub.Hub) -> dict:
    """All that can be read: rows of versions and tags, what is frozen, aliases."""
    seen: dict = {}
    for name in hub.spaces():
        space = hub.get_space(name)
        for version in map(space.version, space.versions()):
            seen[name, version.name, "frozen"] = version.frozen
            seen[name, version.name] = rows_of(version)
            for tag in version.tags():
                with version.at(tag) as then:
                    seen[name, version.name, tag.name, tag.message] = rows_of(then)
        seen[name, "aliases"] = {one.name: one.version for one in space.aliases().values()}
    return seen


def rows_of(view: ehub.Version | ehub.Snapshot) -> dict:
    keys, vectors = view.to_numpy()
    return {key: vector.tobytes() for key, vector in zip(keys.tolist(), vectors, strict=True)}


def vectors_of(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 2), np.float32)


class Patient:
    """A directory as a killed writer left it; what the hub showed after each operation."""

    def __init__(self, path: Path) -> None:
        self.states: list[dict] = []
        self.path = path
        with ehub.open(path.with_name("open")) as hub:
            for operation in self.operations(hub):
                operation()
                self.states.append(shown(hub))
            shutil.copytree(path.with_name("open"), path)
        logs = sorted((path / "wal").glob("*.log"))
        self.file = max(logs, key=lambda one: len(records_of(one.read_bytes())))
        self.log = self.file.read_bytes()
        self.records = records_of(self.log)
        last, payload = self.records[-1]
        self.end = last + HEADER.size + len(payload)

    def operations(self, hub: ehub.Hub) -> list:
        """What was done since the last checkpoint; forks come before it, because they make one."""
        items = hub.create_space("items", 2, metric="l2")
        items.multiset(["a", "b", "c"], vectors_of(3, 1))
        numbers = hub.create_space("numbers", 2, metric="l2", key_type="int")
        items.tag("first", message="sealed")
        items.fork("branch")
        branch = items.version("branch")
        return [
            lambda: None,
            lambda: items.multiset(["a", "d"], vectors_of(2, 2), partition="eu"),
            lambda: items.tag("second", message="of the log"),
            lambda: items.multidelete(["b", "nobody"]),
            lambda: items.restore("first"),
            lambda: numbers.multiset([7, -7], vectors_of(2, 3)),
            lambda: items.tag("third", message="restored"),
            lambda: items.untag("second"),
            lambda: branch.freeze(),
            lambda: items.alias("blue", "branch"),
            lambda: items.promote("branch"),
        ]

    def open_with(self, log: bytes) -> dict | None:
        """What the hub shows with this log; None if that is refused as damage."""
        self.file.write_bytes(log)
        try:
            with ehub.open(self.path, read_only=True) as hub:
                return shown(hub)
        except DAMAGE:
            return None

    def recover_with(self, log: bytes, copy: Path) -> dict | None:
        """The same for a writer, which writes what it found anew; twice."""
        shutil.copytree(self.path, copy)
        (copy / "wal" / self.file.name).write_bytes(log)
        try:
            with ehub.open(copy) as hub:
                seen = shown(hub)
            with ehub.open(copy) as hub:
                assert shown(hub) == seen
            return seen
        except DAMAGE:
            return None
        finally:
            shutil.rmtree(copy)


@pytest.fixture
def patient(tmp_path) -> Patient:
    return Patient(tmp_path / "killed")


@pytest.fixture(autouse=True)
def bounded_memory():
    """No test here may take more than a little memory, whatever sizes a record claims."""
    taken = watched_kib()
    yield
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which keeps what was freed
        assert taken() < MEMORY_KIB_MAX


def test_the_undamaged_log_has_all_that_was_acknowledged(patient):
    kinds = {payload[0] for _, payload in patient.records[1:]}
    assert kinds >= {1, 2, 6, 7, 8, 9, 10}
    assert patient.open_with(patient.log) == patient.states[-1]


def test_a_flipped_bit_of_the_log_is_noticed_or_ends_it(patient, tmp_path):
    outcomes = set()
    for at in range(patient.end):
        log = bytearray(patient.log)
        log[at] ^= 1 << at % 8
        seen = patient.open_with(bytes(log))
        assert seen is None or seen in patient.states, f"byte {at}"
        outcomes.add(seen is None)
        if at % 20 == 0:
            again = patient.recover_with(bytes(log), tmp_path / "copy")
            assert again is None or again in patient.states, f"byte {at}"
    assert outcomes == {True, False}


def test_a_log_that_is_cut_short_shows_a_state_that_was(patient, tmp_path):
    for size in range(patient.end):
        seen = patient.open_with(patient.log[:size])
        assert seen is None or seen in patient.states, f"{size} bytes"
        if size % 40 == 0:
            again = patient.recover_with(patient.log[:size], tmp_path / "copy")
            assert again is None or again in patient.states, f"{size} bytes"


def mutations(payload: bytes, random: Random) -> list[bytes]:
    """At each byte: bits flipped, the end cut off, a byte put in or taken out, huge numbers."""
    made = []
    for at in range(len(payload)):
        for bit in random.sample(range(8), 2):
            made.append(payload[:at] + bytes([payload[at] ^ 1 << bit]) + payload[at + 1 :])
        made.append(payload[:at])
        made.append(payload[:at] + payload[at + 1 :])
        made.append(payload[:at] + bytes([random.getrandbits(8)]) + payload[at:])
        for huge in random.sample(HUGE, 2):
            made.append(payload[:at] + varint(huge) + payload[at + 1 :])
        made.append(payload[:at] + b"\xff" * 10 + payload[at + 1 :])
    made.append(payload + payload)
    return made


def test_a_forged_record_is_shown_or_refused_by_a_typed_error(patient, tmp_path):
    random = Random(1)
    refused = opened = 0
    for at, payload in patient.records[1:]:
        for n, mutation in enumerate(mutations(payload, random)):
            log = forged(patient.log, at, mutation)
            try:
                seen = patient.open_with(log)
                if n % 100 == 0:
                    patient.recover_with(log, tmp_path / "copy")
            except ehub.NotFoundError:  # an alias that leads nowhere is an answer
                continue
            except Exception as error:
                raise AssertionError(f"record at {at}, {mutation!r} of {payload!r}") from error
            refused, opened = refused + (seen is None), opened + (seen is not None)
    assert refused > 1000
    assert opened > 1000


@pytest.mark.parametrize("note", [b"\xff", b"{", b"[]", b'{"aliases":{"blue":{}}}'])
def test_a_note_that_nobody_wrote_so_is_damage(patient, note):
    at, _ = patient.records[-1]
    payload = b"\n\0" + varint(1) + text(b"space/items") + b"\1" + text(note)
    assert patient.open_with(forged(patient.log, at, payload)) is None


def test_keys_of_another_size_are_no_keys_of_an_integer_space(patient):
    at, payload = next(one for one in patient.records if b"\x02\x08\x08" in one[1])
    sizes = payload.index(b"\x02\x08\x08")
    other = payload[:sizes] + b"\x02\x03\x0d" + payload[sizes + 3 :]
    assert patient.open_with(forged(patient.log, at, other)) is None
