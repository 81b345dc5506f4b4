"""The long run: `python -m tests.fuzz --events 1000000 [--seed N] [--processes P]`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from multiprocessing import get_context

from driftline.streams.code.hash_seed import pin
from tests.fuzz.trial import RECORDS, run


def main() -> int:
    """Run the trials; 1 when one found something."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + -(-given.events // RECORDS))
    wrong, outputs, stages = 0, 0, Counter[str]()
    with get_context("spawn").Pool(given.processes) as pool:
        for found in pool.imap_unordered(run, seeds):
            outputs += found.outputs
            stages += found.stages
            if found.wrong:
                wrong += 1
                print(f"seed {found.seed}:\n{found.wrong}", flush=True)
    print(f"{len(seeds) * RECORDS:,} records, {outputs:,} predictions and outcomes, refused: {dict(stages)}")
    print(f"{wrong} of {len(seeds)} trials found something")
    return 1 if wrong else 0


if __name__ == "__main__":
    pin()
    sys.exit(main())
