"""A manifest comes back as it was written or is refused, and CURRENT always names a whole one.

Damage at one place of its file is noticed, and costs nothing. The oracle is the format itself:
`body()` below packs a manifest as FORMAT.md says, and `with_header()` makes one copy of it.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing as native

CrashModel, Fault, FaultFileSystem = native.CrashModel, native.Fault, native.FaultFileSystem

VERSION = 2
PAGE_BYTES = 4096
CRASH_MODELS = list(CrashModel.__members__.values())


def checksum(data: bytes) -> int:
    return native.crc_mask(native.crc32c(data))


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def segment_bytes(segment, version: int = VERSION) -> bytes:
    numbers = [segment[name] for name in ("id", "rows", "seg_bytes")]
    return (
        b"".join(map(varint, numbers))
        + struct.pack("<I", segment["footer_crc"])
        + varint(segment["seq_min"])
        + varint(segment["seq_max"])
        + text(segment["deaths"])
        + (text(segment["gaps"]) if version >= 2 else b"")
    )


def table_bytes(table, version: int = VERSION) -> bytes:
    names = ("dims", "metric", "key_type", "M", "ef_construction", "ef")
    schema = b"".join(varint(table[name]) for name in names)
    return (
        varint(table["id"])
        + text(table["space"])
        + text(table["version"])
        + schema
        + struct.pack("<f", table["target_recall"])
        + varint(table["created"])
        + varint(len(table["partitions"]))
        + b"".join(map(text, table["partitions"]))
        + varint(len(table["segments"]))
        + b"".join(segment_bytes(segment, version) for segment in table["segments"])
        + (names_bytes(table) if version >= 2 else b"")
    )


def names_bytes(table) -> bytes:
    tags = (text(name) + varint(table["tags"][name]) for name in sorted(table["tags"]))
    return bytes([table["frozen"]]) + varint(len(table["tags"])) + b"".join(tags)


def numbers_bytes(manifest) -> bytes:
    """What comes before the tables."""
    return (
        varint(manifest["number"])
        + struct.pack("<Q", manifest["hash_seed"])
        + b"".join(
            varint(manifest[name]) for name in ("seq", "first_log", "carried_bytes", "durable_seq")
        )
        + bytes([manifest["clean"]])
        + varint(manifest["next_table"])
        + varint(manifest["next_segment"])
    )


def body(manifest, version: int = VERSION) -> bytes:
    notes = manifest["notes"]
    return (
        numbers_bytes(manifest)
        + varint(len(manifest["tables"]))
        + b"".join(table_bytes(table, version) for table in manifest["tables"])
        + (varint(len(notes)) if version >= 2 else b"")
        + b"".join(text(name) + text(notes[name]) for name in sorted(notes) if version >= 2)
    )


def with_header(content: bytes, version: int = VERSION) -> bytes:
    covered = struct.pack("<IQ", version, len(content)) + content
    return struct.pack("<8sI", b"EHUBMAN1", checksum(covered)) + covered


def whole_file(copy: bytes) -> bytes:
    return copy + bytes(-len(copy) % PAGE_BYTES) + copy


def make_segment(**fields):
    segment = {"id": 3, "rows": 10, "seg_bytes": 4096, "footer_crc": 0xDEADBEEF}
    return segment | {"seq_min": 2, "seq_max": 9, "deaths": b"\x01\x02\x03", "gaps": b""} | fields


def make_table(**fields):
    table = {"id": 1, "space": b"items", "version": b"initial", "dims": 384, "metric": 2}
    table |= {"key_type": 0, "M": 24, "ef_construction": 100, "ef": 0, "target_recall": 0.5}
    table |= {"created": 1, "partitions": [b"us", b"eu"]}
    table |= {"frozen": False, "tags": {b"train": 7, b"eval": 300}}
    return table | {"segments": [make_segment()]} | fields


def make_manifest(**fields):
    manifest = {"number": 12, "hash_seed": 2**63 + 1, "seq": 300, "first_log": 31}
    manifest |= {
        "carried_bytes": 4096,
        "durable_seq": 310,
        "clean": False,
        "next_table": 5,
        "next_segment": 9,
        "notes": {b"alias/items/default": b"initial"},
    }
    return manifest | {"tables": [make_table(), make_table(id=4, segments=[])]} | fields


u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ids = st.integers(1, 2**64 - 2)
names = st.text(max_size=60).map(lambda name: name.encode())
segments = st.builds(
    lambda seqs, **fields: fields | {"seq_min": min(seqs), "seq_max": max(seqs)},
    seqs=st.tuples(u64, u64),
    id=ids,
    rows=st.integers(0, 2**30),
    seg_bytes=u64,
    footer_crc=u32,
    deaths=st.binary(max_size=300),
    gaps=st.binary(max_size=30),
)
tables = st.fixed_dictionaries(
    {
        "id": ids,
        "space": names,
        "version": names,
        "dims": st.integers(1, 65535),
        "metric": st.integers(0, 2),
        "key_type": st.integers(0, 1),
        "M": st.integers(2, 512),
        "ef_construction": st.integers(2, 10_000),
        "ef": st.integers(0, 1_000_000),
        "target_recall": st.floats(0, 1, width=32, exclude_min=True, exclude_max=True),
        "created": u64,
        "partitions": st.lists(names, max_size=5),
        "segments": st.lists(segments, max_size=4),
        "frozen": st.booleans(),
        "tags": st.dictionaries(names.filter(len), u64, max_size=4),
    }
)


def with_times(manifest):
    """Tags are of times that have been."""
    for table in manifest["tables"]:
        table["tags"] = {name: min(seq, manifest["seq"]) for name, seq in table["tags"].items()}
    return manifest


manifests = st.fixed_dictionaries(
    {
        "number": u64,
        "hash_seed": u64,
        "seq": u64,
        "first_log": u64,
        "carried_bytes": u64,
        "durable_seq": u64,
        "clean": st.booleans(),
        "next_table": st.just(2**64 - 1),
        "next_segment": st.just(2**64 - 1),
        "tables": st.lists(tables, max_size=4),
        "notes": st.dictionaries(names, st.binary(max_size=100), max_size=4),
    }
).map(with_times)


def of_version_1(manifest):
    """What a manifest of format version 1 can say, as it is read."""
    tables = [
        table
        | {"frozen": False, "tags": {}}
        | {"segments": [segment | {"gaps": b""} for segment in table["segments"]]}
        for table in manifest["tables"]
    ]
    return manifest | {"tables": tables, "notes": {}}


def code_of(call, *arguments) -> str | None:
    try:
        call(*arguments)
    except native.StatusError as error:
        return error.code
    return None


def decode(content: bytes):
    return native.decode_manifest("/hub/manifest", content)


def refusal(content: bytes) -> str | None:
    """The code with which a manifest is refused; None if it is not."""
    try:
        decode(content)
    except native.StatusError as error:
        assert "/hub/manifest" in str(error)  # noqa: PT017
        return error.code
    return None


def damage(content: bytes) -> str | None:
    """The code that a check of every byte gives; None if all is well."""
    return code_of(native.check_manifest, "/hub/manifest", content)


@given(manifests)
def test_a_manifest_is_written_as_the_format_says_and_comes_back_as_it_was(manifest):
    encoded = native.encode_manifest(manifest)
    assert encoded == whole_file(with_header(body(manifest)))
    assert decode(encoded) == manifest
    assert damage(encoded) is None


def test_a_large_manifest_comes_back_as_it_was():
    random_ = random.Random(1)
    many = [make_table(id=i + 1, space=b"space %d" % i) for i in range(10_000)]
    blobs = [make_segment(id=i + 1, deaths=random_.randbytes(1 << 20)) for i in range(8)]
    manifest = make_manifest(tables=[*many, make_table(segments=blobs)], next_table=2**30)
    encoded = native.encode_manifest(manifest)
    # Compared out of pytest's sight, which would spell out the difference of so much for minutes.
    is_as_specified = encoded == whole_file(with_header(body(manifest)))
    comes_back = decode(encoded) == manifest
    assert (is_as_specified, comes_back) == (True, True)
    assert damage(encoded) is None


def test_every_changed_byte_of_a_copy_is_noticed():
    good = with_header(body(make_manifest()))
    assert len(good) < 300
    for at in range(len(good)):
        for value in range(256):
            if value != good[at]:
                changed = good[:at] + bytes([value]) + good[at + 1 :]
                assert refusal(changed) == "Corruption", (at, value)


def test_every_missing_byte_of_a_copy_is_noticed():
    good = with_header(body(make_manifest()))
    assert all(refusal(good[:cut]) == "Corruption" for cut in range(len(good)))


# More than one page, so that the second copy does not begin on the second one.
LARGE = make_manifest(tables=[make_table(partitions=[b"p" * 255] * 20)])


@pytest.mark.parametrize("manifest", [make_manifest(), LARGE], ids=["small", "large"])
def test_damage_at_one_place_is_noticed_and_costs_nothing(manifest):
    good = native.encode_manifest(manifest)
    second = len(good) - len(with_header(body(manifest)))
    assert second % PAGE_BYTES == 0
    for at in range(len(good)):
        flipped = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        assert decode(flipped) == manifest, at
        assert damage(flipped) == "Corruption", at
    for page in range(0, len(good), PAGE_BYTES):
        zeroed = (good[:page] + bytes(PAGE_BYTES) + good[page + PAGE_BYTES :])[: len(good)]
        assert decode(zeroed) == manifest
        assert damage(zeroed) == "Corruption"
    for changed in (good + b"\0", good + bytes(5000), good * 2):
        assert decode(changed) == manifest
        assert damage(changed) == "Corruption"


def test_a_file_cut_off_anywhere_is_noticed_and_read_while_a_copy_is_left():
    manifest = make_manifest()
    good = native.encode_manifest(manifest)
    for cut in range(len(good)):
        left = good[:cut]
        assert damage(left) == "Corruption"
        if cut >= len(with_header(body(manifest))):
            assert decode(left) == manifest
        else:
            assert refusal(left) == "Corruption"


def test_both_copies_damaged_are_refused():
    good = native.encode_manifest(make_manifest())
    for at in range(len(with_header(body(make_manifest())))):
        both = bytearray(good)
        both[at] ^= 1
        both[PAGE_BYTES + at] ^= 1
        assert refusal(bytes(both)) == "Corruption"


def test_a_format_version_of_the_future_is_refused_by_number_if_it_is_whole():
    future = with_header(b"what is to come", version=3)
    with pytest.raises(native.StatusError, match=r"format version 3, .* reads 1 to 2") as caught:
        decode(whole_file(future))
    assert caught.value.code == "Format"
    assert refusal(whole_file(future)[:20] + b"\xff" + whole_file(future)[21:]) == "Format"
    assert refusal(future[:-1] + b"?") == "Corruption"


@given(manifests)
def test_a_manifest_of_format_version_1_is_read(manifest):
    old = whole_file(with_header(body(manifest, version=1), version=1))
    assert decode(old) == of_version_1(manifest)
    assert damage(old) is None


def test_damage_to_a_manifest_of_format_version_1_is_noticed_and_costs_nothing():
    manifest = make_manifest()
    old = whole_file(with_header(body(manifest, version=1), version=1))
    for at in range(len(old)):
        hurt = old[:at] + bytes([old[at] ^ 0x10]) + old[at + 1 :]
        assert decode(hurt) == of_version_1(manifest)
        assert damage(hurt) == "Corruption"


def test_a_body_of_one_version_is_refused_under_the_number_of_the_other():
    assert refusal(with_header(body(make_manifest(), version=1), version=2)) == "Corruption"
    assert refusal(with_header(body(make_manifest(), version=2), version=1)) == "Corruption"


# With a good checksum, so that it is the body which is judged.


def assert_refused_or_sound(content: bytes):
    """Whatever the reader accepts, the writer could have written (it asserts the same rules)."""
    try:
        manifest = decode(with_header(content))
    except native.StatusError as error:
        assert error.code == "Corruption"  # noqa: PT017
    else:
        assert decode(native.encode_manifest(manifest)) == manifest


def test_a_body_with_any_byte_changed_is_refused_or_sound():
    good = body(make_manifest())
    for at in range(len(good)):
        for value in range(256):
            assert_refused_or_sound(good[:at] + bytes([value]) + good[at + 1 :])


def test_a_body_cut_off_anywhere_or_with_more_behind_it_is_refused():
    good = body(make_manifest())
    for cut in range(len(good)):
        assert refusal(with_header(good[:cut])) == "Corruption"
    assert refusal(with_header(good)) is None
    assert refusal(with_header(good + b"\0")) == "Corruption"


@given(st.binary(max_size=300))
def test_a_body_of_any_bytes_is_refused_or_sound(content):
    assert_refused_or_sound(content)


@given(manifests, st.data())
def test_a_body_with_several_bytes_changed_is_refused_or_sound(manifest, data):
    content = bytearray(body(manifest))
    changes = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(changes, max_size=5)):
        content[at] = value
    assert_refused_or_sound(bytes(content))


HUGE = [2**64 - 1, 2**62, 2**40, 2**32, 2**31, 2**24 + 1, 1000]


def huge_counts():
    """Bodies that end with a count or length far above the bytes that are there."""
    before = numbers_bytes(make_manifest())
    table = table_bytes(make_table(partitions=[], segments=[], tags={}))
    to_partitions = before + b"\1" + table[: -len(b"psft")]
    segment = segment_bytes(make_segment(deaths=b""))
    for count in map(varint, HUGE):
        yield before + count
        yield before + count + table
        yield before + b"\1\1" + count + b"name"  # the name of a space
        yield to_partitions + count + b"\0\0\0\0"
        yield to_partitions + b"\0" + count  # segments
        yield to_partitions + b"\0\1" + segment[:-2] + count  # deaths
        yield to_partitions + b"\0\1" + segment[:-1] + count  # gaps
        yield to_partitions + b"\0\0\0" + count + b"\1t\1"  # tags
        yield to_partitions + b"\0\0\0\1" + count + b"t"  # the name of a tag
        yield before + b"\0" + count + b"\1n\1t"  # notes
        yield before + b"\0\1\1n" + count + b"t"  # the text of a note


def test_counts_beyond_the_bytes_that_are_there_are_refused_before_memory_is_taken():
    assert all(refusal(with_header(content)) == "Corruption" for content in huge_counts())


def test_more_partitions_than_a_table_can_have_are_refused():
    table = table_bytes(make_table(partitions=[], segments=[], tags={}))
    content = numbers_bytes(make_manifest()) + b"\1" + table[: -len(b"psft")]
    too_many = 2**24 + 1
    assert refusal(with_header(content + varint(too_many) + bytes(too_many + 1))) == "Corruption"


LIMITS = [
    (make_table, "dims", [1, 65535], [0, 65536, 2**32 - 1, 2**32 + 1, 2**64 - 1]),
    (make_table, "metric", [0, 1, 2], [3, 255, 2**32, 2**32 + 1]),
    (make_table, "key_type", [0, 1], [2, 255, 2**32, 2**32 + 1]),
    (make_table, "M", [2, 512], [0, 1, 513, 2**32 + 24]),
    (make_table, "ef_construction", [2, 10_000], [0, 1, 10_001, 2**32 + 100]),
    (make_table, "ef", [0, 1, 1_000_000], [1_000_001, 2**32 + 1]),
    (make_table, "target_recall", [0.0625, 0.9375], [0, 1, -0.5, 2, math.inf, math.nan]),
    (make_table, "id", [1, 4], [0, 5, 2**64 - 1]),
    (make_table, "space", [b"", b"x" * 255], [b"x" * 256]),
    (make_table, "version", [b"", b"x" * 255], [b"x" * 256]),
    (make_table, "partitions", [[], [b"x" * 255]], [[b"x" * 256], [b"ok", b"x" * 1000]]),
    (make_table, "tags", [{}, {b"x" * 255: 300}], [{b"x" * 256: 1}, {b"": 1}, {b"t": 301}]),
    (make_segment, "rows", [0, 2**30], [2**30 + 1, 2**32, 2**32 + 1, 2**64 - 1]),
    (make_segment, "id", [1, 8], [0, 9, 2**64 - 1]),
    (make_segment, "seq_min", [0, 9], [10, 2**64 - 1]),
]


@pytest.mark.parametrize(("make", "field", "good", "bad"), LIMITS)
def test_a_value_at_its_limit_is_read_and_one_beyond_is_refused(make, field, good, bad):
    def code_of(value):
        made = make(**{field: value})
        table = made if make is make_table else make_table(segments=[made])
        return refusal(with_header(body(make_manifest(tables=[table]))))

    assert [code_of(value) for value in good] == [None] * len(good)
    assert [code_of(value) for value in bad] == ["Corruption"] * len(bad)


# Files.


def put(fs, path, content: bytes):
    fs.open(path, native.Mode.CREATE).close()
    fs.set_contents(path, content)


def current_text(number: int) -> bytes:
    name = b"manifest-%012d" % number
    return b"%s %08x\n" % (name, checksum(name))


def test_an_installed_manifest_is_the_current_one():
    fs = FaultFileSystem()
    assert code_of(native.read_current, fs, "") == "NotFound"
    for number in (1, 2, 999_999_999_999, 10**12, 2**64 - 1):
        manifest = make_manifest(number=number)
        native.install_manifest(fs, "", manifest)
        assert fs.contents("/CURRENT") == current_text(number)
        assert native.read_current(fs, "") == number
        assert native.read_manifest(fs, "", number) == manifest
    assert native.list_manifests(fs, "") == [1, 2, 999_999_999_999, 10**12, 2**64 - 1]
    assert code_of(native.read_manifest, fs, "", 3) == "Corruption"


def test_a_damaged_current_is_noticed_wherever_it_is_damaged():
    fs = FaultFileSystem()
    good = current_text(12)
    put(fs, "/CURRENT", good)
    damaged = [good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
               for at in range(len(good)) for bit in range(8)]  # fmt: skip
    damaged += [good[:cut] for cut in range(len(good))]
    damaged += [good + b"\n", good + b"x", good * 3, bytes(64), bytes(4096), current_text(0)]
    for content in damaged:
        fs.set_contents("/CURRENT", content)
        assert code_of(native.read_current, fs, "") == "Corruption"


def test_a_manifest_under_another_ones_name_is_noticed():
    fs = FaultFileSystem()
    put(fs, "/manifest-000000000013", native.encode_manifest(make_manifest(number=12)))
    assert code_of(native.read_manifest, fs, "", 13) == "Corruption"


def test_only_names_of_manifests_are_listed_in_order_of_their_numbers():
    fs = FaultFileSystem()
    numbers = [1, 7, 10**12 - 1, 10**12, 2**64 - 1]
    others = ["manifest-", "manifest-1", "manifest-000000000000", "manifest-000000000001.tmp"]
    others += ["manifest-+00000000001", "manifest- 00000000001", "manifest-00000000000x"]
    others += ["manifest-18446744073709551616", "manifest-0000000000001", "Manifest-000000000002"]
    for name in [f"manifest-{number:012}" for number in numbers] + others + ["CURRENT", "LOCK"]:
        put(fs, f"/{name}", b"")
    fs.make_directory("/wal")
    assert native.list_manifests(fs, "") == numbers
    assert native.list_manifests(fs, "/wal") == []
    assert code_of(native.list_manifests, fs, "/nowhere") == "NotFound"


def hub_with(manifests_):
    fs = FaultFileSystem()
    for manifest in manifests_:
        native.install_manifest(fs, "", manifest)
    return fs


def live_manifest(fs):
    """What a hub that is opened now starts from."""
    try:
        number = native.read_current(fs, "")
    except native.StatusError as error:
        assert error.code == "NotFound"  # noqa: PT017
        return None
    return native.read_manifest(fs, "", number)


OLD, NEW = make_manifest(number=12), make_manifest(number=13, seq=999, tables=[])


@pytest.mark.parametrize("before", [[], [OLD]])
@pytest.mark.parametrize("torn", [False, True])
def test_a_power_cut_at_any_call_leaves_the_old_manifest_or_the_new(before, torn):
    seen = []
    for call in range(20):
        fs = hub_with(before)
        fs.crash_at(fs.mutating_calls() + call, torn)
        failed = code_of(native.install_manifest, fs, "", NEW)
        for model in CRASH_MODELS:
            for seed in range(8):
                crashed = fs.clone()
                crashed.crash(model, seed)
                live = live_manifest(crashed)
                assert live in ([*(before or [None]), NEW] if failed else [NEW])
                seen.append(live)
    assert not failed
    assert NEW in seen
    assert (before or [None])[0] in seen


@pytest.mark.parametrize("fault", list(Fault.__members__.values()))
@pytest.mark.parametrize("forever", [False, True])
def test_an_install_that_fails_leaves_the_old_manifest_or_the_new_and_does_not_touch_it_again(
    fault, forever
):
    for call in range(30):
        fs = hub_with([OLD])
        fs.count_reads(True)
        fs.fail_at(fs.calls() + call, fault, forever)
        failed = code_of(native.install_manifest, fs, "", NEW)
        fs.clear_plan()
        switched = live_manifest(fs) == NEW
        again = code_of(native.install_manifest, fs, "", NEW)
        assert again == ("ReadOnly" if switched else None)
        for model in CRASH_MODELS:
            crashed = fs.clone()
            crashed.crash(model, call)
            assert live_manifest(crashed) in ([OLD, NEW] if failed and switched else [NEW])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_file_stays_open(tmp_path):
    fs, root = native.PosixFileSystem(), str(tmp_path)
    for number in range(1, 6):
        native.install_manifest(fs, root, make_manifest(number=number))
        native.read_manifest(fs, root, native.read_current(fs, root))
    assert code_of(native.read_manifest, fs, root, 99) == "Corruption"
    assert code_of(native.install_manifest, fs, root + "/nowhere", NEW) == "Io"
    assert native.list_manifests(fs, root) == [1, 2, 3, 4, 5]
    links = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert not [target for target in links if target.is_relative_to(tmp_path)]
