"""A comparison as a page to look at: one HTML file that needs nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from ehub.comparison.plots import Plot, import_matplotlib, plots
from ehub.comparison.result import Comparison, number
from ehub.comparison.wording import MEANINGS
from ehub.estimate import Estimate

__all__ = ["page", "write"]

# What is written large, at the top.
HEADLINES = ("coverage.a", "overlap", "aligned_recall", "cka")

STYLE = """
:root { color-scheme: light; --ink: #27313b; --soft: #5d6975; --line: #dfe4e9; --a: #2563a8; --b: #d9622b; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 12px; } h3 { font-size: 15px; margin: 0 0 2px; }
p { margin: 0; } .soft { color: var(--soft); font-size: 13.5px; }
.first { color: var(--a); } .second { color: var(--b); }
.grid { display: grid; gap: 16px; } .tiles { grid-template-columns: repeat(4, 1fr); margin-top: 22px; }
.plots { grid-template-columns: repeat(2, 1fr); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; min-width: 0; }
.tile .figure { font-size: 30px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.plots figure { display: flex; flex-direction: column; margin: 0; }
.plots svg { width: 100%; height: auto; display: block; margin-top: auto; padding-top: 10px; }
.legend span { margin-right: 18px; } .legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
.missing { margin: auto; padding: 48px 12px; text-align: center; color: var(--soft); }
.scroll { overflow-x: auto; padding: 4px 18px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 600; font-size: 13px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { white-space: nowrap; }
@media (max-width: 820px) { .tiles { grid-template-columns: repeat(2, 1fr); } .plots { grid-template-columns: 1fr; } }
"""  # noqa: E501 - CSS


def write(found: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the page, in place of an older one."""
    import_matplotlib()
    Path(path).write_text(page(found), encoding="utf-8")


def page(found: Comparison, first_part: Iterable[str] = ()) -> str:
    """The whole document; `first_part` comes before the plots."""
    first, second = map(escape, found.names)
    body = "\n".join(
        [
            *heading(found),
            *tiles(found),
            *first_part,
            "<h2>Plots</h2>",
            '<div class="grid plots">',
            *(picture(one) for one in plots(found)),
            "</div>",
            "<h2>All figures</h2>",
            *figures(found),
            *movers(found),
            *notes(found),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{found.kind.capitalize()}: {first} and {second}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def heading(found: Comparison) -> Iterator[str]:
    """What is compared with what."""
    first, second = map(escape, found.names)
    between = "to" if found.kind == "drift" else "and"
    title = "Drift from" if found.kind == "drift" else "Comparison of"
    yield (
        f'<h1>{title} <span class="first">{first}</span> {between} '
        f'<span class="second">{second}</span></h1>'
    )
    for name, info, rows, colour in zip(
        (first, second), (found.a, found.b), found.rows, ("first", "second"), strict=True
    ):
        yield (
            f'<p><b class="{colour}">{name}</b>: {rows:,} rows, {info.dims:,} dims, '
            f"{info.metric}</p>"
        )
    yield (
        f'<p class="soft">{found.common:,} keys in both, {found.removed:,} only in {first}, '
        f"{found.added:,} only in {second}. Sampled: {found.sampled:,} of those in both; "
        f"k = {found.k}, seed {found.seed}.</p>"
    )


def tiles(found: Comparison) -> Iterator[str]:
    """The figures that are asked for first."""
    yield '<div class="grid tiles">'
    statistics = found.statistics()
    for name in HEADLINES:
        one = statistics[name]
        value = "-" if one.value is None else number(one.value)
        meaning = MEANINGS[name.partition(".")[0]].text.format(k=found.k)
        yield (
            f'<div class="card tile"><h3>{escape(found.title_of(name))}</h3>'
            f'<div class="figure">{value}</div><p class="soft">{escape(interval(one))}</p>'
            f'<p class="soft">{escape(meaning)}</p></div>'
        )
    yield "</div>"


def interval(one: Estimate) -> str:
    """Where a figure lies, or why it has none."""
    if one.value is None or one.low is None or one.high is None:
        return one.note
    if one.interval == "exact":
        return f"of {one.n:,} keys"
    return f"{number(one.low)} to {number(one.high)}, n = {one.n:,}"


def picture(one: Plot) -> str:
    """A plot with its words."""
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in one.legend
    )
    drawn = one.svg or f'<p class="missing">Not drawn: {escape(one.missing)}</p>'
    return (
        f'<figure class="card"><h3>{escape(one.title)}</h3>'
        f'<figcaption class="soft">{escape(one.text)}</figcaption>'
        f'<p class="legend soft">{legend}</p>{drawn}</figure>'
    )


def figures(found: Comparison) -> Iterator[str]:
    """The table of all figures."""
    yield (
        '<div class="card scroll"><table><thead><tr><th>figure</th><th class="number">value</th>'
        '<th class="number">95 % interval</th><th class="number">n</th><th>what it says</th></tr>'
        "</thead><tbody>"
    )
    explained = set()
    for name, one in found.statistics().items():
        figure = name.partition(".")[0]
        words = "" if figure in explained else MEANINGS[figure].text.format(k=found.k)
        explained.add(figure)
        if one.note:
            words = f"{words} ({one.note})" if words else f"({one.note})"
        yield figure_row(found.title_of(name), one, words)
        if name == "norm_ks" and found.norm_p_value is not None:
            yield figure_row(
                "norms, KS p-value",
                Estimate(found.norm_p_value, None, None, one.n, ""),
                "How likely so large a distance is by chance, if lengths are distributed alike.",
            )
    yield "</tbody></table></div>"


def figure_row(title: str, one: Estimate, words: str) -> str:
    """One row of that table."""
    value = "-" if one.value is None else number(one.value)
    ends = "" if one.low is None or one.high is None else f"{number(one.low)} to {number(one.high)}"
    if one.interval in ("", "exact"):
        ends = one.interval
    return (
        f'<tr><td class="name">{escape(title)}</td><td class="number">{value}</td>'
        f'<td class="number">{ends}</td><td class="number">{one.n:,}</td>'
        f'<td class="soft">{escape(words)}</td></tr>'
    )


def movers(found: Comparison) -> Iterator[str]:
    """The keys that moved most."""
    if not found.movers:
        return
    yield (
        '<h2>Keys that moved most</h2><div class="card scroll"><table><thead><tr><th>key</th>'
        f'<th class="number">1 - cosine</th><th class="number">overlap@{found.k}</th></tr>'
        "</thead><tbody>"
    )
    for one in found.movers:
        kept = "-" if one.overlap is None else number(one.overlap)
        yield (
            f"<tr><td>{escape(str(one.key))}</td>"
            f'<td class="number">{number(one.shift)}</td><td class="number">{kept}</td></tr>'
        )
    yield "</tbody></table></div>"


def notes(found: Comparison) -> Iterator[str]:
    """How the figures were made."""
    ways = sorted({one.interval for one in found.statistics().values() if one.interval})
    how = "by scanning all rows" if found.exact else "by the index, with a wide search"
    yield (
        '<h2>How it was measured</h2><p class="soft">On keys drawn from the sorted keys with seed '
        f"{found.seed}: {found.sampled:,} of those in both views, and for the figures of one view "
        f"as many of its own. Neighbours were found {how}. Intervals: "
        f"{escape(', '.join(ways))}.</p>"
    )
