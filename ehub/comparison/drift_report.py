"""Drift as a page to look at: lines over time, above the report of the last time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from ehub.comparison.plots import FIRST, Plot, import_matplotlib, plot
from ehub.comparison.report import page, picture
from ehub.comparison.series import FIGURES, Drift
from ehub.comparison.wording import MEANINGS

__all__ = ["write"]

NAMES_MAX = 8  # more than so many would lie over each other


def write(found: Drift, path: str | os.PathLike[str]) -> None:
    """Write the page, in place of an older one."""
    import_matplotlib()
    text = page(found.latest, list(over_time(found)))
    Path(path).write_text(text, encoding="utf-8")


def over_time(found: Drift) -> Iterator[str]:
    """A line for each figure, if there are times to join by one, and a table of all times."""
    yield f"<h2>Over time, since {escape(found.baseline)}</h2>"
    if len(found.moments) > 1:
        yield '<div class="grid plots">'
        for name in FIGURES:
            yield picture(line(found, name))
        yield "</div>"
    heads = "".join(
        f'<th class="{"number" if title.endswith(" ") else ""}">{escape(title.strip())}</th>'
        for title in found.columns()
    )
    yield f'<div class="card scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    for time, *numbers in found.table():
        cells = "".join(f'<td class="number">{escape(str(cell))}</td>' for cell in numbers)
        yield f'<tr><td class="name">{escape(str(time))}</td>{cells}</tr>'
    yield "</tbody></table></div>"


def line(found: Drift, name: str) -> Plot:
    """One figure over time."""
    known = [
        place
        for place, moment in enumerate(found.moments)
        if moment.comparison.statistics()[name].value is not None
    ]
    missing = found.latest.statistics()[name].note or "it has no value"
    meaning = MEANINGS[name.partition(".")[0]].text.format(k=found.latest.k)
    numbered = ", ".join(f"{n} {moment.name}" for n, moment in enumerate(found.moments, 1))
    return plot(
        f"time-{name.replace('.', '-')}",
        found.latest.title_of(name),
        f"{meaning} Times: {numbered}." if len(found.moments) <= NAMES_MAX else meaning,
        bool(known) and (lambda figure: draw_line(figure, found, name, known)),
        missing,
    )


def draw_line(figure: Any, found: Drift, name: str, known: list[int]) -> None:
    """The figure at each time that has it, with its interval."""
    axes = figure.subplots()
    estimates = [found.moments[place].comparison.statistics()[name] for place in known]
    places = [place + 1 for place in known]
    axes.plot(places, [one.value for one in estimates], "o-", color=FIRST, linewidth=1.6)
    for place, one in zip(places, estimates, strict=True):
        if one.low is not None and one.high is not None:
            axes.vlines(place, one.low, one.high, color=FIRST, linewidth=1.2, alpha=0.6)
    axes.set(xlabel="time", xlim=(0.5, len(found.moments) + 0.5))
    if len(found.moments) <= NAMES_MAX:
        axes.set_xticks(range(1, len(found.moments) + 1))
