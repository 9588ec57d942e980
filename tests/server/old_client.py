"""The real client of 2021 as a process of its own: runs scripts, gives back what they print.

Its generated code wants a protobuf of its time, so it has a virtual environment of its own, made
from PyPI once for each Python and kept in the user's cache: $EHUB_TEST_CACHE, or a directory beside
other temporary files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import pytest

CLIENT = "embeddinghub==0.0.1.post12"
# The newest protobuf that reads the client's generated code. numpy, hnswlib and six it imports.
BESIDE = ("grpcio", "protobuf==3.20.3", "numpy", "hnswlib", "six")
INSTALL_SECONDS = 150
RUN_SECONDS = 60
NO_NETWORK = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ProxyError",
)

# Before each script. `report` is what it gives back; numbers of a repeated field become a list.
PRELUDE = """
import json, sys
import grpc
from embeddinghub import Config, connect
from embeddinghub import embedding_store_pb2 as pb

HOST, PORT = sys.argv[1].split(":")
ARGUMENT = json.loads(sys.argv[2])

def report(value):
    print("REPORT" + json.dumps(value, default=list), flush=True)

def failure(call, *args, **options):
    try:
        call(*args, **options)
    except grpc.RpcError as error:
        return [type(error).__mro__[0].__name__, error.code().name, error.details()]
    except Exception as error:
        return [type(error).__name__, "", str(error)]
    return None

hub = connect(Config(host=HOST, port=PORT))
client = hub._client
"""


def environment() -> Path:
    """The Python of the client's environment; made if it is missing. Skips without a network."""
    tag = f"ehub-old-client-{sys.version_info.major}.{sys.version_info.minor}-{os.getuid()}"
    root = Path(os.environ.get("EHUB_TEST_CACHE", tempfile.gettempdir())) / tag
    python = root / "bin" / "python"
    if python.exists():
        return python
    # Made beside and renamed, so that tests that run at once see a whole one or none.
    making = Path(tempfile.mkdtemp(prefix=f"{tag}-", dir=root.parent))
    try:
        venv.create(making, with_pip=True, symlinks=True)
        for packages in (BESIDE, ("--no-deps", CLIENT)):
            install(making / "bin" / "python", packages)
        try:
            making.rename(root)
        except OSError:  # another was quicker
            if not python.exists():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return python


def install(python: Path, packages: tuple[str, ...]) -> None:
    """Install from PyPI; skips if that cannot be reached, and fails for any other reason."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", *packages]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode == 0:
        return
    if any(sign in done.stderr for sign in NO_NETWORK):
        pytest.skip(f"the old client comes from PyPI, which cannot be reached: {packages}")
    raise RuntimeError(f"cannot install {packages}:\n{done.stderr}")


class OldClient:
    """Runs scripts in processes with the old client, connected to a server."""

    def __init__(self, address: str) -> None:
        self._python = environment()
        self._address = address

    def start(self, script: str, argument: Any = None) -> subprocess.Popen[str]:
        """A process that runs a script, which has `hub`, `client`, `failure` and `report`."""
        # Without the path of this repository, so that it cannot import anything of it.
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [
            str(self._python), "-c", PRELUDE + script, self._address, json.dumps(argument)
        ]  # fmt: skip
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
        )

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script reports."""
        return reported(self.start(script, argument))


def reported(process: subprocess.Popen[str]) -> Any:
    """What a process reports at its end."""
    try:
        out, err = process.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, err
    lines = [line for line in out.splitlines() if line.startswith("REPORT")]
    return json.loads(lines[-1][len("REPORT") :]) if lines else None
