"""python -m benchmarks [SUITE...]: measures every claim; prints a table, writes JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import ann, averages, backup, history, ingest, reads, search, subsets
from benchmarks.harness import Claim
from ehub.bench.report import machine

SUITES = {
    "ann": ann.claims,
    "averages": averages.claims,
    "backup": backup.claims,
    "history": history.claims,
    "ingest": ingest.claims,
    "reads": reads.claims,
    "search": search.claims,
    "subsets": subsets.claims,
}


def figure(value: float) -> str:
    """A number of any size in few characters."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def print_claim(claim: Claim) -> None:
    """One line of the table."""
    sign = ">=" if claim.at_least else "<="
    verdict = "reached" if claim.reached else "MISSED"
    print(
        f"| {claim.name} | {figure(claim.ours)} | {figure(claim.baseline)} | {claim.unit} "
        f"| {claim.ratio:.2f} | {sign} {claim.target:g} | {verdict} | {claim.note} |",
        flush=True,
    )


def main() -> None:
    """Runs the suites that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="which (default: all)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the full size (1 M rows)"
    )
    parser.add_argument("--json", type=Path, help="also write the claims to this file")
    options = parser.parse_args()
    print(f"{machine()}; {datetime.now(timezone.utc):%Y-%m-%d}; scale {options.scale:g}\n")
    print("| claim | ours | baseline | unit | ratio | target | | note |")
    print("|---|---|---|---|---|---|---|---|")
    found: list[Claim] = []
    for name in options.suites or SUITES:
        for claim in SUITES[name](options.scale):
            found.append(claim)
            print_claim(claim)
    if options.json:
        options.json.write_text(json.dumps([asdict(claim) for claim in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
