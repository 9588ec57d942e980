"""The page of a comparison: one file, with all figures, that looks the same each time."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from views import normal, space

import ehub

METRICS = ("l2", "ip", "cosine")


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """What a page is made of."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(found: ehub.Comparison, path: Path) -> str:
    found.report(path)
    return path.read_text("utf-8")


def svgs(text: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", text, re.DOTALL)


def pair(hub: ehub.Hub, a_dims: int = 8, b_dims: int = 8, n: int = 150, metric: str = "l2"):
    return (
        space(hub, normal(1, n, a_dims), metric=metric),
        space(hub, normal(2, n, b_dims), metric=metric),
    )


def test_a_report_says_what_was_found(hub, drawn, tmp_path):
    found = ehub.compare(*pair(hub), names=("initial", "minilm-v2"))
    page = Page(report(found, tmp_path / "report.html"))
    assert page.open == []
    words = " ".join(page.text.split())
    for name, one in found.statistics().items():
        assert found.title_of(name) in words
        assert f"{one.value:.4f}" in words
    for title in ("Neighbour overlap@10", "Searching minilm-v2 with vectors of initial", "Norms"):
        assert title in words
    for title in ("How far keys moved", "Both views in one plane", "Hubs", "Keys that moved most"):
        assert title in words
    assert "150 keys in both" in words
    assert "p-value" in words


def test_a_report_is_one_file_that_needs_no_other(hub, drawn, tmp_path):
    path = tmp_path / "page" / "report.html"
    path.parent.mkdir()
    text = report(ehub.compare(*pair(hub)), path)
    assert list(path.parent.iterdir()) == [path]
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "img"} == set()
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("href", "src", "xlink:href"):
                assert value.startswith(("#", "data:image/png;base64,"))
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_plots_are_drawings_whose_ids_do_not_clash(hub, drawn, tmp_path):
    text = report(ehub.compare(*pair(hub)), tmp_path / "report.html")
    drawings = svgs(text)
    assert len(drawings) == 6
    ids = []
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        own = [one.attrib["id"] for one in root.iter() if "id" in one.attrib]
        ids += own
        used = {
            value[1:]
            for one in root.iter()
            for name, value in one.attrib.items()
            if name.endswith("href") and value.startswith("#")
        } | set(re.findall(r"url\(#([^)]*)\)", drawing))
        assert used <= set(own)
    assert len(ids) == len(set(ids))


def test_equal_comparisons_give_equal_pages(hub, drawn, tmp_path):
    spaces = pair(hub)
    texts = [report(ehub.compare(*spaces), tmp_path / f"{i}.html") for i in range(2)]
    assert texts[0] == texts[1]


def test_names_and_keys_are_shown_as_they_are(hub, drawn, tmp_path):
    keys = [f"<script>alert({i})</script>" for i in range(30)]
    a, b = (space(hub, normal(seed, 30, 4), keys) for seed in (1, 2))
    text = report(ehub.compare(a, b, names=("_<b>", "a & $x_{1$ \u8cc7")), tmp_path / "report.html")
    page = Page(text)
    assert page.open == []
    assert "<script" not in text
    assert "<script>alert(" in page.text
    assert page.text.count("a & $x_{1$ \u8cc7") >= 5
    assert page.text.count("_<b>, rotated") == 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, 3, 12])
@pytest.mark.parametrize("dims", [(1, 1), (2, 5)])
def test_what_cannot_be_drawn_says_why(hub, drawn, tmp_path, metric, n, dims):
    found = ehub.compare(*pair(hub, *dims, n=n, metric=metric))
    text = report(found, tmp_path / "report.html")
    page = Page(text)
    assert page.open == []
    assert len(svgs(text)) + page.text.count("Not drawn: ") == 6
    if n == 3:
        assert "Not drawn: 3 keys in both; k = 10 needs 11" in page.text
    if dims == (2, 5) and n:
        assert "Not drawn: dims differ: 2 and 5" in page.text


def test_constant_and_zero_rows_can_be_drawn(hub, drawn, tmp_path):
    rows = normal(1, 40, 4)
    for x, y in ((rows, np.ones_like(rows)), (np.zeros_like(rows), rows), (0 * rows, 0 * rows)):
        found = ehub.compare(space(hub, x), space(hub, y))
        assert Page(report(found, tmp_path / "report.html")).open == []


def test_a_report_of_drift_says_so(hub, drawn, tmp_path):
    items = pair(hub)[0]
    text = report(ehub.drift(items, items), tmp_path / "report.html")
    assert "Drift from baseline to now" in " ".join(Page(text).text.split())


def test_without_matplotlib_a_report_says_what_to_install(hub, tmp_path, monkeypatch):
    found = ehub.compare(*pair(hub))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'ehub\[report\]'"):
        found.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
