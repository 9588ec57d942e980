"""Who may do what: roles, grants and what follows from them, and how keys and grants are kept."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

import ehub
from ehub.access import ROLES, VERBS, Access, AuthSettings, Grant, NotAuthenticated, Principal
from ehub.access import Resource as On
from ehub.access.decision import Rights

# --- the matrix, written down here, not derived ---

ROW_VERBS = ["see", "read", "write", "delete"]
SPACE_VERBS = ["create", "drop", "version", "freeze", "alias", "tag", "restore"]
SPACE_VERBS += ["average", "subindex", "tend", "erase"]
HUB_VERBS = ["checkpoint", "verify", "backup", "grant", "audit"]

# What each role has on the whole hub, on a space, and on a partition.
TABLE = {
    ("reader", "hub"): "see read",
    ("writer", "hub"): "see read write delete",
    ("editor", "hub"): "see read write delete "
    "create drop version freeze alias tag restore average subindex tend",
    ("admin", "hub"): "see read write delete "
    "create drop version freeze alias tag restore average subindex tend erase "
    "checkpoint verify backup grant audit",
    ("reader", "space:items"): "see read",
    ("writer", "space:items"): "see read write delete",
    ("editor", "space:items"): "see read write delete "
    "create drop version freeze alias tag restore average subindex tend",
    ("admin", "space:items"): "see read write delete "
    "create drop version freeze alias tag restore average subindex tend erase",
    ("reader", "space:items/partition:us"): "see read",
    ("writer", "space:items/partition:us"): "see read write delete",
}

HUB, ITEMS, OTHER = On(), On("items"), On("other")
US, EU, OTHERS_US = On("items", ("us",)), On("items", ("eu",)), On("other", ("us",))
BOTH = On("items", ("us", "eu"))
RESOURCES = [HUB, ITEMS, OTHER, US, EU, BOTH, OTHERS_US]

# Of what a grant is on, the resources that it covers.
COVERED = {
    "hub": [HUB, ITEMS, OTHER, US, EU, BOTH, OTHERS_US],
    "space:items": [ITEMS, US, EU, BOTH],
    "space:items/partition:us": [US],
}


def expected(role, on, verb, resource):
    if resource not in COVERED[on]:
        # Names belong to the space, and are seen by whoever may do anything in it.
        return verb == "see" and resource == ITEMS and on.startswith("space:items/")
    return verb in TABLE[role, on].split()


@pytest.mark.parametrize(("role", "on"), TABLE)
def test_each_cell_of_the_matrix_is_as_the_table_says(role, on):
    rights = Rights([Grant(role, on)])
    wrong = [
        (verb, resource)
        for verb, resource in itertools.product([*ROW_VERBS, *SPACE_VERBS, *HUB_VERBS], RESOURCES)
        if rights.decide(verb, resource).allowed != expected(role, on, verb, resource)
    ]
    assert wrong == []


def test_the_table_has_all_roles_and_verbs():
    assert {role for role, _ in TABLE} == set(ROLES)
    assert sorted([*ROW_VERBS, *SPACE_VERBS, *HUB_VERBS]) == sorted(VERBS)


@pytest.mark.parametrize("resource", RESOURCES)
def test_without_a_grant_everything_is_denied(resource):
    rights = Rights([])
    assert [verb for verb in VERBS if rights.decide(verb, resource).allowed] == []


@pytest.mark.parametrize("role", ROLES)
def test_an_unknown_verb_is_denied_to_everybody(role):
    assert not Rights([Grant(role, "hub")]).decide("sudo", HUB).allowed


# --- globs, unions, filters ---


@pytest.mark.parametrize(
    ("on", "names", "others"),
    [
        ("space:*", ["items", "a/b", ""], []),
        ("space:tmp-*", ["tmp-", "tmp-1"], ["tmp", "xtmp-1", "TMP-1"]),
        ("space:a?c", ["abc", "a.c"], ["ac", "abbc"]),
        ("space:[ab]", ["a", "b"], ["c", "[ab]"]),
        ("space:x[*]", ["x*"], ["xy"]),
        ("space:a.c", ["a.c"], ["abc"]),
        ("space:a", ["a"], ["a\n", "ab"]),
        ("space:x[/]partition:y", ["x/partition:y"], ["x"]),
    ],
)
def test_a_glob_matches_these_spaces_and_no_others(on, names, others):
    rights = Rights([Grant("reader", on)])
    assert [name for name in names if not rights.may_see(name)] == []
    assert [name for name in others if rights.may_see(name)] == []


def test_the_space_of_a_partition_grant_is_a_name_and_no_glob():
    rights = Rights([Grant("reader", "space:it*/partition:*")])
    assert not rights.may_see("items")
    assert rights.may_see("it*")


def test_grants_add_up_over_partitions():
    rights = Rights(
        [Grant("writer", str(f"space:items/partition:{name}")) for name in ("us", "eu")]
    )
    assert rights.decide("write", BOTH).allowed
    assert not rights.decide("write", ITEMS).allowed
    mixed = Rights([Grant("writer", "space:items/partition:us"), Grant("reader", "space:items")])
    assert mixed.decide("read", ITEMS).allowed
    assert mixed.decide("write", US).allowed
    assert not mixed.decide("write", BOTH).allowed


def test_a_filtered_read_of_a_space_needs_any_of_its_partitions():
    rights = Rights([Grant("reader", "space:items/partition:u*")])
    assert rights.decide("read", ITEMS, within=True).allowed
    assert not rights.decide("read", ITEMS).allowed
    assert not rights.decide("read", OTHER, within=True).allowed
    assert not rights.decide("read", EU, within=True).allowed
    assert rights.partitions("read", "items", ["us", "uk", "eu"]) == ("us", "uk")
    assert rights.partitions("write", "items", ["us"]) == ()
    assert Rights([Grant("reader", "space:items")]).partitions("read", "items", ["us"]) is None


def test_no_partitions_named_is_not_every_partition():
    assert (
        not Rights([Grant("writer", "space:items/partition:us")])
        .decide("write", On("items", ()))
        .allowed
    )


def test_what_may_not_be_seen_looks_missing_and_what_may_be_seen_looks_denied():
    rights = Rights([Grant("reader", "space:items")])
    assert rights.decide("write", ITEMS).hidden is False
    assert rights.decide("read", OTHER).hidden is True
    assert rights.decide("drop", OTHER).hidden is True
    assert rights.decide("create", OTHER).hidden is False  # it is not said whether it is there


@pytest.mark.parametrize(
    "on",
    [
        *("", "space:", "space", "items", "hub:", "Space:a", "space:/partition:a"),
        *("space:a/partition:", " hub", "space:" + "x" * 1_100, "space:\ud800"),
    ],
)
def test_what_is_no_resource_is_refused(on):
    with pytest.raises(ehub.InvalidArgumentError):
        Grant("reader", on)


@pytest.mark.parametrize("on", [7, None])
def test_a_resource_of_another_type_is_a_type_error(on):
    with pytest.raises(TypeError, match="the resource of a grant is"):
        Grant("reader", on)


@pytest.mark.parametrize("role", ["", "root", "Reader", None, 1])
def test_what_is_no_role_is_refused(role):
    with pytest.raises(ehub.InvalidArgumentError, match="expected one of reader"):
        Grant(role, "hub")


@pytest.mark.parametrize("role", ["editor", "admin"])
def test_a_partition_has_readers_and_writers_only(role):
    with pytest.raises(ehub.InvalidArgumentError, match="partition has rows alone"):
        Grant(role, "space:a/partition:b")


def test_rights_forget_names_that_callers_make_up():
    rights = Rights([Grant("reader", "space:a")])
    for number in range(10_000):
        rights.decide("read", On(f"x{number}"))
    assert len(rights._known) <= 4_096
    assert rights.decide("read", On("a")).allowed


# --- keys and grants in a hub ---


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as opened:
        yield opened


def test_a_hub_is_unguarded_until_its_first_key_or_grant_and_guarded_for_good(hub):
    access = Access(hub)
    assert not access.guarded
    access.grant("user:ann", Grant("reader", "hub"))
    assert access.guarded
    access.ungrant("user:ann", Grant("reader", "hub"))
    assert access.guarded
    assert access.grants() == {}


def test_a_config_guards_a_hub_without_keys(hub):
    assert Access(hub, AuthSettings()).guarded


def test_a_key_proves_its_principal_and_carries_its_grants(hub):
    access = Access(hub)
    token, key = access.create_key("ingest", [Grant("writer", "space:items")])
    principal = access.authenticate(token)
    assert principal.name == "key:ingest"
    assert access.decide(principal, "write", ITEMS).allowed
    assert not access.decide(principal, "write", OTHER).allowed
    assert key.id in token
    assert access.last_used()[key.id]


def test_the_hub_has_no_secret_and_the_key_is_in_no_file(hub, tmp_path):
    token, _ = Access(hub).create_key("ingest")
    hub.checkpoint()
    secret = token.split("_")[2].encode()
    files = [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]
    assert [path for path in files if secret in path.read_bytes()] == []


def test_keys_and_grants_are_there_after_the_hub_is_opened_again(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        token, key = Access(hub).create_key("ingest", [Grant("writer", "space:items")])
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub)
        assert access.api_keys() == [key]
        principal = access.authenticate(token)
        assert access.decide(principal, "write", ITEMS).allowed
        access.save()
        when = access.last_used()[key.id]
    with ehub.open(tmp_path / "hub", read_only=True) as hub:
        access = Access(hub)
        assert access.last_used() == {key.id: when}
        assert access.authenticate(token).name == "key:ingest"
        with pytest.raises(ehub.ReadOnlyError):
            access.create_key("more")


def test_a_reader_process_sees_changes_after_a_refresh(hub):
    with ehub.open(hub.path, read_only=True) as reader:
        mine, theirs = Access(hub), Access(reader)
        token, key = mine.create_key("ingest")
        with pytest.raises(NotAuthenticated):
            theirs.authenticate(token)
        reader.refresh()
        assert theirs.authenticate(token).name == "key:ingest"
        mine.revoke(key.id)
        reader.refresh()
        with pytest.raises(NotAuthenticated):
            theirs.authenticate(token)


def test_a_change_counts_at_once_for_every_other_access_of_the_hub(hub):
    first, second = Access(hub), Access(hub)
    token, key = first.create_key("ingest")
    principal = second.authenticate(token)
    assert not second.decide(principal, "read", ITEMS).allowed
    first.grant("key:ingest", Grant("reader", "space:items"))
    assert second.decide(principal, "read", ITEMS).allowed
    first.ungrant("key:ingest", Grant("reader", "space:items"))
    assert not second.decide(principal, "read", ITEMS).allowed
    first.revoke(key.id)
    with pytest.raises(NotAuthenticated, match="not known, or was revoked"):
        second.authenticate(token)


def test_other_names_of_the_hub_do_not_make_rights_be_read_again(hub):
    access = Access(hub)
    principal = access.authenticate(access.create_key("a")[0])
    rights = access.rights(principal)
    hub.create_space("items", dims=2)
    assert access.rights(principal) is rights
    access.grant("user:x", Grant("reader", "hub"))
    assert access.rights(principal) is not rights


def test_revoking_by_name_ends_all_keys_of_it_and_leaves_their_records(hub):
    access = Access(hub)
    tokens = [access.create_key("ingest")[0] for _ in range(2)]
    other, _ = access.create_key("other")
    assert len(access.revoke("ingest")) == 2
    for token in tokens:
        with pytest.raises(NotAuthenticated):
            access.authenticate(token)
    assert access.authenticate(other).name == "key:other"
    assert [key.state() for key in access.api_keys()].count("revoked") == 2
    assert [key.sha256 for key in access.api_keys() if key.revoked] == ["", ""]
    with pytest.raises(ehub.NotFoundError):
        access.revoke("ingest")


def test_a_key_ends_when_its_time_is_over(hub, monkeypatch):
    access = Access(hub)
    token, key = access.create_key("brief", expires_in=timedelta(hours=1))
    assert access.authenticate(token)
    monkeypatch.setattr("ehub.access.access.time", Later)
    monkeypatch.setattr("ehub.access.access.datetime", Later)
    with pytest.raises(NotAuthenticated, match="expired"):
        access.authenticate(token)
    assert key.state(Later.now()) == "expired"


class Later(datetime):
    """datetime, and time, two hours on."""

    @classmethod
    def now(cls, zone=timezone.utc):
        return datetime.now(zone) + timedelta(hours=2)

    @staticmethod
    def time():
        return time.time() + 7_200


@pytest.mark.parametrize("span", [timedelta(0), timedelta(seconds=-1), timedelta.max])
def test_a_key_needs_a_time_to_come(hub, span):
    with pytest.raises(ehub.InvalidArgumentError):
        Access(hub).create_key("x", expires_in=span)


def test_many_threads_make_keys_and_grants_and_none_is_lost(hub):
    access = [Access(hub) for _ in range(4)]

    def make(number):
        token, _ = access[number % 4].create_key(f"k{number % 5}")
        access[number % 4].grant("group:all", Grant("reader", f"space:s{number}"))
        return token

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(make, range(200)))
    assert len(set(tokens)) == 200
    fresh = Access(hub)
    assert len(fresh.api_keys()) == 200
    assert len(fresh.grants()["group:all"]) == 200
    assert {fresh.authenticate(token).name for token in tokens} == {f"key:k{n}" for n in range(5)}


def test_the_same_grant_twice_and_one_that_is_not_there_are_errors(hub):
    access = Access(hub)
    access.grant("user:ann", Grant("reader", "hub"))
    with pytest.raises(ehub.ExistsError):
        access.grant("user:ann", Grant("reader", "hub"))
    with pytest.raises(ehub.NotFoundError):
        access.ungrant("user:ann", Grant("writer", "hub"))
    assert list(access.grants()) == ["user:ann"]


@pytest.mark.parametrize("name", ["ann", "", "user:", "root:ann", "anonymous", "old-clients", 3])
def test_only_principals_that_can_prove_themselves_are_given_grants(hub, name):
    with pytest.raises(ehub.InvalidArgumentError):
        Access(hub).grant(name, Grant("reader", "hub"))
    assert not Access(hub).guarded


def test_a_principal_may_have_many_grants_and_a_long_name(hub):
    access, name = Access(hub), "x" * 255
    token, _ = access.create_key(name, [Grant("reader", f"space:s{n}") for n in range(3_000)])
    principal = access.authenticate(token)
    assert access.decide(principal, "read", On("s2999")).allowed
    assert not access.decide(principal, "read", On("s3000")).allowed
    assert len(access.grants()[f"key:{name}"]) == 3_000


def test_groups_bring_their_grants(hub):
    access = Access(hub)
    access.grant("group:ml", Grant("reader", "space:items"))
    access.grant("user:ann", Grant("writer", "space:own"))
    ann = Principal("user:ann", ("group:ml",), "jwt")
    assert access.decide(ann, "read", ITEMS).allowed
    assert access.decide(ann, "write", On("own")).allowed
    assert not access.decide(Principal("user:ml"), "read", ITEMS).allowed


def test_config_gives_those_without_a_token_what_it_says_and_nothing_else(hub):
    settings = AuthSettings(
        anonymous=(Grant("reader", "space:public-*"),), old_clients=(Grant("writer", "space:old"),)
    )
    access = Access(hub, settings)
    anybody, old = access.authenticate(None), access.authenticate(None, old_client=True)
    assert access.decide(anybody, "read", On("public-1")).allowed
    assert not access.decide(anybody, "read", On("old")).allowed
    assert access.decide(old, "write", On("old")).allowed
    with pytest.raises(NotAuthenticated):  # a wrong token is not the same as none
        access.authenticate("wrong")
    with pytest.raises(NotAuthenticated, match="a token is needed"):
        Access(hub, AuthSettings()).authenticate(None, old_client=True)


def test_a_certificate_counts_only_if_the_config_says_so(hub):
    with pytest.raises(NotAuthenticated):
        Access(hub, AuthSettings()).authenticate(None, certificate=["host"])
    access = Access(hub, AuthSettings(certificates=True))
    assert access.authenticate(None, certificate=["host", "other"]).name == "cert:host"
    with pytest.raises(NotAuthenticated):
        access.authenticate(None)


def test_when_keys_were_used_is_not_written_for_each_call(hub):
    access = Access(hub)
    token, _ = access.create_key("a")
    access.save()
    before = hub.info().seq
    for _ in range(100):
        access.authenticate(token)
    assert hub.info().seq == before
    access.save((3, "ab" * 32))
    assert hub.info().seq == before + 1
    access.save((3, "ab" * 32))
    assert hub.info().seq == before + 1
    assert access.audit_head() == (3, "ab" * 32)
