"""`ehub top`: what it shows of a server and of a directory, once and live."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pytest
from metered import metered
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from test_server import certificates

import ehub
from ehub.access import Grant
from ehub.cli.reaching import Server
from ehub.cli.top_view import duration, milliseconds, rate, view_of
from ehub.client.transport import ClientTls
from ehub.figures import Figures, HubFigures, figures_of, look_at


def filled(hub, rows=100):
    items = hub.create_space("items", dims=4)
    vectors = np.random.default_rng(1).standard_normal((rows, 4), np.float32)
    items.multiset([f"k{i}" for i in range(rows)], vectors)
    return items, vectors


# --- once ---


def test_a_server_in_lines_for_programs(cli, tmp_path):
    with metered(tmp_path / "hub") as served:
        with served.connect() as hub:
            items, vectors = filled(hub)
            for vector in vectors[:10]:
                items.nearest_neighbors(3, vector=vector)
        outcome = cli("top", served.address, "--once")
    assert outcome.code == 0, outcome.err
    assert {line[0] for line in outcome.rows} == {"hub", "method", "version"}
    hub = {line[1]: line[2] for line in outcome.rows if line[0] == "hub"}
    assert list(hub) == [field.name for field in fields(HubFigures)]
    assert hub["rows"] == "100"
    assert "-" not in hub.values()
    methods = {line[2]: line for line in outcome.rows if line[0] == "method"}
    assert methods["Search"][3] == "10"
    assert [line[1:4] for line in outcome.rows if line[0] == "version"] == [
        ["items", "initial", "100"]
    ]


def test_a_server_with_mutual_tls_is_reached_with_a_certificate(cli, tmp_path):
    tls, trust = certificates(tmp_path, True)
    shown = ["--tls-cert", trust.certificate, "--tls-key", trust.key]
    with metered(tmp_path / "hub", tls=tls) as served:
        outcome = cli("top", served.address, "--once", "--tls-ca", trust.ca, *shown)
        half = cli("top", served.address, "--once", *shown[:2])
    assert outcome.code == 0, outcome.err
    assert ["hub", "rows", "0"] in outcome.rows
    assert (half.code, "expected both, or none" in half.err) == (1, True)


def test_tls_is_spoken_as_soon_as_an_option_says_so():
    assert Server().trust() is None
    assert Server(tls=True).trust() == ClientTls()
    assert Server(tls_ca="ca.pem").trust() == ClientTls(ca="ca.pem")


def test_a_server_as_json(cli, tmp_path):
    with metered(tmp_path / "hub") as served:
        with served.connect() as hub:
            items, vectors = filled(hub)
            for vector in vectors:
                items.nearest_neighbors(3, vector=vector)
            with pytest.raises(ehub.NotFoundError):
                items.get("nobody")
        document = cli("top", served.address, "--json").json
    methods = {one["method"]: one for one in document["methods"]}
    search = methods["Search"]
    assert (search["calls"], search["errors"]) == (100, 0)
    assert 0 < search["p50_ms"] <= search["p99_ms"] < 60_000
    assert methods["Get"]["errors"] == 1
    assert document["hub"]["memory_bytes"] > 0
    assert document["hub"]["sync_p50_ms"] > 0
    assert document["hub"]["write_failed"] is False
    assert document["seconds"] is None


def test_a_directory_while_another_process_may_write_to_it(cli, tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        filled(hub)
        document = cli("top", tmp_path / "hub", "--once", "--json").json
    assert document["hub"]["rows"] == 100
    assert document["hub"]["calls_per_second"] is None
    assert document["methods"] == []
    assert document["versions"][0]["space"] == "items"
    assert cli("top", tmp_path / "nothing", "--once").code == 1


def test_a_guarded_server_wants_a_token(cli, tmp_path, monkeypatch):
    with metered(tmp_path / "hub") as served:
        token, _ = served.access.create_key("ops", [Grant("reader", "hub")])
        part, _ = served.access.create_key("part", [Grant("reader", "space:items")])
        assert cli("top", served.address, "--once").code == 1
        assert cli("top", served.address, "--once", "--token", part).code == 1
        monkeypatch.setenv("EMBEDDINGHUB_TOKEN", token)
        assert cli("top", served.address, "--once").code == 0


def test_where_there_is_no_server_it_says_so(cli, monkeypatch):
    outcome = cli("top", "127.0.0.1:1", "--once")
    assert outcome.code == 1
    assert "is a server running there" in outcome.err


# --- figures ---


def looked(at, calls, seconds=(), start=1_000.0):
    """A look at a server with so many searches, of which each took so long."""
    labels = {"service": "s", "method": "Search"}
    values = [
        GaugeMetricFamily("ehub_info", "", labels=["release"]),
        GaugeMetricFamily("process_start_time_seconds", "", value=start),
        GaugeMetricFamily("ehub_calls_total", "", labels=[*labels, "code"]),
        HistogramMetricFamily("ehub_call_duration_seconds", "", labels=list(labels)),
        HistogramMetricFamily("ehub_sync_duration_seconds", "", buckets=[("+Inf", 0)], sum_value=0),
    ]
    values[0].add_metric(["1"], 1)
    values[2].add_metric([*labels.values(), "OK"], calls)
    bounds = (0.001, 0.01, 0.1, float("inf"))
    buckets = [(str(bound), sum(one <= bound for one in seconds)) for bound in bounds]
    values[3].add_metric(list(labels.values()), buckets, sum(seconds))
    look = look_at(values)
    return type(look)(at, look.values)


def test_rates_are_of_the_time_between_two_looks():
    figures = figures_of(looked(1_020.0, calls=50), looked(1_010.0, calls=20))
    assert figures.seconds == 10
    assert figures.methods[0].calls == 50
    assert figures.methods[0].calls_per_second == figures.hub.calls_per_second == 3
    first = figures_of(looked(1_010.0, calls=20), None)
    assert (first.seconds, first.hub.calls_per_second) == (None, 2)


def test_a_server_that_was_started_again_counts_from_its_start():
    figures = figures_of(looked(2_010.0, 30, start=2_000.0), looked(1_900.0, 5_000))
    assert figures.hub.calls_per_second == 3


def test_percentiles_are_of_what_came_since_and_within_a_bucket():
    before = [0.05] * 100
    now = looked(1_020.0, 300, seconds=[*before, *[0.005] * 190, *[0.5] * 10])
    figures = figures_of(now, looked(1_010.0, 100, seconds=before))
    method = figures.methods[0]
    assert 1 < method.p50_ms <= 10
    assert method.p50_ms == pytest.approx(1 + 9 * 100 / 190)
    assert method.p99_ms == 100, "beyond the last bound nothing is known but that"
    idle = figures_of(now, now)
    assert idle.methods[0].p50_ms is None


def test_numbers_for_people():
    assert [rate(x) for x in (None, 0, 0.12345, 12.345, 12_345.6)] == [
        "-",
        "0",
        "0.123",
        "12.3",
        "12,346",
    ]
    assert [milliseconds(x) for x in (None, 0.2511, 3_000)] == ["-", "0.251 ms", "3 s"]
    assert [duration(x) for x in (5, 65, 3_600, 90_000)] == ["5s", "1m 5s", "1h 0m", "1d 1h"]


def test_names_are_shown_as_they_are_and_move_no_cursor():
    from rich.console import Console

    figures = figures_of(looked(1_010.0, 1), None)
    from ehub.figures import VersionFigures

    odd = VersionFigures("[red]a[/red]\x1b[2J", "v\n", 1, 0, 0, 1, 10, 0.5)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view_of(Figures(1.0, figures.hub, figures.methods, (odd,))))
    text = console.export_text()
    assert "[red]a[/red]\\x1b[2J" in text
    assert "v\\n" in text


# --- live ---


def screen(command, enough, seconds=60.0):
    """Runs a command on a terminal until it has shown something, then Ctrl-C; all it has shown."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    shown, deadline = "", time.monotonic() + seconds
    try:
        while not enough(shown) and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 1 << 16).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while select.select([master], [], [], 5)[0] and time.monotonic() < deadline + 30:
            try:
                shown += os.read(master, 1 << 16).decode(errors="replace")
            except OSError:  # so Linux says that nobody has the other end any more
                break
        assert process.wait(30) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_it_is_live_on_a_terminal_until_ctrl_c(tmp_path):
    with metered(tmp_path / "hub") as served, served.connect() as hub:
        filled(hub)
        command = [sys.executable, "-m", "ehub.cli", "top", served.address, "--interval", "0.2"]
        shown = screen(command, lambda text: "rates of 0.2 s" in text or "rates of 0.3 s" in text)
    assert "CreateSpace" in shown
    assert "items" in shown
    assert "Traceback" not in shown


def test_a_server_that_goes_away_is_waited_for(tmp_path):
    with metered(tmp_path / "hub") as served:
        filled(served.hub)
        command = [sys.executable, "-m", "ehub.cli", "top", served.address, "--interval", "0.1"]

        def enough(text):
            if "items" in text:
                served.server.stop(0)
            return "there is no way to the hub" in text

        shown = screen(command, enough)
    assert "there is no way to the hub" in shown
