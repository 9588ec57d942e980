"""The commands about versions and points in time do what the API does, and say so plainly."""

from __future__ import annotations

import numpy as np
import pytest
from views import normal

import ehub

KEYS = [f"k{i:02}" for i in range(40)]


@pytest.fixture
def hub(tmp_path):
    """A space with a tag from before a write, and a second version that is a little worse."""
    path = tmp_path / "hub"
    rows = normal(0, len(KEYS), 6)
    with ehub.open(path, durability="off") as opened:
        items = opened.create_space("items", dims=6, metric="l2")
        items.multiset(KEYS, rows)
        items.tag("old", message="before")
        items.set("k00", rows[0] + 1)
        items.delete("k01")
        items.set("new", rows[1])
        better = items.create_version("v2", model=ehub.Model(name="m", revision="2", dims=6))
        better.multiset(KEYS[2:], rows[2:] + normal(1, len(KEYS) - 2, 6) / 50)
    return path


# --- points in time ---


def test_a_tag_is_made_listed_read_and_removed(cli, hub):
    assert cli("tag", hub, "items", "now", "-m", "why", "--label", "run=7").code == 0
    listed = cli("tags", hub, "items", "--json").json["tags"]
    assert [tag["name"] for tag in listed] == ["old", "now"]
    assert (listed[1]["message"], listed[1]["labels"]) == ("why", {"run": "7"})
    assert [row[0] for row in cli("tags", hub, "items").rows] == ["old", "now"]
    assert cli("untag", hub, "items", "old").code == 0
    assert [row[0] for row in cli("tags", hub, "items").rows] == ["now"]


def test_what_was_at_a_tag_can_be_read_by_every_reading_command(cli, hub, tmp_path):
    past = ("--at", "old")
    now, then = (cli("get", hub, "items", "k00", *at).rows for at in ((), past))
    assert now != then
    assert cli("get", hub, "items", "k01").code == 1
    assert cli("get", hub, "items", "k01", *past).code == 0
    near = cli("search", hub, "items", "--key", "k01", "-k", "3", *past)
    assert len(near.rows) == 3
    assert "new" not in near.out
    assert cli("average", hub, "items", "k01", *past).code == 0
    assert cli("partitions", hub, "items", *past).code == 0
    out = tmp_path / "old.npz"
    assert cli("export", hub, out, "--space", "items", *past).code == 0
    assert sorted(np.load(out, allow_pickle=False)["keys"].tolist()) == KEYS


def test_an_unknown_tag_brings_up_those_that_there_are(cli, hub):
    failed = cli("get", hub, "items", "k00", "--at", "odl")
    assert failed.code == 1
    assert "no tag 'odl'" in failed.err
    assert "there are: old" in failed.err


def test_a_snapshot_is_recorded_and_expires_by_rule(cli, hub):
    names = [cli("snapshot", hub, "items", "--json").json["name"] for _ in range(3)]
    assert names == ["@1", "@2", "@3"]
    last = cli("snapshot", hub, "items", "--keep-last", "2", "--json").json
    assert (last["name"], last["expired"]) == ("@4", ["@1", "@2"])
    assert cli("get", hub, "items", "k00", "--at", "@3").code == 0
    assert [row[0] for row in cli("tags", hub, "items").rows] == ["old", "@3", "@4"]


def test_restore_asks_and_then_goes_back(cli, hub, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda *args, **kwargs: False)
    assert "nothing was changed" in cli("restore", hub, "items", "old").err
    assert cli("get", hub, "items", "new").code == 0
    assert "40 rows" in cli("restore", hub, "items", "old", "--yes").out
    assert cli("get", hub, "items", "new").code == 1
    assert cli("diff", hub, "items", "old").out == ""


def test_diff_has_a_line_for_each_key(cli, hub):
    rows = cli("diff", hub, "items", "old").rows
    assert [row[:2] for row in rows] == [["added", "new"], ["removed", "k01"], ["changed", "k00"]]
    assert float(rows[2][3]) == pytest.approx(6**0.5, rel=1e-5)
    document = cli("diff", hub, "items", "old", "--json").json
    assert (document["added"], document["removed"], document["changed"]) == (
        ["new"],
        ["k01"],
        ["k00"],
    )


def test_a_fork_begins_with_the_rows_of_a_tag(cli, hub):
    assert "40 rows" in cli("fork", hub, "items", "try", "--at", "old").out
    assert cli("get", hub, "items", "k01", "--version", "try").code == 0
    assert cli("fork", hub, "items", "try").code == 1


# --- versions ---


def test_versions_are_listed_with_what_leads_to_them(cli, hub):
    listed = cli("versions", hub, "items", "--json").json["versions"]
    assert [(one["name"], one["aliases"]) for one in listed] == [
        ("initial", ["default"]),
        ("v2", []),
    ]
    assert (listed[0]["tags"], listed[1]["model"]["revision"]) == (["old"], "2")
    assert cli("versions", hub, "items").rows[1][:6] == ["v2", "", "38", "6", "l2", "m@2"]


def test_import_into_a_version_makes_it(cli, hub, tmp_path):
    np.savez(tmp_path / "x.npz", keys=np.array(["a", "b"]), vectors=normal(3, 2, 9))
    into = ("import", hub, tmp_path / "x.npz", "--space", "items", "--version", "v3")
    assert cli(*into).code == 0
    assert len(cli("get", hub, "items", "a", "b", "--version", "v3").rows) == 2
    assert cli(*into, "--resume", "--json").code == 0
    np.savez(tmp_path / "x.npz", keys=np.array(["a"]), vectors=normal(3, 1, 4))
    assert "version 'v3' has 9" in cli(*into).err
    elsewhere = cli("import", hub, tmp_path / "x.npz", "--space", "none", "--version", "v")
    assert "no space 'none'" in elsewhere.err


def test_promote_moves_the_default_only_if_it_is_good_enough(cli, hub):
    failed = cli("promote", hub, "items", "v2", "--require", "coverage=1", "--json")
    assert (failed.code, failed.json["moved"]) == (1, False)
    assert failed.json["checks"][0]["passed"] is False
    assert "coverage is 0.95, at least 1 is required" in failed.err
    passed = cli("promote", hub, "items", "v2", "--require", "coverage=0.9")
    assert passed.code == 0
    assert "leads to 'v2'" in passed.out
    assert cli("aliases", hub, "items").rows == [["default", "v2", "initial", ""]]
    assert cli("get", hub, "items", "new").code == 1
    assert "leads to 'initial' again" in cli("rollback", hub, "items").out
    assert cli("get", hub, "items", "new").code == 0


def test_promote_measures_recall_with_queries_of_a_file(cli, hub, tmp_path):
    np.save(tmp_path / "q.npy", normal(5, 7, 6))
    options = ("--require", "recall_at_3=0.9", "--queries", tmp_path / "q.npy", "--json")
    checks = cli("promote", hub, "items", "v2", *options).json["checks"]
    assert (checks[0]["value"], checks[0]["note"]) == (1.0, "7 queries")


def test_an_alias_moves_only_from_where_it_is_expected(cli, hub):
    assert cli("alias", hub, "items", "prod", "initial").code == 0
    assert cli("alias", hub, "items", "prod", "v2", "--expect", "v2").code == 1
    assert cli("alias", hub, "items", "prod", "v2", "--expect", "initial").code == 0
    assert cli("get", hub, "items", "k02", "--version", "prod").code == 0


def test_a_protected_alias_moves_again_when_that_is_lifted(cli, hub):
    assert cli("alias", hub, "items", "prod", "initial", "--protect").code == 0
    refused = cli("alias", hub, "items", "prod", "v2")
    assert refused.code == 1
    assert "--no-protect" in refused.err
    assert "protect=" not in refused.err
    assert cli("aliases", hub, "items").rows[1] == ["prod", "initial", "", "protected"]
    assert cli("alias", hub, "items", "prod", "v2", "--no-protect").code == 0
    assert cli("aliases", hub, "items").rows[1] == ["prod", "v2", "initial", ""]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("promote", "v2", "--require", "coverage"), "expected FIGURE=LEAST"),
        (("promote", "v2", "--queries", __file__), "expected a .npy file"),
        (("tag", "t", "--label", "x"), "expected NAME=TEXT"),
        (("compare", "initial", "@"), "'@' is incomplete"),
        (("compare", "initial", "v9"), "there are: initial, v2, default"),
        (("compare", "initial", ""), "expected VERSION, VERSION@TAG or @TAG"),
        (("fork", "f", "--version", "v9"), "no version 'v9'"),
        (("delete-version", "v9"), "no version 'v9'"),
        (("delete-version", "initial", "--yes"), "is what 'default' leads to"),
        (("average", "--name", "x", "--at", "old"), "--at is for the average of keys"),
    ],
)
def test_wrong_usage_is_an_error_of_one_line(cli, hub, arguments, text):
    command, *rest = arguments
    failed = cli(command, hub, "items", *rest)
    assert failed.code in (1, 2)
    assert text in failed.err


def test_a_version_is_frozen_and_deleted(cli, hub):
    asked = cli("freeze", hub, "items", "--version", "v2")
    assert (asked.code, "cannot be undone" in asked.err) == (1, True)
    assert cli("versions", hub, "items").rows[1][-1] == ""
    assert cli("freeze", hub, "items", "--version", "v2", "--yes").code == 0
    assert cli("versions", hub, "items").rows[1][-1] == "frozen"
    assert "38 rows" in cli("delete-version", hub, "items", "v2", "--yes").out
    assert len(cli("versions", hub, "items").rows) == 1


# --- comparing ---


def test_compare_prints_the_figures_of_versions_and_tags(cli, hub):
    text = cli("compare", hub, "items", "initial@old", "v2").out
    assert text.startswith("comparison: initial@old -> v2")
    document = cli("compare", hub, "items", "@old", "initial", "--json", "-k", "3").json
    assert (document["added"], document["removed"], document["k"]) == (1, 1, 3)


def test_compare_writes_a_report(cli, hub, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert cli("compare", hub, "items", "initial", "v2", "--report", page).code == 0
    assert "<svg" in page.read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "items", "initial", "v2", "--report"],
        ["drift", "items", "old", "--report"],
        ["export", "--force", "--space", "items"],
    ],
    ids=lambda command: command[0],
)
def test_where_a_file_cannot_be_written_is_said_before_the_work(
    cli, hub, tmp_path, monkeypatch, command
):
    name, *options = command
    for module, work in [(ehub, "compare"), (ehub.Space, "drift"), (ehub.Space, "scan")]:
        monkeypatch.setattr(module, work, lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "taken.csv").mkdir()
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "missing" / "x.csv")
    wrong = {
        "missing/x.csv": "there is no directory",
        "dangling.csv": "there is no directory",
        "taken.csv": "is a directory",
    }
    for place, said in wrong.items():
        refused = cli(name, hub, *options, tmp_path / place)
        assert (refused.code, said in refused.err.replace("\n", " ")) == (2, True)


def test_drift_prints_a_row_for_each_time(cli, hub):
    cli("tag", hub, "items", "later")
    text = cli("drift", hub, "items", "old", "later").out
    assert text.startswith("drift from old\n")
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["later", "now"]
    document = cli("drift", hub, "items", "old", "--json").json
    assert [moment["name"] for moment in document["moments"]] == ["now"]


# --- sub-indices ---


def test_sub_indices_are_listed_and_searched(cli, hub):
    with ehub.open(hub) as opened:
        opened.get_space("items").create_subindex("few", keys=["k03", "k04", "k05", "none"])
    assert cli("subindices", hub, "items").rows == [["few", "3"]]
    assert cli("subindices", hub, "items", "--version", "v2", "--json").json["subindices"] == {}
    near = cli("search", hub, "items", "--key", "k03", "--subindex", "few").rows
    assert sorted(row[0] for row in near) == ["k04", "k05"]
    wrong = cli("search", hub, "items", "--key", "k03", "--subindex", "few", "--at", "old")
    assert (wrong.code, "--subindex is of now" in wrong.err) == (2, True)
    unknown = cli("search", hub, "items", "--key", "k03", "--subindex", "other")
    assert "no sub-index 'other'" in unknown.err
