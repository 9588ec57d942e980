"""What the page shows, and to whom: every question, and each cell of principal x question."""

from __future__ import annotations

import numpy as np
import pytest

import ehub
from ehub.access import Grant, entries

pytest.importorskip("plotly", reason="the page needs plotly: pip install 'ehub[ui]'")

from metered import metered, until
from paged import open_page, page_of, paged

from ehub.server.page import activity, sample_map
from ehub.server.page.reports import ROUTES

ROLES = ("reader", "writer", "editor", "admin")
PRINCIPALS = {
    **{f"{role}-of-hub": [f"{role} on hub"] for role in ROLES},
    **{f"{role}-of-items": [f"{role} on space:items"] for role in ROLES},
    **{f"{role}-of-other": [f"{role} on space:other"] for role in ROLES},
    "part-reader": ["reader on space:items/partition:us"],
    "part-writer": ["writer on space:items/partition:us"],
    "nobody": [],
}

# For each question about the space "items": who is answered.
ASKED = {
    "/api/hub": ("known", {}),
    "/api/activity": ("reader of hub", {}),
    "/api/spaces": ("known", {}),
    "/api/space": ("reader or part", {"space": "items"}),
    "/api/map": ("reader or part", {"space": "items"}),
    "/api/neighbors": ("reader or part", {"space": "items", "key": "us0"}),
    "/api/quality": ("reader or part", {"space": "items"}),
}


def fill(hub, rows=30, dims=4):
    """The space "items": keys us0, eu1, us2, ... in two partitions, and one in none."""
    items = hub.create_space("items", dims=dims, metric="l2")
    vectors = np.random.default_rng(3).standard_normal((rows, dims), np.float32)
    for start, name in ((0, "us"), (1, "eu")):
        keys = [f"{name}{i}" for i in range(start, rows, 2)]
        items.multiset(keys, vectors[start::2], partition=name)
    items.set("free", vectors[0] + 0.01)
    hub.create_space("other", dims=2)
    return items


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    grants = [(name, *given) for name, given in PRINCIPALS.items()]
    with paged(tmp_path_factory.mktemp("page") / "hub", grants) as one:
        fill(one.hub)
        yield one


@pytest.fixture
def small(tmp_path):
    with open_page(tmp_path / "hub") as one:
        yield one


def expected(principal, least):
    """What the tables above say; who may not know of a space is told that there is none."""
    if least == "known" or principal.endswith("-of-hub"):
        return 200
    if least == "reader of hub":
        return 403
    return 200 if principal.startswith("part-") or principal.endswith("-of-items") else 404


# --- who is answered ---


def test_the_table_has_every_question():
    assert set(ASKED) == set(ROUTES)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("principal", PRINCIPALS)
def test_each_cell_of_principal_and_question_is_as_the_table_says(page, principal, path):
    least, values = ASKED[path]
    got = page.get(path, principal, **values)
    assert got.status == expected(principal, least), got.body


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("token", [None, "", "ehub_wrong", "a.b.c"])
def test_nobody_is_answered_without_a_token_that_is_believed(page, path, token):
    got = page.get(path, token=token, **ASKED[path][1])
    assert got.status == 401
    assert got.headers["WWW-Authenticate"] == "Bearer"
    assert "items" not in got.body.decode()


def test_what_is_no_bearer_token_is_refused(page):
    basic = {"Authorization": "Basic cm9vdDpyb290"}
    assert page.get("/api/spaces", headers=basic).status == 401


def test_a_space_that_is_hidden_looks_like_one_that_is_missing(page):
    hidden, missing = (
        page.get("/api/map", "reader-of-other", space=name) for name in ("items", "nosuch")
    )
    assert hidden.status == missing.status == 404
    assert hidden.json["error"].replace("items", "nosuch") == missing.json["error"]


def test_lists_leave_out_what_the_caller_may_not_know_of(page):
    def names(who):
        return [one["name"] for one in page.get("/api/spaces", who).json["spaces"]]

    assert names("reader-of-hub") == ["items", "other"]
    assert names("part-reader") == ["items"]
    assert names("reader-of-other") == ["other"]
    assert names("nobody") == []


def test_grants_on_the_hub_show_what_it_is_as_a_whole(page):
    hub = page.get("/api/hub", "reader-of-hub").json
    assert hub["info"]["rows"] == 31
    assert (hub["principal"], hub["watches"]) == ("key:reader-of-hub", True)
    less = page.get("/api/hub", "reader-of-items").json
    assert (less["info"], less["watches"]) == (None, False)


def test_a_key_that_was_revoked_opens_nothing(tmp_path):
    with paged(tmp_path / "hub", [("gone", "reader on hub")]) as page:
        assert page.get("/api/hub", "gone").status == 200
        page.served.access.revoke("gone")
        assert page.get("/api/hub", "gone").status == 401


# --- grants on partitions ---


def test_of_a_partition_nothing_else_is_shown(page):
    space = page.get("/api/space", "part-reader", space="items").json
    assert space["partitions"] == [{"name": "us", "rows": 15}]
    assert [one["rows"] for one in space["versions"]] == [15]
    assert space["index"] is None
    shown = page.get("/api/map", "part-reader", space="items").json
    assert shown["rows"] == 15
    assert sorted(shown["keys"]) == sorted(f"us{i}" for i in range(0, 30, 2))
    near = page.get("/api/neighbors", "part-reader", space="items", key="us0", k=100).json
    assert {one["key"] for one in near["neighbors"]} == {f"us{i}" for i in range(2, 30, 2)}
    assert page.get("/api/quality", "part-reader", space="items").json["queries"] == 15


@pytest.mark.parametrize("key", ["eu1", "free", "nosuch"])
def test_a_key_of_another_partition_looks_missing(page, key):
    got = page.get("/api/neighbors", "part-reader", space="items", key=key)
    assert got.status == 404
    missing = page.get("/api/neighbors", "part-reader", space="items", key="missing")
    assert got.json["error"].replace(key, "missing") == missing.json["error"]


@pytest.mark.parametrize("path", ["/api/map", "/api/neighbors", "/api/quality"])
def test_a_partition_that_is_not_granted_is_refused(page, path):
    values = {**ASKED[path][1], "partition": "eu"}
    assert page.get(path, "part-reader", **values).status == 403
    assert page.get(path, "part-reader", **{**values, "partition": "us"}).status == 200


def test_maps_are_not_shared_between_callers(tmp_path):
    grants = [("all", "reader on space:items"), ("us", "reader on space:items/partition:us")]
    with paged(tmp_path / "hub", grants) as page:
        fill(page.hub)
        for order in (("all", "us"), ("us", "all")):
            rows = {
                who: len(page.get("/api/map", who, space="items").json["keys"]) for who in order
            }
            assert rows == {"all": 31, "us": 15}


def test_a_map_made_before_a_grant_was_taken_back_is_not_shown(tmp_path):
    grants = [("some", "reader on space:items/partition:*", "reader on space:items/partition:us")]
    with paged(tmp_path / "hub", grants) as page:
        fill(page.hub)
        assert len(page.get("/api/map", "some", space="items").json["keys"]) == 30
        wide = Grant.parse("reader on space:items/partition:*")
        page.served.access.ungrant("key:some", wide)
        shown = page.get("/api/map", "some", space="items").json
        assert {key[:2] for key in shown["keys"]} == {"us"}


def test_looking_leaves_no_denials_in_the_audit_log_but_refusals_do(tmp_path):
    with paged(tmp_path / "hub", [("us", "reader on space:items/partition:us")]) as page:
        fill(page.hub)
        for path, (least, values) in ASKED.items():
            if least != "reader of hub":
                assert page.get(path, "us", **values).status == 200
        assert page.get("/api/map", "us", space="items", partition="eu").status == 403
    denials = [one for one in entries(str(tmp_path / "hub")) if one["action"] == "denial"]
    assert [(one["principal"], one["method"].rpartition("/")[2]) for one in denials] == [
        ("key:us", "Scan")
    ]
    assert denials[0]["peer"].startswith("http:127.0.0.1:")


# --- spaces ---


def test_a_hub_without_spaces_is_shown(small):
    assert small.get("/api/hub").json == {
        "release": ehub.__version__,
        "read_only": False,
        "principal": "",
        "info": {"rows": 0, "disk_bytes": small.hub.info().disk_bytes, "seq": 0},
        "watches": True,
    }
    assert small.get("/api/spaces").json == {"spaces": [], "total": 0, "after": None}


def test_spaces_come_by_the_hundred_and_are_found_by_a_part_of_their_names(small):
    for i in range(120):
        small.hub.create_space(f"space-{i:03}", dims=2)
    first = small.get("/api/spaces").json
    assert (len(first["spaces"]), first["total"], first["after"]) == (100, 120, "space-099")
    rest = small.get("/api/spaces", after=first["after"]).json
    assert [one["name"] for one in rest["spaces"]] == [f"space-{i:03}" for i in range(100, 120)]
    assert rest["after"] is None
    found = small.get("/api/spaces", match="SPACE-11").json
    assert (found["total"], found["spaces"][0]["name"]) == (10, "space-110")


def test_a_space_is_described_with_its_versions_aliases_tags_and_partitions(small):
    items = fill(small.hub)
    items.tag("may", message="<i>what</i> went live")
    model = ehub.Model(name="large", dims=6)
    items.create_version("large", model=model).freeze()
    items.alias("next", "large")
    found = small.get("/api/space", space="items").json
    assert found["version"] == "initial"
    initial, large = found["versions"]
    assert (initial["rows"], initial["aliases"], initial["model"]) == (31, ["default"], None)
    assert (large["dims"], large["aliases"], large["frozen"]) == (6, ["next"], True)
    assert large["model"]["name"] == "large"
    assert [(one["name"], one["message"]) for one in found["tags"]] == [
        ("may", "<i>what</i> went live")
    ]
    assert found["partitions"] == [{"name": "eu", "rows": 15}, {"name": "us", "rows": 15}]
    assert found["index"]["rows"] == 31
    other = small.get("/api/space", space="items", version="next").json
    assert (other["version"], other["tags"]) == ("large", [])


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/api/space", {"space": "nosuch"}),
        ("/api/map", {"space": "nosuch"}),
        ("/api/space", {"space": "items", "version": "nosuch"}),
        ("/api/map", {"space": "items", "version": ""}),
        ("/api/neighbors", {"space": "items", "key": "nosuch"}),
        ("/api/nosuch", {}),
    ],
)
def test_what_is_not_there_is_not_found(small, path, values):
    fill(small.hub)
    got = small.get(path, **values)
    assert got.status == 404
    assert set(got.json) == {"error"}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/api/space", {}),
        ("/api/space?space=items&token=secret", {}),
        ("/api/neighbors", {"space": "items"}),
        ("/api/neighbors", {"space": "items", "key": "us0", "k": "0"}),
        ("/api/neighbors", {"space": "items", "key": "us0", "k": "101"}),
        ("/api/neighbors", {"space": "items", "key": "us0", "k": "many"}),
        ("/api/neighbors", {"space": "items", "key": "x" * 2000}),
        ("/api/spaces?match", {}),
        ("/api/spaces?match=a&match=b", {}),
        ("/api/spaces?match=%ff", {}),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(small, path, values):
    fill(small.hub)
    assert small.get(path, **values).status == 400


# --- the map ---


def test_a_map_shows_the_rows_in_the_plane_in_which_they_vary_most(small):
    items = small.hub.create_space("items", dims=5, metric="l2")
    vectors = np.random.default_rng(4).standard_normal((50, 5)) * [1, 30, 1, 1, 9]
    items.multiset([f"k{i}" for i in range(50)], vectors)
    shown = small.get("/api/map", space="items").json
    places = {key: i for i, key in enumerate(shown["keys"])}
    order = [places[f"k{i}"] for i in range(50)]
    x, y = np.array(shown["x"])[order], np.array(shown["y"])[order]
    assert abs(np.corrcoef(x, vectors[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(y, vectors[:, 4])[0, 1]) > 0.95
    values = np.sort(np.linalg.eigvalsh(np.cov(vectors.astype(np.float32).T)))[::-1]
    np.testing.assert_allclose(shown["shares"], values[:2] / values.sum(), rtol=1e-4)


def test_a_map_depends_on_the_rows_alone_not_on_their_order_or_the_process(tmp_path):
    keys = np.array([f"k{i}" for i in range(5_000)], object)
    vectors = np.random.default_rng(5).standard_normal((5_000, 8), np.float32)
    maps = []
    for name, order in (
        ("a", np.arange(5_000)),
        ("b", np.random.default_rng(6).permutation(5_000)),
    ):
        with open_page(tmp_path / name) as page:
            items = page.hub.create_space("items", dims=8)
            for part in np.array_split(order, 7):
                items.multiset(keys[part], vectors[part])
            maps.append(page.get("/api/map", space="items").json)
    for one in maps:
        del one["id"]
    assert maps[0] == maps[1]
    assert len(maps[0]["keys"]) == sample_map.ROWS_MAX
    assert maps[0]["rows"] == maps[0]["keys_seen"] == 5_000


def test_no_rows_one_row_and_equal_rows_have_maps(small):
    items = small.hub.create_space("items", dims=3)
    assert small.get("/api/map", space="items").json["keys"] == []
    items.set("a", [1, 2, 3])
    shown = small.get("/api/map", space="items").json
    assert (shown["keys"], shown["x"], shown["y"]) == (["a"], [0], [0])
    near = small.get("/api/neighbors", space="items", key="a", map=shown["id"]).json
    assert near == {"key": "a", "at": [0, 0], "neighbors": []}
    assert small.get("/api/quality", space="items").status == 400
    items.multiset({key: [1, 2, 3] for key in "abc"})
    shown = small.get("/api/map", space="items").json
    assert (sorted(shown["keys"]), shown["x"], shown["shares"]) == (
        ["a", "b", "c"],
        [0] * 3,
        [0, 0],
    )


def test_of_more_keys_than_can_be_looked_at_the_first_are_sampled(small, monkeypatch):
    monkeypatch.setattr(sample_map, "KEYS_MAX", 1_000)
    monkeypatch.setattr(sample_map, "BATCH_ROWS", 500)
    items = small.hub.create_space("items", dims=2)
    items.multiset([str(i) for i in range(3_000)], np.ones((3_000, 2)))
    shown = small.get("/api/map", space="items").json
    assert shown["rows"] == 3_000
    assert 1_000 <= shown["keys_seen"] == len(shown["keys"]) < 2_000


def test_rows_that_change_or_go_leave_the_map_at_once(small):
    items = fill(small.hub)
    before = small.get("/api/map", space="items").json
    assert small.get("/api/map", space="items").json["id"] == before["id"]
    items.delete("us0")
    after = small.get("/api/map", space="items").json
    assert "us0" not in after["keys"]
    items.erase(["us2"])
    assert "us2" not in small.get("/api/map", space="items").json["keys"]
    items.set("us4", np.full(4, 100.0))
    moved = small.get("/api/map", space="items").json
    assert max(map(abs, moved["x"])) > 50


def test_rows_that_come_are_on_the_map_after_a_while(small, monkeypatch):
    items = fill(small.hub)
    small.get("/api/map", space="items")
    items.set("new", np.zeros(4))
    monkeypatch.setattr(sample_map, "SECONDS", 0.0)
    assert "new" in small.get("/api/map", space="items").json["keys"]


def test_neighbors_are_those_of_a_search_and_have_their_places_on_the_map(small):
    items = fill(small.hub)
    shown = small.get("/api/map", space="items").json
    places = dict(zip(shown["keys"], zip(shown["x"], shown["y"], strict=True), strict=True))
    near = small.get("/api/neighbors", space="items", key="us0", k=5, map=shown["id"]).json
    truth = items.nearest_neighbors(5, key="us0")
    assert [one["key"] for one in near["neighbors"]] == list(truth.keys)
    np.testing.assert_allclose(
        [one["distance"] for one in near["neighbors"]], truth.distances, rtol=1e-5
    )
    assert tuple(near["at"]) == pytest.approx(places["us0"], rel=1e-4)
    for one in near["neighbors"]:
        assert tuple(one["at"]) == pytest.approx(places[one["key"]], rel=1e-4, abs=1e-5)
    # On another map they would be elsewhere.
    other = small.get("/api/neighbors", space="items", key="us0", map="0" * 32).json
    assert other["at"] is None
    assert all(one["at"] is None for one in other["neighbors"])


def test_a_partition_has_a_map_of_its_own(small):
    fill(small.hub)
    shown = small.get("/api/map", space="items", partition="eu").json
    assert (shown["rows"], {key[:2] for key in shown["keys"]}) == (15, {"eu"})
    assert small.get("/api/neighbors", space="items", partition="eu", key="us0").status == 404


def test_integer_keys_are_exact_text(small):
    users = small.hub.create_space("users", dims=2, key_type="int")
    keys = [-(1 << 63), 9_007_199_254_740_993, (1 << 63) - 1]
    users.multiset(keys, np.array([[1, 0], [1, 0.1], [0, 1]]))
    shown = small.get("/api/map", space="users").json
    assert sorted(shown["keys"]) == sorted(map(str, keys))
    near = small.get("/api/neighbors", space="users", key="9007199254740993", k=1).json
    assert near["neighbors"][0]["key"] == str(-(1 << 63))
    for wrong in ("a", "1.5", "9" * 19, "9" * 30, " 1", "٣"):
        assert small.get("/api/neighbors", space="users", key=wrong).status == 400


def test_figures_that_json_has_no_number_for_are_left_out(small):
    items = small.hub.create_space("items", dims=2, metric="l2")
    items.multiset({"a": [3e38, 0], "b": [-3e38, 0], "c": [0, 0]})
    shown = small.get("/api/map", space="items")
    assert shown.status == 200
    near = small.get("/api/neighbors", space="items", key="a").json["neighbors"]
    assert [one["distance"] for one in near] == [None, None]


# --- recall and latency ---


def test_recall_and_latency_are_measured_for_each_ef(small):
    items = small.hub.create_space("items", dims=16, metric="l2")
    rows = np.random.default_rng(7).standard_normal((6_000, 16), np.float32)
    items.multiset([str(i) for i in range(6_000)], rows)
    items.optimize()
    assert items.index_stats().rows_indexed == 6_000
    curve = small.get("/api/quality", space="items", k=5).json
    assert (curve["k"], curve["queries"]) == (5, 40)
    assert [one["ef"] for one in curve["points"]] == [10, 20, 40, 80, 160, 320]
    recalls = [one["recall"] for one in curve["points"]]
    assert recalls[0] > 0.5
    assert recalls[0] < recalls[-1] or recalls[0] == 1
    assert recalls[-1] > 0.98
    for one in curve["points"]:
        assert 0 < one["p50_ms"] <= one["p95_ms"] <= one["max_ms"]
    assert curve["exact_ms"] > 0


# --- what the server does ---


def test_calls_and_their_latency_are_shown_as_they_went_while_somebody_watched(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(activity, "PAUSE_SECONDS", 0.0)
    with metered(tmp_path / "hub", recall_seconds=1_000.0) as served, page_of(served) as page:
        first = page.get("/api/activity").json
        assert (first["moments"], first["methods"], first["recalls"]) == ([], [], [])
        with served.connect() as hub:
            items = fill(hub)
            for _ in range(20):
                items.nearest_neighbors(3, vector=np.zeros(4))
            with pytest.raises(ehub.NotFoundError):
                items.get("nosuch")
        # The stream of the client's calls is a call, too, and ends some time after the client.
        streams = {"service": "ehub.v1.Embeddinghub", "method": "Calls"}
        until(lambda: not served.value("ehub_calls_in_progress", **streams))
        for one in served.metrics.watchers[1:]:
            one.measure()
        found = page.get("/api/activity").json
        calls = {one["method"]: (one["calls"], one["errors"]) for one in found["methods"]}
        # The page's own questions are none of them.
        assert (calls["Search"], calls["Get"]) == ((20, 0), (1, 1))
        assert "Metrics" not in calls
        (then,) = found["moments"]
        assert then["calls_per_second"] > then["errors_per_second"] > 0
        search = then["methods"]["ehub.v1.Embeddinghub/Search"]
        assert 0 < search["p50_ms"] <= search["p99_ms"]
        assert found["recalls"] == [{"space": "items", "version": "initial", "recall": 1.0}]
        assert found["memory_bytes"] > 0
        later = page.get("/api/activity").json["moments"]
        assert later[0] == then
        assert later[1]["calls_per_second"] == 0


def test_looks_that_follow_each_other_closely_are_one(small):
    for _ in range(3):
        assert small.get("/api/activity").json["moments"] == []
