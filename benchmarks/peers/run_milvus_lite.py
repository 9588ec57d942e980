"""milvus-lite takes rows: `python run_milvus_lite.py DIRECTORY ROWS.npy BATCH`; prints JSON.

To be run by the Python that has pymilvus and milvus-lite, which is the server as a process of its
own beside the client; it needs nothing of ours.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pymilvus import MilvusClient


def main(directory: str, file: str, batch: int) -> None:
    rows = np.load(file)
    client = MilvusClient(str(Path(directory, "milvus.db")))
    client.create_collection(
        "items", dimension=rows.shape[1], id_type="string", max_length=64, metric_type="L2"
    )
    keys = [str(number) for number in range(len(rows))]
    began = time.perf_counter()
    for first in range(0, len(rows), batch):
        part = slice(first, first + batch)
        pairs = zip(keys[part], rows[part], strict=True)
        client.insert("items", [{"id": key, "vector": row} for key, row in pairs])
    client.flush("items")
    seconds = time.perf_counter() - began
    sample = keys[:: max(1, len(keys) // 100)]
    back = {
        one["id"]: one["vector"] for one in client.get("items", sample, output_fields=["vector"])
    }
    count = client.query("items", filter="", output_fields=["count(*)"])[0]["count(*)"]
    right = count == len(rows) and all(
        np.array_equal(np.float32(back[key]), rows[int(key)]) for key in sample
    )
    print(json.dumps({"seconds": seconds, "right": right, "version": version("milvus-lite")}))
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
