"""Drift measures each time against the same baseline, and a page shows the lines over time."""

from __future__ import annotations

import numpy as np
import pytest
from views import normal

import ehub

N, DIMS = 200, 8


@pytest.fixture
def items(tmp_path):
    """A space that moves a little further from the tag "start" with each of three tags."""
    rows = normal(0, N, DIMS)
    with ehub.open(tmp_path / "hub", durability="off") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(N), rows)
        items.tag("start")
        for step in (1, 2, 3):
            items.multiset(np.arange(N), rows + step * 0.3 * normal(9, N, DIMS))
            items.delete(step)
            items.tag(f"t{step}")
        yield items


def test_drift_is_now_compared_with_a_tag(items):
    found = items.drift("start")
    with items.at("start") as start:
        same = ehub.drift(start, items, names=("start", "now"))
    assert found.latest.statistics() == same.statistics()
    assert (found.baseline, found.latest.kind, found.latest.removed) == ("start", "drift", 1)
    assert str(found) == str(found.latest)


def test_a_series_moves_away_from_the_baseline_time_by_time(items):
    found = items.drift("start", over=["t1", "t2", "t3"])
    assert [moment.name for moment in found.moments] == ["t1", "t2", "t3", "now"]
    assert [moment.created != "" for moment in found.moments] == [True, True, True, False]
    shifts = [one.comparison.statistics()["l2_shift.p50"].value for one in found.moments]
    assert shifts[0] < shifts[1] < shifts[2] == shifts[3]
    assert [row[0] for row in found.table()] == ["t1", "t2", "t3", "now"]
    document = found.to_dict()
    assert document["moments"][1]["comparison"] == found.moments[1].comparison.to_dict()
    assert "drift from start" in str(found)


def test_a_version_and_its_space_drift_alike(items):
    assert items.current.drift("start").to_dict() == items.drift("start").to_dict()


def test_a_snapshot_is_a_baseline_and_a_time(items):
    with items.snapshot() as held:
        found = items.drift(items.tags()[0], over=[held])
        assert found.moments[0].name == f"batch {held.seq}"
        assert not held.closed


def test_what_is_no_tag_is_refused(items):
    with pytest.raises(ehub.NotFoundError, match="no tag 't9'"):
        items.drift("t9")
    with pytest.raises(ehub.NotFoundError, match="no tag 't9'"):
        items.drift("start", over=["t9"])
    with pytest.raises(TypeError, match="expected a list of tags"):
        items.drift("start", over="t1")


def test_a_drift_has_at_least_one_time():
    with pytest.raises(ehub.InvalidArgumentError, match="no times"):
        ehub.Drift(())


def test_a_report_draws_lines_over_time(items, tmp_path):
    pytest.importorskip("matplotlib")
    found = items.drift("start", over=["t1", "t2"])
    found.report(tmp_path / "a.html")
    found.report(tmp_path / "b.html")
    text = (tmp_path / "a.html").read_text()
    assert "Over time, since start" in text
    assert text.count("<svg") == 9 + 6
    assert (tmp_path / "b.html").read_text() == text


def test_a_report_of_one_time_has_no_lines(items, tmp_path):
    pytest.importorskip("matplotlib")
    items.drift("start").report(tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()
    assert "Over time, since start" in text
    assert text.count("<svg") == 6
