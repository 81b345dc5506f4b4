"""Coverage by package, which does not fall: `python -m tests.coverage coverage.json [--record]`.

Reads what `pytest --cov --cov-report=json` wrote, of tests without a broker: what only a worker on a real
Kafka runs counts as not covered. Prints the shares of lines and branches of each package, and exits with 1
when one is more than a point below the recorded one. --record writes them down.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("floor.json")
SLACK = 1.0
"""Percentage points."""

Shares = dict[str, dict[str, float]]


def shares(report: dict[str, Any]) -> Shares:
    """Per cent of the lines and of the branches of each package that ran."""
    counts: dict[str, Counter[str]] = {}
    for name, file in report["files"].items():
        counts.setdefault(name.partition("/")[0], Counter()).update(
            {key: value for key, value in file["summary"].items() if isinstance(value, int)}
        )
    return {
        package: {
            "lines": _percent(of["covered_lines"], of["num_statements"]),
            "branches": _percent(of["covered_branches"], of["num_branches"]),
        }
        for package, of in sorted(counts.items())
    }


def _percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 1) if whole else 100.0


def fallen(found: Shares, floor: Shares) -> list[str]:
    """The shares that are below the recorded ones by more than the slack."""
    return [
        f"{package}: {found.get(package, {}).get(kind, 0.0)} % of its {kind} are covered, {least} % were"
        for package, kinds in floor.items()
        for kind, least in kinds.items()
        if found.get(package, {}).get(kind, 0.0) < least - SLACK
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--record", action="store_true", help="these are the shares that may not fall")
    given = parser.parse_args()
    found = shares(json.loads(given.report.read_text()))
    print(f"{'package':<16}{'lines':>8}{'branches':>10}")
    for package, kinds in found.items():
        print(f"{package:<16}{kinds['lines']:>7.1f}%{kinds['branches']:>9.1f}%")
    if given.record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    less = fallen(found, json.loads(RECORD.read_text()))
    print(*less, sep="\n", file=sys.stderr)
    return 1 if less else 0


if __name__ == "__main__":
    sys.exit(main())
