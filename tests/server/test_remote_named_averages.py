"""tests/test_named_averages.py over a server."""

from __future__ import annotations

import pytest
import test_named_averages
from adopted import PRIVATE, adopt
from guarded import guarded
from served import serving

import ehub
from ehub import kept_average
from ehub.server.config import Limits
from ehub.server.metrics.metrics import Metrics
from ehub.server.service import Embeddinghub
from ehub.wire import ehub_pb2

EMBEDDED_ONLY = {
    "test_many_groups_change_in_one_batch": PRIVATE,
    "test_keys_with_any_characters_are_told_apart": PRIVATE,
    "test_a_refused_average_leaves_nothing": PRIVATE,
    "test_what_an_average_is_made_of_is_hidden": PRIVATE,
    "test_deleting_the_version_or_the_space_deletes_its_averages": PRIVATE,
    "test_verify_finds_a_mean_that_is_not_that_of_its_members": PRIVATE,
    "test_verify_finds_a_mean_that_is_missing": PRIVATE,
    "test_verify_lets_the_last_bit_differ_for_sums_depend_on_their_order": PRIVATE,
}
NOT_AIO = {}

adopt(globals(), test_named_averages, EMBEDDED_ONLY, NOT_AIO)


def test_both_snapshots_of_an_average_are_held_or_neither(tmp_path):
    with (
        serving(tmp_path, limits=Limits(snapshots=3)) as server,
        ehub.connect(server.address) as hub,
    ):
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset(["a", "b"], [[0, 0], [2, 2]])
        average = items.create_average("mean", {"all": ["a", "b"]})
        means, base = average.snapshot()
        items.delete("a")
        assert (means["all"].tolist(), sorted(base)) == ([1, 1], ["a", "b"])
        assert means.nearest_neighbors(1, vector=[0, 0]).keys.tolist() == ["all"]
        assert average["all"].tolist() == [2, 2]
        with pytest.raises(ehub.UnavailableError, match="its limit `snapshots`"):
            average.snapshot()
        base.close()
        assert means["all"].tolist() == [1, 1]
        means.close()
        assert items.erasure_plan(["a"]).blockers == ()


class Leaves:
    """The context of a caller who has left when that is asked for the third time."""

    def __init__(self):
        self.asked = 0

    def time_remaining(self):
        return None

    def is_active(self):
        self.asked += 1
        return self.asked < 3

    def add_callback(self, callback):
        return True


@pytest.fixture
def averaged(tmp_path, monkeypatch):
    """A hub with an average of ten groups, each a part of what is made anew."""
    monkeypatch.setattr(kept_average, "CHUNK_BYTES", 8)  # a mean
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset(["a"], [[1, 2]])
        items.create_average("mean", {f"g{i}": ["a"] for i in range(10)})
        yield hub


def test_a_check_of_the_means_ends_when_its_caller_has_left(averaged):
    caller = Leaves()
    embeddinghub = Embeddinghub(averaged, Limits(), Metrics(averaged))
    with pytest.raises(ehub.UnavailableError, match="the caller is gone"):
        embeddinghub.Verify(ehub_pb2.VerifyRequest(), caller)
    assert caller.asked == 3
    assert averaged.verify().ok


@pytest.mark.parametrize("method", ["Optimize", "RefreshAverage"])
def test_means_are_made_anew_until_their_caller_has_left(averaged, method):
    averaged.get_space("items").set("a", [3, 4])
    caller, request = Leaves(), getattr(ehub_pb2, f"{method}Request")()
    request.target.space, request.target.average = "items", "mean"
    embeddinghub = Embeddinghub(averaged, Limits(), Metrics(averaged))
    with pytest.raises(ehub.UnavailableError, match="the caller is gone"):
        getattr(embeddinghub, method)(request, caller)
    assert caller.asked == 3
    means = averaged.get_space("items").averages("mean")
    assert means.stale() == 8
    assert means.multiget(["g0", "g9"]).tolist() == [[3, 4], [3, 4]]


def test_a_snapshot_of_means_is_for_whoever_reads_the_whole_space(tmp_path):
    grants = [("us", "reader on space:items/partition:us"), ("reader", "reader on space:items")]
    with guarded(tmp_path / "hub", grants) as served:
        items = served.hub.create_space("items", dims=2, metric="l2")
        items.multiset(["a"], [[1, 2]], partition="us")
        items.create_average("mean", {"all": ["a"]})
        with served.connect("reader") as hub:
            means, base = hub.get_space("items").averages("mean").snapshot()
            with means, base:
                assert means["all"].tolist() == [1, 2]
        request = ehub_pb2.TakeSnapshotRequest(
            target=ehub_pb2.Target(space="items", average="mean")
        )
        _, error = served.refusal("TakeSnapshot", request, served.tokens["us"])
        assert isinstance(error, ehub.PermissionDeniedError)
        request.message = "recorded"
        _, error = served.refusal("TakeSnapshot", request, served.tokens["root"])
        assert isinstance(error, ehub.InvalidArgumentError)
