"""`ehub auth` and `ehub audit`: on a directory, and through the server that has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ehub
from ehub.access import Access, Grant, Resource, entries
from ehub.cli.access import is_address


@pytest.fixture
def path(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        hub.create_space("items", dims=2)
    return tmp_path / "hub"


def may(path, token, verb, resource):
    with ehub.open(path, read_only=True) as hub:
        access = Access(hub)
        return access.decide(access.authenticate(token), verb, resource).allowed


@pytest.mark.parametrize(
    "command",
    [
        *(["auth", one] for one in ("create-key", "revoke", "grant", "ungrant", "list")),
        *(["audit", one] for one in ("verify", "show")),
        *(["auth"], ["audit"]),
    ],
)
def test_every_command_explains_itself(cli, command):
    outcome = cli(*command, "--help")
    assert outcome.code == 0
    assert f"Usage: ehub {' '.join(command)}" in outcome.out


@pytest.mark.parametrize("group", ["auth", "audit"])
def test_a_group_without_a_command_shows_its_help(cli, group):
    outcome = cli(group)
    assert (outcome.code, outcome.err) == (2, "")
    assert outcome.out == cli(group, "--help").out


def test_a_key_is_all_that_is_printed_and_does_what_was_said(cli, path):
    outcome = cli("auth", "create-key", path, "ingest", "--role", "writer", "--on", "space:items")
    token = outcome.out.strip()
    assert outcome.code == 0
    assert re.fullmatch(r"ehub_\w{8}_\w{43}_\w{6}", token)
    assert "not shown again" in outcome.err
    assert may(path, token, "write", Resource("items"))
    assert not may(path, token, "write", Resource("other"))
    assert token not in cli("auth", "list", path).out


def test_grants_come_and_go(cli, path):
    token = cli("auth", "create-key", path, "a").out.strip()
    assert not may(path, token, "read", Resource("items"))
    assert cli("auth", "grant", path, "key:a", "reader", "space:i*").code == 0
    assert may(path, token, "read", Resource("items"))
    assert cli("auth", "list", path).out.splitlines()[-1] == "grant\tkey:a\treader\tspace:i*"
    assert cli("auth", "grant", path, "key:a", "reader", "space:i*").code == 1
    assert cli("auth", "ungrant", path, "key:a", "reader", "space:i*").code == 0
    assert not may(path, token, "read", Resource("items"))
    assert cli("auth", "ungrant", path, "key:a", "reader", "space:i*").code == 1


def test_a_revoked_key_is_listed_as_such_and_proves_nothing(cli, path):
    token = cli("auth", "create-key", path, "a").out.strip()
    key_id = token.split("_")[1]
    assert cli("auth", "revoke", path, key_id).out == f"revoked {key_id} of key:a\n"
    assert f"key\t{key_id}\tkey:a\trevoked" in cli("auth", "list", path).out
    with pytest.raises(ehub.PermissionDeniedError):
        may(path, token, "read", Resource("items"))
    assert cli("auth", "revoke", path, "a").code == 1


def test_json_has_the_same(cli, path, monkeypatch):
    made = json.loads(cli("auth", "create-key", path, "a", "--expires", "90d", "--json").out)
    assert made["key"].startswith(f"ehub_{made['id']}_")
    monkeypatch.setenv("EMBEDDINGHUB_DATA", str(path))
    listed = json.loads(cli("auth", "list", "--json").out)
    assert listed["keys"][0]["expires"] == made["expires"]
    assert json.loads(cli("audit", "verify", "--json").out)["lines"] == 1
    assert json.loads(cli("audit", "show", "--json").out)[0]["change"] == "create-key"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["create-key", "{}", "a", "--expires", "soon"], 2, "90d"),
        (["create-key", "{}", "a", "--expires", "0d"], 1, "above 0"),
        (["create-key", "{}", "a", "--role", "root"], 1, "reader, writer"),
        (["create-key", "{}", ""], 1, "1 to 255"),
        (["grant", "{}", "ann", "reader", "hub"], 1, "user:NAME"),
        (["grant", "{}", "user:ann", "reader", "items"], 1, "space:GLOB"),
        (["grant", "{}", "user:ann", "editor", "space:a/partition:b"], 1, "rows alone"),
        (["grant", "", "user:ann", "reader", "hub"], 2, "empty"),
        (["list", "{}-missing"], 1, "no hub"),
        (["grant", "{}-missing", "user:ann", "reader", "hub"], 1, "no hub"),
        (["create-key", "{}-missing", "a", "--expires", "x"], 2, "is no time"),
        (["create-key", "{}-missing", "a", "--expires", "0d"], 1, "above 0"),
        (["create-key", "{}-missing", "a", "--role", "root"], 1, "reader, writer"),
        (["create-key", "{}-missing", ""], 1, "1 to 255"),
        (["create-key", "{}-missing", "x" * 256], 1, "1 to 255"),
    ],
)
def test_a_mistake_is_said_and_changes_nothing(cli, path, arguments, code, says):
    outcome = cli("auth", *(one.format(path) for one in arguments))
    assert outcome.code == code
    assert says in outcome.err
    assert not Path(f"{path}-missing").exists()
    with ehub.open(path, read_only=True) as hub:
        assert not Access(hub).guarded


def test_verify_finds_a_changed_log_and_one_that_was_cut(cli, path):
    for name in ("a", "b", "c"):
        cli("auth", "create-key", path, name)
    good = cli("audit", "verify", path)
    assert good.code == 0
    assert re.fullmatch(r"ok: 3 lines, head 3:[0-9a-f]{64}\n", good.out)
    log = path / "audit" / "audit-000001.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b"key:b", b"key:x"))
    assert cli("audit", "verify", path).code == 1
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    cut = cli("audit", "verify", path)  # the hub itself knows that there were three
    assert (cut.code, "cut off" in cut.out) == (1, True)
    log.write_bytes(whole)
    assert cli("audit", "verify", path, "--head", f"2:{'0' * 64}").code == 1
    assert cli("audit", "verify", path, "--head", good.out.split()[-1]).code == 0
    assert cli("audit", "verify", path, "--head", "7").code == 2


def test_show_picks_lines(cli, path):
    cli("auth", "create-key", path, "a")
    cli("auth", "grant", path, "key:a", "reader", "hub")
    assert len(cli("audit", "show", path).out.splitlines()) == 2
    assert "change=grant to=key:a grants=reader on hub" in cli("audit", "show", path, "-n", 1).out
    assert cli("audit", "show", path, "--action", "denial").out == ""
    assert cli("audit", "show", path, "--principal", "nobody").out == ""
    assert cli("audit", "show", path, "--action", "x").code == 2
    assert cli("audit", "show", f"{path}-missing").code == 1


# --- through the server ---


@pytest.fixture
def server(path):
    """A hub with an admin's key, served by a process; its address and the key."""
    with ehub.open(path) as hub:
        token, _ = Access(hub).create_key("root", [Grant("admin", "hub")])
    command = [sys.executable, "-m", "ehub.cli", "serve", str(path), "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        address = next(json.loads(line) for line in process.stderr if '"address"' in line)
        yield address["address"], token
        process.terminate()
        process.stderr.read()


def test_the_hub_of_a_server_is_changed_through_the_server(cli, path, server, monkeypatch):
    address, token = server
    locked = cli("auth", "create-key", path, "a")
    assert (locked.code, "pid" in locked.err) == (1, True)
    assert "host:port" in locked.err
    assert cli("auth", "list", path).code == 0
    refused = cli("auth", "create-key", address, "a")
    assert (refused.code, "token" in refused.err) == (1, True)
    monkeypatch.setenv("EMBEDDINGHUB_TOKEN", token)
    made = cli("auth", "create-key", address, "a", "--role", "reader", "--on", "space:items")
    assert made.code == 0, made.err
    new = made.out.strip()
    assert ehub.connect(address, token=new).spaces() == ["items"]
    assert cli("auth", "grant", address, "key:a", "writer", "space:items").code == 0
    ehub.connect(address, token=new).get_space("items").set("k", [1, 0])
    assert cli("auth", "ungrant", address, "key:a", "writer", "space:items").code == 0
    listed = json.loads(cli("auth", "list", address, "--json").out)
    assert [one["principal"] for one in listed["keys"]] == ["key:root", "key:a"]
    assert all(one["last_used"] for one in listed["keys"])
    assert cli("auth", "create-key", address, "b", "--token", new).code == 1
    assert cli("auth", "revoke", address, "a").code == 0
    with pytest.raises(ehub.PermissionDeniedError):
        ehub.connect(address, token=new)
    changes = [one["change"] for one in entries(path) if one["action"] == "grant"]
    assert changes == ["create-key", "grant", "ungrant", "revoke"]
    assert cli("audit", "verify", path).code == 0


def test_a_server_that_is_not_there_is_said(cli):
    outcome = cli("auth", "list", "localhost:1", "--token", "x")
    assert outcome.code == 1
    assert "is a server running there" in outcome.err


def test_a_hub_that_is_not_there_is_told_with_what_makes_one(cli, path):
    outcome = cli("auth", "grant", f"{path}-missing", "key:ops", "reader", "hub")
    assert outcome.code == 1
    assert "there is no hub" in outcome.err
    assert "ehub auth create-key and ehub serve make one" in outcome.err


@pytest.mark.parametrize("there", [False, True])
def test_the_first_key_makes_the_hub_that_it_guards(cli, tmp_path, there):
    path = tmp_path / "new"
    if there:
        path.mkdir()
    outcome = cli("auth", "create-key", path, "ops", "--role", "admin")
    assert (outcome.code, "made one" in outcome.err) == (0, True), outcome.err
    assert may(path, outcome.out.strip(), "grant", Resource())


def test_no_hub_is_made_among_other_files(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert cli("auth", "create-key", tmp_path, "ops").code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("place", ["localhost:7462", "unix:/run/ehub"])
def test_a_server_is_told_from_a_directory_by_its_name(place):
    assert is_address(place)
    assert not is_address("data/")
