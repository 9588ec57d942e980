"""Opens damaged hubs and reads all they hold; run by test_damage.py, so that a death has a name.

Arguments: a file of what is right, then hubs. Says one line for each hub: "right", "wrong" and
what, or "refused" and the error.
"""

from __future__ import annotations

import sys

import numpy as np

import ehub


def judge(path: str, right: dict[str, np.ndarray]) -> str:
    """Read a hub in several ways and compare."""
    with ehub.open(path, read_only=True) as hub:
        items = hub.get_space("items")
        keys, vectors = items.to_numpy()
        order = np.argsort(keys)
        if keys[order].tolist() != right["keys"].tolist():
            return "wrong keys"
        if vectors[order].tobytes() != right["vectors"].tobytes():
            return "wrong vectors"
        if items.multiget(right["keys"].tolist()).tobytes() != right["vectors"].tobytes():
            return "wrong vectors by key"
        found = items.nearest_neighbors(1, vector=right["vectors"][5])
        return "right" if found[0].key == right["keys"][5] else "wrong neighbour"


def main() -> None:
    """Judge each hub."""
    with np.load(sys.argv[1]) as file:
        right = {name: file[name] for name in file.files}
    for path in sys.argv[2:]:
        try:
            verdict = judge(path, right)
        except ehub.EhubError as error:
            verdict = f"refused {type(error).__name__}"
        sys.stdout.write(verdict + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
