"""Backups that a server makes: where it may, for whom, once at a time, and of whole hubs."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from backups import contents, filled
from guarded import METHODS, guarded
from served import CLIENTS, client_of, serving

import ehub
from ehub.access import entries
from ehub.backup.allowed import AllowedPlaces
from ehub.backup.place import Place, first_line
from ehub.server.config import ServerConfig, read_config
from ehub.wire import ehub_pb2 as pb


@pytest.fixture
def path(tmp_path):
    filled(tmp_path / "hub").close()
    return tmp_path / "hub"


@pytest.fixture
def places(tmp_path):
    """Where backups are allowed."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


# --- what a backup has ---


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_backup_over_a_server_is_the_hub_with_all_that_was_acknowledged(
    path, places, tmp_path, kind
):
    with (
        serving(path, backup_to=(str(places),)) as server,
        client_of(server, kind) as hub,
    ):
        hub.get_space("items").set("late", np.ones(384))
        made = hub.backup(places / "mine")
        assert [made] == ehub.backups(places / "mine")
        hub.get_space("items").set("later", np.ones(384))
        again = hub.backup(str(places / "mine"), progress=True)
        assert again.number == 2
        assert again.bytes_moved < made.bytes_moved / 2
        ehub.restore(places / "mine", tmp_path / "restored", number=1)
        hub.get_space("items").delete("later")
        with ehub.open(tmp_path / "restored") as restored:
            assert contents(restored) == contents(server.hub)
        plan = server.hub.get_space("items").erasure_plan(["late"])
        assert plan.backups == (str(places / "mine"),)


@pytest.mark.parametrize("index", [True, False])
def test_graphs_are_in_it_if_they_are_wanted(tmp_path, places, index):
    with serving(tmp_path / "hub", backup_to=(str(places),)) as server:
        items = server.hub.create_space("items", dims=4, metric="l2")
        items.multiset([f"k{i}" for i in range(5_000)], np.random.default_rng(1).random((5_000, 4)))
        items.optimize()
        with ehub.connect(server.address) as hub:
            hub.backup(places, index=index)
            with pytest.raises(TypeError, match="index"):
                hub.backup(places, index="yes")
    ehub.restore(places, tmp_path / "restored")
    assert any((tmp_path / "restored").rglob("*.hnsw")) == index


def test_how_far_it_is_is_told_and_shown(path, places, monkeypatch):
    monkeypatch.setattr("ehub.server.backing_up.PROGRESS_SECONDS", 0.001)
    with serving(path, backup_to=(str(places),)) as server:
        with grpc.insecure_channel(server.address) as channel:
            call = METHODS["Backup"].call(channel)
            told = list(call(pb.BackupRequest(place=str(places)), timeout=60))
        assert {one.place for one in told} == {str(places)}
        assert [one.HasField("made") for one in told] == [False] * (len(told) - 1) + [True]
        steps = [one.bytes for one in told]
        assert steps == sorted(steps)
        assert steps[-1] == told[-1].of_bytes > 0
        shown = []

        class Bar:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                shown.append("closed")

            def update(self, n):
                shown.append(n)

        monkeypatch.setattr("ehub.client.backing_up.bar", lambda *told: shown.append(told) or Bar())
        with ehub.connect(server.address) as hub:
            hub.get_space("items").set("more", np.ones(384))
            hub.backup(places, progress=True)
        assert shown[0] == (True, shown[0][1], "B", "backup")
        assert sum(shown[1:-1]) == shown[0][1] > 0
        assert shown[-1] == "closed"


# --- where ---

ALLOWED = ("/srv/backups", "s3://bucket/hubs", "gs://whole", "file:///srv/files")


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("/srv/backups", "/srv/backups"),
        ("/srv/backups/a/b/", "/srv/backups/a/b"),
        ("/srv//backups/./a", "/srv/backups/a"),
        ("file:///srv/backups/a%20b", "/srv/backups/a b"),
        ("/srv/files/a", "/srv/files/a"),
        ("s3://bucket/hubs", "s3://bucket/hubs"),
        ("S3://bucket/hubs/one/", "s3://bucket/hubs/one"),
        ("gs://whole/any/where", "gs://whole/any/where"),
    ],
)
def test_allowed_places_and_what_is_below_them_may_be_used(asked, place):
    assert AllowedPlaces(ALLOWED).place(asked) == place


@pytest.mark.parametrize(
    "asked",
    [
        "/srv",
        "/srv/backups2",
        "/etc",
        "file:///etc",
        "file:///srv/backups2",
        "s3://bucket",
        "s3://bucket/hubs2",
        "s3://bucket/HUBS/one",
        "s3://Bucket/hubs",
        "s3://bucket2/hubs",
        "s3a://bucket/hubs",
        "gs://whole2",
        "az://bucket/hubs",
        "https://bucket.s3.amazonaws.com/hubs",
    ],
)
def test_other_places_are_refused_and_the_allowed_ones_are_named(asked):
    with pytest.raises(ehub.PermissionDeniedError, match=r"below '/srv/backups'.*--backup-to"):
        AllowedPlaces(ALLOWED).place(asked)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        ".",
        "backups",
        "../srv/backups",
        "/srv/backups/../../etc",
        "/srv/backups/a\0",
        "/srv/backups/a\n",
        "file://host/srv/backups",
        "file:///srv/backups/%2e%2e/%2e%2e/etc",
        "file:///srv/backups/a%00",
        "file:srv/backups",
        "s3://bucket/hubs/..",
        "s3://bucket/hubs/../other",
        "s3://bucket/hubs/./a",
        "s3://bucket/hubs//a",
        "s3://bucket/hubs/%2e%2e/other",
        "s3://bucket/hubs/.%2e/other",
        "s3://bucket/hubs/.\t./other",
        "s3://bucket/hubs/..\\other",
        "s3://bucket/hubs/\N{FULLWIDTH FULL STOP}./other",
        "s3://bucket/hubs/a b",
        "s3:///hubs",
        "memory://bucket",
        "s3://[bucket/hubs",
        "://",
    ],
)
def test_what_a_library_might_read_as_another_place_is_refused(asked):
    with pytest.raises(ehub.InvalidArgumentError, match="no place for backups"):
        AllowedPlaces(ALLOWED).place(asked)
    with pytest.raises(ehub.InvalidArgumentError):
        ServerConfig(backup_to=(asked,))


@pytest.mark.parametrize(
    "asked",
    [
        "s3://me:hush@bucket/hubs",
        "s3://hush@bucket/hubs",
        "s3://bucket/hubs?secret=hush",
        "s3://bucket/hubs#hush",
        "file://me:hush@/srv/backups",
    ],
)
def test_credentials_in_a_url_are_refused_and_never_told(tmp_path, asked, caplog):
    caplog.set_level(logging.DEBUG)
    with guarded(tmp_path / "hub", backup_to=ALLOWED) as served, served.connect() as hub:
        with pytest.raises(
            ehub.InvalidArgumentError, match="with credentials or options"
        ) as caught:
            hub.backup(asked)
        assert "hush" not in str(caught.value)
    assert "hush" not in caplog.text
    assert "hush" not in str(list(entries(tmp_path / "hub")))
    with pytest.raises(ehub.InvalidArgumentError) as caught:
        ServerConfig(backup_to=(asked,))
    assert "hush" not in str(caught.value)


def test_what_a_place_says_of_its_failure_has_no_credentials():
    error = OSError(
        "PUT http://me:hush@localhost:9/b/x?sig=hush&se=1: (HTTP 403) why? nobody knows\nmore: hush"
    )
    said = first_line(error)
    assert said == "PUT http://...@localhost:9/b/x... (HTTP 403) why? nobody knows"


def test_links_are_followed_before_it_is_decided(tmp_path, path, places):
    (places / "out").symlink_to(tmp_path / "elsewhere")
    (places / "in").symlink_to(places / "real")
    (tmp_path / "link").symlink_to(places)
    with (
        serving(path, backup_to=(str(tmp_path / "link"),)) as server,
        ehub.connect(server.address) as hub,
    ):
        for asked in (places / "out", places / "out" / "deeper"):
            with pytest.raises(ehub.PermissionDeniedError):
                hub.backup(asked)
        (places / "round").symlink_to(places / "round")
        with pytest.raises(ehub.EhubError, match="round"):
            hub.backup(places / "round")
        assert not (tmp_path / "elsewhere").exists()
        assert hub.backup(places / "in").number == 1
        assert hub.backup(tmp_path / "link" / "real").number == 2
        assert len(ehub.backups(places / "real")) == 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_that_was_not_told_where_backs_up_nowhere_and_says_what_to_set(path, places, kind):
    with serving(path) as server, client_of(server, kind) as hub:
        with pytest.raises(ehub.PermissionDeniedError, match=r"--backup-to PREFIX.*backup_to"):
            hub.backup(places)
        with pytest.raises(ehub.InvalidArgumentError, match="no place for backups by a server"):
            hub.backup(5)
    assert list(places.iterdir()) == []


def test_the_hub_itself_is_no_place_and_stays_untold(tmp_path):
    root = tmp_path / "hub"
    with (
        serving(root, backup_to=(str(tmp_path),)) as server,
        ehub.connect(server.address) as hub,
        pytest.raises(ehub.InvalidArgumentError, match="in the hub itself"),
    ):
        hub.backup(root / "backups")
    assert not (root / "backups").exists()


def test_the_config_file_and_the_command_name_places(tmp_path, monkeypatch):
    from ehub.cli import run

    file = tmp_path / "server.toml"
    file.write_text('backup_to = ["s3://bucket/hubs", "beside", "/srv"]')
    beside = str(tmp_path / "beside")
    assert read_config(file).backup_to == ("s3://bucket/hubs", beside, "/srv")
    told = []
    monkeypatch.setattr("ehub.server.run.run", lambda hub, config: told.append(config.backup_to))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")  # which the command sets for its process
    serve = ["serve", str(tmp_path / "hub"), "--config", str(file)]
    assert run(serve) == 0
    assert run([*serve, "--backup-to", "here", "--backup-to", "gs://b"]) == 0
    assert told == [("s3://bucket/hubs", beside, "/srv"), (str(tmp_path / "here"), "gs://b")]
    for text in ('backup_to = "s3://bucket"', "backup_to = [5]", 'backup_to = [""]'):
        file.write_text(text)
        with pytest.raises(ehub.InvalidArgumentError, match=r"backup_to is|no place for backups"):
            read_config(file)


# --- beside other calls ---


class Gate:
    """Lets nothing be put at a place before it is opened."""

    def __init__(self, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        put = Place.put

        def waiting(place, path, data, **options):
            if path.startswith("chunks"):
                self.reached.set()
                if not self.opened.wait(30):
                    self.opened.set()  # whatever it is, it fails once
            put(place, path, data, **options)

        monkeypatch.setattr(Place, "put", waiting)


def backing_up():
    """Threads that make backups for callers."""
    return [one for one in threading.enumerate() if one.name == "ehub-backing-up"]


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_one_at_a_time_to_one_place_and_other_calls_go_on(path, places, monkeypatch):
    gate = Gate(monkeypatch)
    with (
        serving(path, backup_to=(str(places),)) as server,
        ehub.connect(server.address) as hub,
        ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(hub.backup, places / "a")
        assert gate.reached.wait(20)
        with pytest.raises(ehub.ConflictError, match="makes a backup there already"):
            hub.backup(f"{places}/./a/")
        other = threads.submit(hub.backup, places / "b")
        items = hub.get_space("items")
        items.set("meanwhile", np.ones(384))
        assert "meanwhile" in items
        hub.checkpoint()
        gate.opened.set()
        assert first.result(60).number == other.result(60).number == 1
        assert hub.backup(places / "a").number == 2


@pytest.mark.parametrize("ends", ["cancelled", "late"])
def test_a_backup_that_nobody_waits_for_ends_and_is_none(path, places, monkeypatch, ends):
    gate = Gate(monkeypatch)
    with serving(path, backup_to=(str(places),)) as server:
        with grpc.insecure_channel(server.address) as channel:
            call = METHODS["Backup"].call(channel)
            request = pb.BackupRequest(place=str(places))
            answers = call(request, timeout=None if ends == "cancelled" else 1)
            next(answers)
            assert gate.reached.wait(20)
            if ends == "cancelled":
                answers.cancel()
            with pytest.raises(grpc.RpcError):
                list(answers)
            time.sleep(0.5)
            gate.opened.set()
        until(lambda: not backing_up())
        assert ehub.backups(places) == []
        with ehub.connect(server.address) as hub:
            assert hub.backup(places).number == 1


def test_a_place_that_fails_is_said_and_free_again(path, places, monkeypatch):
    def fails(place, path, data, **options):
        raise ehub.StorageError(f"{place.url}: no room")

    with (
        serving(path, backup_to=(str(places),)) as server,
        ehub.connect(server.address) as hub,
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Place, "put", fails)
            with pytest.raises(ehub.StorageError, match="no room"):
                hub.backup(places)
        assert hub.backup(places).number == 1


# --- who may ---


def test_admins_of_the_hub_alone_back_it_up_and_each_backup_has_one_line_in_the_audit_log(
    path, places, monkeypatch
):
    monkeypatch.setattr("ehub.server.backing_up.PROGRESS_SECONDS", 0.001)
    grants = [("editor", "editor on hub"), ("items", "admin on space:items")]
    with guarded(path, grants, backup_to=(str(places),)) as served:
        for name in ("editor", "items"):
            with served.connect(name) as hub, pytest.raises(ehub.PermissionDeniedError):
                hub.backup(places)
        with served.connect() as hub:
            hub.backup(places)
            with pytest.raises(ehub.PermissionDeniedError):
                hub.backup("/etc")
            with monkeypatch.context() as patched:
                patched.setattr("ehub.backup.making.Making.run", lambda *told: 1 / 0)
                with pytest.raises(ehub.EhubError):
                    hub.backup(places)
    log = list(entries(path))
    assert [
        (one["principal"], one["method"], one["verb"], one.get("place"), one.get("ended"))
        for one in log
        if one["action"] == "mutation"
    ] == [
        ("key:root", "Backup", "backup", str(places), None),
        ("key:root", "Backup", "backup", str(places), "failed"),
    ]
    assert [one["principal"] for one in log if one["action"] == "denial"] == [
        "key:editor",
        "key:items",
    ]
