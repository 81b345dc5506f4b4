"""Runs seeds: `python -m tests.simulation --seeds 0..10000`, or `--seed 7 --verbose` to see one."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import get_args

from driftline.streams.code.hash_seed import pin
from tests.simulation.chains import run as chains
from tests.simulation.chaos import Focus
from tests.simulation.run import Verdict, quiet, run

ENOUGH = 10
"""Violations after which a run ends."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", help="a range A..B, B not included", default="0..1000")
    parser.add_argument("--chain", action="store_true", help="a chain of stages, each by its own owners")
    parser.add_argument("--focus", choices=get_args(Focus), help="a fault that makes up half of what happens")
    parser.add_argument("--verbose", action="store_true", help="print the history")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.chain and given.focus:
        parser.error("--focus is of histories of one stage")
    return given


def _seeds(given: argparse.Namespace) -> range:
    if given.seed is not None:
        return range(given.seed, given.seed + 1)
    first, _, last = given.seeds.partition("..")
    return range(int(first), int(last))


def _one(given: argparse.Namespace) -> Callable[..., Verdict]:
    """Simulates one seed of what was asked for."""
    return chains.run if given.chain else partial(run, focus=given.focus)


def _verdicts(seeds: range, one: Callable[..., Verdict], processes: int) -> Iterator[Verdict]:
    if processes == 1:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, quiet) as pool:
        yield from pool.imap(one, seeds, chunksize=50)


def _tell(verdict: Verdict, given: argparse.Namespace) -> None:
    asked = f"{' --chain' if given.chain else ''}{f' --focus {given.focus}' if given.focus else ''}"
    print(f"seed {verdict.seed}: {verdict.violation}")
    print(f"  replay: python -m tests.simulation --seed {verdict.seed}{asked} --verbose", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a seed violates an invariant."""
    given = _arguments(arguments)
    quiet()
    seeds = _seeds(given)
    if given.verbose:
        for seed in seeds:
            verdict = _one(given)(seed, verbose=True)
            print("\n".join(verdict.trace))
            print(f"seed {seed}: {verdict.violation or verdict.refused or 'everything exactly once'}")
        return 0
    started = time.monotonic()
    violations = 0
    counts: Counter[str] = Counter()
    for verdict in _verdicts(seeds, _one(given), given.processes):
        counts["steps"] += verdict.steps
        counts["records"] += verdict.records
        counts["fences"] += verdict.fences
        counts["refused"] += verdict.refused is not None
        if verdict.violation is not None:
            violations += 1
            _tell(verdict, given)
            if violations == ENOUGH:
                break
    seconds = time.monotonic() - started
    print(
        f"{len(seeds)} seeds, {violations} violations, {counts['refused']} rightly refused; "
        f"{counts['records']} records, {counts['fences']} fences, {counts['steps']} steps; "
        f"{seconds:.1f} s, {len(seeds) / seconds * 60:.0f} seeds a minute"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    pin()
    sys.exit(main())
