"""The command that shows what a hub and its server are doing: `ehub top`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import ehub
from ehub.cli import output
from ehub.cli.app import Failure, Json, app, open_to_read
from ehub.cli.reaching import Place, Server, asks_server, is_address, way_to
from ehub.cli.top_view import lines_of, view_of
from ehub.figures import Figures, Look, figures_of, look_at

__all__ = ["top"]

VERSIONS_MAX = 1_000


@app.command()
@asks_server
def top(
    place: Place,
    server: Server,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How often it looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once; rates are since the server's start.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Watch a server, or a hub's directory while others write to it, until Ctrl-C.

    Of a server: calls by method, latencies, streams, the log, memory, disk, index, recall. Of a
    directory what its files tell: rows, index, disk, batches. For programs --once prints a line for
    each figure, method and version, or --json all of it; so it does where nobody looks.
    """
    with looking_at(place, server) as look:
        if once or as_json or not output.on_terminal():
            show_once(figures_of(look(), None), as_json)
        else:
            watch(place, look, interval)


@contextmanager
def looking_at(place: str, server: Server) -> Iterator[Callable[[], Look]]:
    """How to look at a server, or at a directory."""
    if is_address(place):
        with way_to(place, server) as transport:
            yield lambda: look_at(families_of(transport))
        return
    try:
        from ehub.server.metrics.hub import HubCollector
    except ImportError as error:
        raise Failure(
            f"figures need more packages: {error}", "pip install 'ehub[server]'"
        ) from error
    with open_to_read(Path(place)) as hub:
        collector = HubCollector(hub, VERSIONS_MAX)

        def look() -> Look:
            hub.refresh()
            return look_at(collector.collect())

        yield look


def families_of(transport: Any) -> Iterable[Any]:
    """The figures of a server."""
    from prometheus_client.parser import text_string_to_metric_families

    from ehub.wire import ehub_pb2 as pb

    answer = transport.call("Metrics", pb.MetricsRequest(), again=True)
    families: Iterable[Any] = text_string_to_metric_families(answer.text)
    return families


def show_once(figures: Figures, as_json: bool) -> None:
    """Print what one look tells."""
    if as_json:
        output.print_json(asdict(figures))
    elif output.on_terminal():
        from rich.console import Console

        Console().print(view_of(figures))
    else:
        output.print_table([], lines_of(figures))


def watch(place: str, look: Callable[[], Look], interval: float) -> None:
    """Show the figures and look again, until Ctrl-C; a server that is away may come back."""
    from rich.live import Live

    before, now = None, look()
    with Live(screen=True, auto_refresh=False) as live:
        trouble = ""
        try:
            while True:
                live.update(view_of(figures_of(now, before), place, trouble), refresh=True)
                time.sleep(interval)
                try:
                    before, now = now, look()
                    trouble = ""
                except (ehub.UnavailableError, ehub.DeadlineError) as error:
                    trouble = str(error)
        except KeyboardInterrupt:
            return
