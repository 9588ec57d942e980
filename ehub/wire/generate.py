"""Makes the code of the protocols anew: `python -m ehub.wire.generate`; needs grpcio-tools.

The code is committed, so that an installation needs no compiler; a test says when it is old. Code
of one release runs with that release of protobuf and all later ones up to the next but one major,
so make it with the release of grpcio-tools that pyproject.toml names. Of gRPC nothing is generated:
services are read from their descriptors (methods.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["PROTOS", "generate"]

ROOT = Path(__file__).resolve().parent.parent.parent

# By the path from the root; the code lies beside each.
PROTOS = ("ehub/wire/ehub.proto", "ehub/wire/access.proto", "ehub/wire/old_clients.proto")


def generate(out: Path, *options: str) -> None:
    """Write the code under `out`, in the directories of its package."""
    from grpc_tools import protoc

    arguments = [f"-I{ROOT}", f"--python_out={out}", f"--pyi_out={out}", *options]
    if protoc.main(["protoc", *arguments, *PROTOS]) != 0:
        raise RuntimeError(f"protoc refuses one of {', '.join(PROTOS)}")


if __name__ == "__main__":
    generate(ROOT)
    sys.stdout.write(f"made the code of {', '.join(PROTOS)}\n")
