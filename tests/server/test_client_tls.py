"""What is wrong with a client's files of TLS is said before anything is sent, and ends nothing."""

from __future__ import annotations

import asyncio

import pytest
import trustme

import ehub
import ehub.aio
from ehub.client.transport import ClientTls

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def files(tmp_path):
    made = trustme.CA().issue_cert("client@example.com")
    found = {"certificate": tmp_path / "client.pem", "key": tmp_path / "client.key"}
    made.cert_chain_pems[0].write_to_path(found["certificate"])
    made.private_key_pem.write_to_path(found["key"])
    return found


def connect(tls):
    ehub.connect(NOWHERE, tls=tls, retry_seconds=0).close()


async def connect_awaited(tls):
    await (await ehub.aio.connect(NOWHERE, tls=tls, retry_seconds=0)).close()


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
@pytest.mark.parametrize("name", ["missing.pem", "", "a\0b"])
def test_a_file_of_tls_that_cannot_be_read_is_named_with_its_argument(tmp_path, files, part, name):
    given = ClientTls(**{**files, part: str(tmp_path / name) if name != "a\0b" else name})
    said = rf"\({part}=\) for TLS cannot be read from .*expected a file in PEM"
    with pytest.raises(ehub.InvalidArgumentError, match=said):
        connect(given)
    with pytest.raises(ehub.InvalidArgumentError, match=said):
        asyncio.run(connect_awaited(given))


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_a_certificate_without_its_key_is_refused_and_not_the_end_of_the_process(files, part):
    with pytest.raises(ehub.InvalidArgumentError, match="expected both, or none"):
        connect(ClientTls(**{part: files[part]}))


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
def test_a_file_of_tls_with_something_else_is_told(tmp_path, files, part):
    other = tmp_path / "other.pem"
    other.write_text("nothing of TLS")
    with pytest.raises(ehub.InvalidArgumentError, match=rf"{other}.* not possible.*expected .*PEM"):
        connect(ClientTls(**{**files, part: other}))


def test_what_is_no_tls_is_a_type_error():
    with pytest.raises(TypeError, match=r"tls is 'ca\.pem'; expected a ClientTls, True or None"):
        connect("ca.pem")
    with pytest.raises(TypeError, match=r"the server's CA \(ca=\) for TLS is 3; expected the path"):
        connect(ClientTls(ca=3))
