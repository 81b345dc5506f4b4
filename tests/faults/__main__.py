"""Run faults by hand: `python -m tests.faults --fault sigkill --seed 7 --events 12000`.

Prints a table of the trials: what was violated and what was measured, with the load average of then, on
which seconds depend. Exit code 1 when anything is violated, and then the run's files are kept.
`--all --seeds 5` is the whole matrix, `--fault chain-sigkill --kills 50` a run with so many kills.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from driftline.streams.code.hash_seed import pin
from tests.faults.courses import chains, workers
from tests.faults.courses.register import FAULTS, Fault, Outcome
from tests.faults.lab.stack import Lab
from tests.faults.trial import EVENTS, Trial, trial

KILLS: dict[str, Callable[..., Outcome]] = {"sigkill": workers.kills, "chain-sigkill": chains.kills}
"""The faults of which the number of kills may be given."""


def _table(trials: Sequence[Trial]) -> str:
    """A line of each trial, and of each thing that was measured the middle and the longest."""
    lines = ["| fault | violations | seconds measured (load average) |", "|---|---|---|"]
    seconds: dict[str, list[float]] = {}
    for one in trials:
        durations = "; ".join(f"{m.what} {m.seconds:.2f} ({m.load:.1f})" for m in one.measured)
        lines.append(f"| {one.name} | {len(one.violations)} | {durations} |")
        for measured in one.measured:
            seconds.setdefault(measured.what, []).append(measured.seconds)
    lines.append("")
    for what, values in seconds.items():
        middle, longest = statistics.median(values), max(values)
        lines.append(f"{what}: median {middle:.2f} s, longest {longest:.2f} s, {len(values)} times")
    return "\n".join(lines)


def _killing(name: str, count: int | None) -> Fault | None:
    """The course of a fault with so many kills; None for the one under its name."""
    return partial(KILLS[name], count=count) if count else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--fault", choices=sorted(FAULTS), action="append")
    which.add_argument("--all", action="store_true", help="every fault")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--kills", type=int, help=f"how many, of {' or '.join(KILLS)}")
    given = parser.parse_args()
    if given.kills and (given.all or not set(given.fault) <= KILLS.keys()):
        parser.error(f"--kills is for {' and '.join(KILLS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the broker and the workers end too
    home = Path(tempfile.mkdtemp(prefix="driftline-faults-"))
    with Lab(home) as lab:
        trials = [
            trial(lab, name, seed, given.events, course=_killing(name, given.kills))
            for seed in range(given.seed, given.seed + given.seeds)
            for name in (sorted(FAULTS) if given.all else given.fault)
        ]
    print(_table(trials))
    violated = [one.command for one in trials if one.violations]
    if violated:
        print(f"{len(violated)} of {len(trials)} trials violated; files are in {home}")
    else:
        print(f"{len(trials)} trials, no violation")
        shutil.rmtree(home)
    for command in violated:
        print(f"violated: {command}")
    return 1 if violated else 0


if __name__ == "__main__":
    pin()
    sys.exit(main())
