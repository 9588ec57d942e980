"""A program of the first Embeddinghub, word for word, does what it was promised."""

from __future__ import annotations

import numpy as np
import pytest

import ehub


def test_an_old_program_runs(tmp_path):
    hub = ehub.connect(ehub.LocalConfig(str(tmp_path)))
    space = hub.create_space("quickstart", dims=3)
    embeddings = {
        "apple": [1, 0, 0],
        "orange": [1, 1, 0],
        "potato": [0, 1, 0],
        "chicken": [-1, -1, 0],
    }
    space.multiset(embeddings)
    assert space.get("apple").tolist() == [1, 0, 0]
    assert [key for key, _ in space.nearest_neighbors(num=2, key="apple")] == ["orange", "potato"]
    assert space.nearest_neighbors(2, vector=[0, 2, 0]).keys.tolist() == ["potato", "orange"]
    space.set("grape", [0, 0, 1])
    space.delete("chicken")
    assert [list(vector) for vector in space.multiget(["grape", "apple"])] == [[0, 0, 1], [1, 0, 0]]
    space.multidelete(["grape"])
    found = space.multi_nearest_neighbors(1, keys=["apple", "potato"])
    assert [neighbors.keys[0] for neighbors in found] == ["orange", "orange"]
    found = space.multi_nearest_neighbors(1, vectors=[[2, 0, 0], [0, 2, 0]])
    assert [neighbors.keys[0] for neighbors in found] == ["apple", "potato"]
    assert {key for key, _ in space.iterator()} == {"apple", "orange", "potato"}
    hub.save()
    hub.close()

    with ehub.connect(ehub.LocalConfig(directory=tmp_path)) as hub:
        space = hub.get_space("quickstart", download_snapshot=False)
        space.multiset(iter([("kiwi", np.ones(3))]))
        assert len(space) == 4
        space.delete_all()
        assert len(space) == 0
        hub.delete_space("quickstart")
        assert hub.spaces() == []


def test_a_server_is_not_to_be_had_yet_and_the_error_says_so():
    for config in (ehub.Config(), ehub.Config(host="example.com", port=74622)):
        with pytest.raises(ehub.UnavailableError, match=f"{config.host}:{config.port}"):
            ehub.connect(config)
    with pytest.raises(ConnectionError):
        ehub.connect(ehub.Config("localhost", 7462))


def test_connect_takes_a_config():
    for wrong in ("data/", None, 7462):
        with pytest.raises(TypeError, match="LocalConfig"):
            ehub.connect(wrong)


def test_a_snapshot_is_not_to_be_had_yet_and_the_error_says_so(tmp_path):
    with ehub.open(tmp_path) as hub:
        hub.create_space("items", dims=2)
        with pytest.raises(ehub.UnavailableError, match="no snapshots yet"):
            hub.get_space("items", download_snapshot=True)
