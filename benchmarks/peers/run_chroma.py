"""Chroma's server takes rows: `python run_chroma.py DIRECTORY ROWS.npy BATCH`; prints JSON.

To be run by the Python that has chromadb; it needs nothing of ours.
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import chromadb
import numpy as np


def connected(port: int):
    """A client, once the server answers."""
    for _ in range(300):
        try:
            return chromadb.HttpClient("127.0.0.1", port)
        except ValueError:  # it does not listen yet
            time.sleep(0.1)
    raise SystemExit("Chroma's server does not start")


def main(directory: str, file: str, batch: int) -> None:
    rows = np.load(file)
    keys = [str(number) for number in range(len(rows))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("chroma")
    command = [program, "run", "--path", directory, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            items = connected(port).create_collection("items", metadata={"hnsw:space": "l2"})
            began = time.perf_counter()
            for first in range(0, len(rows), batch):
                part = slice(first, first + batch)
                items.add(ids=keys[part], embeddings=rows[part])
            seconds = time.perf_counter() - began
            sample = keys[:: max(1, len(keys) // 100)]
            found = items.get(ids=sample, include=["embeddings"])
            back = dict(zip(found["ids"], found["embeddings"], strict=True))
            right = items.count() == len(rows) and all(
                np.array_equal(np.float32(back[key]), rows[int(key)]) for key in sample
            )
        finally:
            server.terminate()
    print(json.dumps({"seconds": seconds, "right": right, "version": chromadb.__version__}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
