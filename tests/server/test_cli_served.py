"""`ehub erase` and `ehub backup` of a hub that is served, through its server."""

from __future__ import annotations

import threading

import grpc
import pytest
from guarded import guarded
from served import service_of, serving

import ehub
from ehub.erasure import READS_ONLY
from ehub.server.config import ServerConfig
from ehub.server.serve import Server


def filled(hub):
    people = hub.create_space("people", dims=2)
    people.multiset(["ann", "bob"], [[1, 2], [2, 1]])
    return people


def test_keys_are_erased_through_the_server(cli, tmp_path):
    with serving(tmp_path) as server:
        people = filled(server.hub)
        plan = cli("erase", server.address, "people", "ann", "--dry-run", "--json").json
        assert (plan["keys"], plan["blockers"]) == (1, [])
        assert "ann" in people
        receipt = cli("erase", server.address, "people", "ann", "--yes", "--json").json
        assert receipt["space"] == "people"
        assert list(people) == ["bob"]
        missing = cli("erase", server.address, "nobody", "ann", "--yes")
        assert (missing.code, "no space 'nobody'" in missing.err) == (1, True)


def test_a_plan_tells_that_the_server_only_reads(cli, tmp_path):
    with ehub.open(tmp_path) as hub:
        filled(hub)
    config = ServerConfig(port=0)
    with (
        ehub.open(tmp_path, read_only=True) as hub,
        Server(hub, config, [service_of(hub, config)]) as server,
    ):
        asked = ["people", "ann", "--dry-run", "--json"]
        assert cli("erase", server.address, *asked).json["blockers"] == [READS_ONLY]
        assert cli("erase", tmp_path, *asked).json["blockers"] == []


def test_a_backup_is_made_by_the_server_where_it_may(cli, tmp_path):
    places = tmp_path / "backups"
    with serving(tmp_path / "hub", backup_to=(str(places),)) as server:
        filled(server.hub)
        made = cli("backup", server.address, places / "mine", "--json").json
        assert made["number"] == 1
        other = cli("backup", server.address, tmp_path / "other")
        assert (other.code, "expected a place below" in other.err) == (1, True)
    ehub.restore(places / "mine", tmp_path / "restored")
    with ehub.open(tmp_path / "restored") as restored:
        assert sorted(restored.get_space("people")) == ["ann", "bob"]


@pytest.mark.parametrize("command", ["erase", "backup"])
def test_a_guarded_server_wants_the_token(cli, tmp_path, command):
    told = {"erase": ["people", "ann", "--yes"], "backup": [tmp_path / "backups" / "mine"]}
    with guarded(tmp_path / "hub", backup_to=(str(tmp_path / "backups"),)) as served:
        filled(served.hub)
        asked = [command, served.server.address, *told[command]]
        refused = cli(*asked)
        assert (refused.code, "token" in refused.err) == (1, True)
        assert cli(*asked, "--token", served.tokens["root"]).code == 0


@pytest.fixture
def slow(tmp_path):
    """A server whose every call of the hub takes too long, once it is asked to."""
    over = threading.Event()

    class Slow(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            if details.method.rpartition("/")[2] in ("Metrics", "ListAccess", "PlanErasure"):
                over.wait(20)
            return continuation(details)

    with serving(tmp_path / "hub", Slow()) as server:
        filled(server.hub)
        yield server
        over.set()


@pytest.mark.parametrize(
    "command",
    [["top", "--once"], ["auth", "list"], ["erase", "people", "ann", "--dry-run"]],
    ids=lambda command: command[0],
)
def test_a_server_that_takes_too_long_may_be_given_longer(cli, slow, command):
    place = 2 if command[0] == "auth" else 1
    asked = [*command[:place], slow.address, *command[place:]]
    late = cli(*asked, "--timeout", "0.3")
    assert late.code == 1
    assert "no answer within 0.3 seconds: give it more by --timeout SECONDS" in late.err
    assert "timeout_seconds" not in late.err
