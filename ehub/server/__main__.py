"""`python -m ehub.server HUB ...`: the same as `ehub serve`."""

from __future__ import annotations

import sys

from ehub.cli import run

if __name__ == "__main__":
    sys.exit(run(["serve", *sys.argv[1:]]))
