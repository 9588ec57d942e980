"""How `ehub top` looks: tables for a person, lines for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from ehub.cli.output import bytes_text, plain
from ehub.figures import Figures, HubFigures, MethodFigures, VersionFigures

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["lines_of", "view_of"]

NONE = "-"
RECALL_LOW = 0.9


def lines_of(figures: Figures) -> Iterator[Sequence[object]]:
    """A line for each figure of the hub, for each method and for each version, as they are."""
    for name in HubFigures.__dataclass_fields__:
        yield ("hub", name, shown(getattr(figures.hub, name)))
    for method in figures.methods:
        yield ("method", *map(shown, astuple(method)))
    for version in figures.versions:
        yield ("version", *map(shown, astuple(version)))


def shown(value: Any) -> Any:
    """A value, or a sign that there is none."""
    return NONE if value is None else value


def view_of(figures: Figures, place: str = "", trouble: str = "") -> RenderableType:
    """All of it for a terminal.

    Args:
        figures: What to show.
        place: Of whom.
        trouble: Why these are old figures.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(heading(figures, place), style="bold")]
    if trouble:
        parts.append(Text(plain(trouble), style="red"))
    if figures.hub.write_failed:
        failed = "a write has failed: the hub takes no more until the server is started again"
        parts.append(Text(failed, style="red"))
    parts.append(hub_view(figures.hub))
    if figures.methods:
        parts.append(methods_view(figures.methods))
    parts.append(versions_view(figures.versions))
    return Group(*parts)


def heading(figures: Figures, place: str) -> str:
    """The first line."""
    hub = figures.hub
    up = "" if hub.uptime_seconds is None else f", up {duration(hub.uptime_seconds)}"
    of = "since its start" if figures.seconds is None else f"of {figures.seconds:.1f} s"
    rates = "" if hub.uptime_seconds is None and figures.seconds is None else f"; rates {of}"
    return plain(f"ehub {hub.release} {place}".rstrip() + up + rates)


def hub_view(hub: HubFigures) -> RenderableType:
    """The hub in a few lines."""
    from rich.table import Table

    cells = [
        ("rows", count(hub.rows)),
        ("not indexed", count(hub.unindexed_rows)),
        ("batches/s", rate(hub.batches_per_second)),
        ("disk", size(hub.disk_bytes)),
        ("disk left", size(hub.disk_free_bytes)),
        ("memory", size(hub.memory_bytes)),
        ("calls/s", rate(hub.calls_per_second)),
        ("errors/s", rate(hub.errors_per_second)),
        ("streams", count(hub.streams)),
        ("snapshots", count(hub.snapshots)),
        ("log/s", size(hub.log_bytes_per_second)),
        ("log due", size(hub.log_due_bytes)),
        ("syncs/s", rate(hub.syncs_per_second)),
        ("sync p50", milliseconds(hub.sync_p50_ms)),
        ("sync p99", milliseconds(hub.sync_p99_ms)),
    ]
    known = [cell for cell in cells if cell[1] != NONE]
    columns = 5
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(columns):
        table.add_column(style="dim")
        table.add_column(justify="right", min_width=9)
    for begin in range(0, len(known), columns):
        table.add_row(*(text for cell in known[begin : begin + columns] for text in cell))
    return table


def methods_view(methods: Sequence[MethodFigures]) -> RenderableType:
    """The methods that were called."""
    table = made(
        ["method"],
        [
            "calls",
            "errors",
            "now",
            "calls/s",
            "p50",
            "p99",
            "rows in/s",
            "rows out/s",
            "in/s",
            "out/s",
        ],
    )
    for one in methods:
        table.add_row(
            marked(plain(one.method)),
            count(one.calls),
            marked(count(one.errors), one.errors_per_second > 0),
            count(one.in_progress),
            rate(one.calls_per_second),
            milliseconds(one.p50_ms),
            milliseconds(one.p99_ms),
            rate(one.rows_in_per_second),
            rate(one.rows_out_per_second),
            size(one.bytes_in_per_second),
            size(one.bytes_out_per_second),
        )
    return table


def versions_view(versions: Sequence[VersionFigures]) -> RenderableType:
    """The versions, the largest first."""
    table = made(
        ["space", "version"], ["rows", "dead", "not indexed", "segments", "bytes", "recall"]
    )
    for one in versions:
        recall = NONE if one.recall is None else f"{one.recall:.3f}"
        table.add_row(
            marked(plain(one.space) or "(others)"),
            marked(plain(one.version)),
            count(one.rows),
            count(one.dead_rows),
            count(one.unindexed_rows),
            count(one.segments),
            size(one.bytes),
            marked(recall, one.recall is not None and one.recall < RECALL_LOW),
        )
    return table


def made(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table with columns of texts and then of numbers."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def marked(text: str, wrong: bool = False) -> RenderableType:
    """A text as it is, in red if it tells of something wrong."""
    from rich.text import Text

    return Text(text, style="red" if wrong else "")


def count(value: int | None) -> str:
    """A number of things."""
    return NONE if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    """A number a second."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def size(value: float | None) -> str:
    """A number of bytes."""
    return NONE if value is None else bytes_text(value)


def milliseconds(value: float | None) -> str:
    """A duration of a call."""
    if value is None:
        return NONE
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def duration(seconds: float) -> str:
    """A long duration: `3d 4h`, `4h 10m`, `10m 5s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if left >= length or parts or unit == "s":
            parts.append(f"{left // length}{unit}")
        left %= length
    return " ".join(parts[:2])
