"""The page in a browser: headless Chromium signs in, looks around, searches, clicks, measures."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, browser

pytest.importorskip("plotly", reason="the page needs plotly: pip install 'ehub[ui]'")

from metered import metered
from paged import open_page, page_of, paged

from ehub.server.page import activity

if CHROMIUM is None:
    pytest.skip("there is no chromium here: apt-get install chromium", allow_module_level=True)

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script><a href="javascript:alert(3)">k</a>'
# Plotly brings styles for maps of the earth along, which the policy keeps out.
KNOWN = re.compile(r"^Applying inline style violates the following Content Security Policy")


@pytest.fixture
def tab(tmp_path):
    with browser(tmp_path / "profile") as one:
        yield one


def complaints_of(tab):
    """What went wrong in the tab, as far as it has told."""
    tab.run("1")
    found = [one for one in tab.complaints if not KNOWN.match(one)]
    return found + ["twice: " + KNOWN.pattern] * (len(tab.complaints) - len(found) > 1)


def picture(tab, tmp_path, name):
    """Take a picture, for those who look at it: in EHUB_PICTURES, if that is a directory."""
    path = Path(os.environ.get("EHUB_PICTURES", tmp_path)) / f"{name}.png"
    tab.screenshot(path)
    assert path.stat().st_size > 10_000


def clusters(rows, dims=16):
    """Rows around four places, and at which each is."""
    random = np.random.default_rng(8)
    at = random.integers(0, 4, rows)
    places = 4 * random.standard_normal((4, dims))
    return places[at] + random.standard_normal((rows, dims)), at


def test_a_guarded_hub_of_100_000_rows_is_looked_at_with_a_token(tab, tmp_path):
    with paged(tmp_path / "hub", [("looker", "reader on space:items")]) as page:
        vectors, at = clusters(100_000)
        items = page.hub.create_space("items", dims=16)
        items.multiset(
            [f"item-{i}" for i in range(100_000)], vectors, partition=[f"part-{n}" for n in at]
        )
        items.tag("may", message=EVIL)
        page.hub.create_space("hidden", dims=2)
        token = page.served.tokens["looker"]

        sign_in(tab, page.page.url, token, tmp_path)
        assert tab.text("#spaces-list").splitlines()[0] == "items"
        assert "hidden" not in tab.text("body")
        assert "A sample of 2,000 of 100,000 rows" in tab.text("#map-words")
        assert EVIL in tab.text("#tags")
        follow_neighbors(tab, items, tmp_path)
        look_at_a_partition(tab, "part-2", items.partitions()["part-2"])
        tab.run("document.getElementById('measure').click()")
        tab.wait("document.querySelectorAll('#latency-plot .scatterlayer .trace').length === 3")
        assert len(tab.text("#quality-table").splitlines()) == 7
        picture(tab, tmp_path, "quality")

        sign_out(tab)
        asked = "\n".join(tab.requested)
        assert token not in asked
        assert "wrong" not in asked
        assert all(one.startswith((page.page.url, "data:")) for one in tab.requested)
        assert [one for one in complaints_of(tab) if "401" not in one] == []


def sign_in(tab, url, token, tmp_path):
    """Give a wrong token, and then the right one."""
    tab.open(url)
    tab.wait("!document.getElementById('sign-in').hidden")
    assert tab.run("document.activeElement.id") == "token"
    tab.type("#token", "wrong")
    tab.press("Enter")
    tab.wait("!document.getElementById('alert').hidden")
    assert "no API key" in tab.text("#alert")
    picture(tab, tmp_path, "sign-in")
    tab.type("#token", token)
    tab.press("Enter")
    tab.wait("document.querySelectorAll('#map .point').length > 1000")


def follow_neighbors(tab, items, tmp_path):
    """Find a key, go on to its nearest neighbor, and back."""
    title = "document.getElementById('neighbors-title').textContent"
    tab.type("#key", "item-77")
    tab.press("Enter")
    tab.wait(f"{title} === 'Nearest to item-77'")
    found = tab.run(
        "[...document.querySelectorAll('#neighbors-list .key')].map((one) => one.textContent)"
    )
    assert found == list(items.nearest_neighbors(10, key="item-77").keys)
    tab.wait("document.querySelectorAll('#map .scatterlayer .trace').length === 4")
    picture(tab, tmp_path, "map")
    tab.run("document.querySelector('#neighbors-list button').click()")
    tab.wait(f"{title} === 'Nearest to {found[0]}'")
    tab.run("history.back()")
    tab.wait(f"{title} === 'Nearest to item-77'")


def look_at_a_partition(tab, name, rows):
    """Choose a partition."""
    tab.run(
        "(() => { const one = document.getElementById('partition');"
        f" one.value = '{name}'; one.dispatchEvent(new Event('change')); }})()"
    )
    tab.wait(f"document.getElementById('map-words').textContent.includes('of {rows:,} rows')")


def sign_out(tab):
    """Forget the token: nothing of the hub stays in the page."""
    tab.run("document.getElementById('sign-out').click()")
    tab.wait("!document.getElementById('sign-in').hidden")
    assert tab.run("sessionStorage.length") == 0
    assert "item" not in tab.text("body")


def test_who_comes_next_sees_nothing_of_what_the_one_before_saw(tab, tmp_path):
    grants = [("all", "reader on space:*"), ("us", "reader on space:items/partition:us")]
    with paged(tmp_path / "hub", grants) as page:
        items = page.hub.create_space("items", dims=2)
        items.set("in-us", [1, 0], partition="us")
        items.set("in-eu", [0, 1], partition="eu")
        page.hub.create_space("other", dims=2)
        tab.open(f"{page.page.url}#space=items&key=in-eu")
        tab.wait("!document.getElementById('sign-in').hidden")
        tab.type("#token", page.served.tokens["all"])
        tab.press("Enter")
        tab.wait("document.querySelectorAll('#neighbors-list li').length === 1")
        page.served.access.revoke("all")
        tab.run("location.hash = '#space=items&key=in-us'")
        tab.wait("!document.getElementById('sign-in').hidden")
        assert "eu" not in tab.text("body")
        tab.type("#token", page.served.tokens["us"])
        tab.press("Enter")
        tab.wait("document.getElementById('neighbors-words').textContent.includes('no other')")
        seen = tab.run("document.body.textContent")
        assert "in-us" in seen
        assert "in-eu" not in seen
        assert "other" not in tab.text("#spaces-list")


def test_html_in_names_and_keys_is_shown_as_it_is(tab, tmp_path):
    with open_page(tmp_path / "hub") as page:
        space = page.hub.create_space(EVIL[:200], dims=2, metric="l2")
        space.multiset({EVIL: [0, 0], f"{EVIL}2": [9, 0]}, partition=EVIL)
        tab.open(page.page.url)
        tab.wait("document.querySelectorAll('#map .point').length === 2")
        assert tab.text("#space-name") == EVIL[:200]

        # Over the point of the first key, and then on it.
        left, top = tab.run(
            "(() => { const box = document.querySelector('#map .point').getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        tab.command("Input.dispatchMouseEvent", type="mouseMoved", x=left, y=top)
        tab.wait("!document.getElementById('hover').hidden")
        assert tab.text("#hover").startswith(EVIL)
        tab.click(left, top)
        tab.wait("document.querySelectorAll('#neighbors-list li').length === 1")
        shown = {tab.text("#neighbors-title").removeprefix("Nearest to "), tab.text(".key")}
        assert shown == {EVIL, f"{EVIL}2"}
        picture(tab, tmp_path, "html")
        assert tab.run("document.querySelectorAll('main img, main script, main b b').length") == 0
        assert complaints_of(tab) == []


def test_no_space_no_row_and_one_row_are_shown(tab, tmp_path):
    with open_page(tmp_path / "hub") as page:
        tab.open(page.page.url)
        tab.wait("!document.getElementById('spaces-none').hidden")
        assert "no space" in tab.text("#spaces-none")
        picture(tab, tmp_path, "no-space")

        page.hub.create_space("empty", dims=3)
        page.hub.create_space("single", dims=3, key_type="int").set(
            9_007_199_254_740_993, [1, 2, 3]
        )
        tab.open("about:blank")
        tab.open(f"{page.page.url}#space=empty")
        tab.wait("document.getElementById('map-words').textContent.includes('no rows')")
        assert tab.run("document.getElementById('map-and-list').hidden")
        picture(tab, tmp_path, "no-row")
        tab.run("document.querySelector('[data-space=single]').click()")
        tab.wait("document.querySelectorAll('#map .point').length === 1")
        tab.type("#key", "9007199254740993")
        tab.press("Enter")
        tab.wait("document.getElementById('neighbors-words').textContent.includes('no other')")
        assert tab.run("document.getElementById('measure').disabled")
        picture(tab, tmp_path, "one-row")
        assert complaints_of(tab) == []


def test_what_is_not_there_is_said(tab, tmp_path):
    with open_page(tmp_path / "hub") as page:
        page.hub.create_space("items", dims=2).set("a", [1, 0])
        tab.open(f"{page.page.url}#space=items&key=nosuch")
        tab.wait("!document.getElementById('alert').hidden")
        assert "nosuch" in tab.text("#alert")
        tab.run("location.hash = '#space=gone'")
        tab.wait("document.getElementById('alert').textContent.includes('gone')")


def test_everything_that_is_used_has_a_name_and_text_has_contrast(tab, tmp_path):
    """Names as assistive software computes them; contrast as WCAG 2 has it, 4.5 for text."""
    with open_page(tmp_path / "hub") as page:
        page.hub.create_space("items", dims=2).multiset({"a": [1, 0], "b": [0, 1]}, partition="p")
        tab.open(f"{page.page.url}#space=items&key=a")
        tab.wait("document.querySelectorAll('#neighbors-list li').length === 1")
        tree = tab.command("Accessibility.getFullAXTree")["nodes"]
        used = {
            "button",
            "textbox",
            "searchbox",
            "combobox",
            "link",
            "image",
            "table",
            "navigation",
        }
        nodes = [one for one in tree if one.get("role", {}).get("value") in used]
        assert len(nodes) > 8
        unnamed = [
            one["role"]["value"]
            for one in nodes
            if not one.get("name", {}).get("value") and one["role"]["value"] != "table"
        ]
        assert unnamed == []
        assert tab.run(CONTRASTS) == []


def test_calls_and_their_latency_are_drawn_while_the_part_is_open(tab, tmp_path, monkeypatch):
    monkeypatch.setattr(activity, "PAUSE_SECONDS", 0.0)
    with metered(tmp_path / "hub") as served, page_of(served) as page, served.connect() as hub:
        items = hub.create_space("items", dims=2)
        items.multiset({"a": [1, 0], "b": [0, 1]})
        tab.open(page.page.url)
        tab.wait("!document.getElementById('activity').hidden")
        for _ in range(2):
            for _ in range(30):
                items.nearest_neighbors(1, key="a")
            page.get("/api/activity")
        tab.run("document.querySelector('#activity summary').click()")
        tab.wait("document.querySelectorAll('#method-plot .scatterlayer .trace').length === 2")
        search = "ehub.v1.Embeddinghub/Search"
        assert tab.run("[...document.getElementById('method').options].map((o) => o.value)")
        tab.run(
            "(() => { const one = document.getElementById('method');"
            f" one.value = '{search}'; one.dispatchEvent(new Event('change')); }})()"
        )
        tab.wait("document.querySelectorAll('#method-plot .point').length > 1")
        assert "Search\t60\t0" in tab.text("#methods")
        picture(tab, tmp_path, "activity")
        assert complaints_of(tab) == []


# Of each text the colours of letters and ground; those that are too near each other.
CONTRASTS = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const one of document.querySelectorAll("body *:not(svg *)")) {
    const has = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!has || !one.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort().reverse();
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(one.outerHTML.slice(0, 80));
  }
  return found;
})()
"""
