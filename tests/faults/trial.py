"""One fault with one seed, from the first event to the verdict."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.chain_verdict import judge_chain
from tests.faults.courses import (  # noqa: F401 (they register faults)
    around,
    broker,
    chains,
    killed_commands,
    live,
    records,
    stores,
    topics,
    topics_of_others,
    workers,
)
from tests.faults.courses.register import CASES, FAULTS, Fault
from tests.faults.lab.feed import CASE
from tests.faults.lab.run import Measured, Run
from tests.faults.lab.stack import Lab, LabError
from tests.faults.verdict import judge

EVENTS = 12_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: the command that repeats it, what was violated, what was measured."""

    name: str
    command: str
    violations: list[str]
    measured: list[Measured]


def trial(
    lab: Lab,
    name: str,
    seed: int,
    events: int = EVENTS,
    *,
    course: Fault | None = None,
    pace: float = 2_000.0,
) -> Trial:
    """Run a fault and judge it; its files are kept when something is violated.

    `course` is another course of things than the one registered under the name.
    """
    command = f"python -m tests.faults --fault {name} --seed {seed} --events {events}"
    started = time.monotonic()
    print(command, flush=True)
    run = Run(lab, seed, events, case_path=CASES.get(name, CASE), pace=pace)
    try:
        violations = _violations(run, course or FAULTS[name])
    except Exception:
        # the lab's own trouble; the trials after this one are still worth their time
        violations = [traceback.format_exc()]
    finally:
        run.close()
    for violation in violations:
        print(f"  VIOLATED: {violation[-2000:]}")
    verdict = "violated" if violations else "all is as the fold says"
    run.note(f"{name}, seed {seed}: {verdict}; {time.monotonic() - started:.0f} s")
    if not violations:
        shutil.rmtree(run.home)
    return Trial(name, command, violations, run.measured)


def _violations(run: Run, course: Callable[..., object]) -> list[str]:
    try:
        outcome = course(run)
    except LabError as error:
        return [f"did not come to its end: {error}"]
    run.note("judging")
    if run.stages.count > 1:
        assert outcome.status is not None, "a chain is judged when the last worker had all of it"
        return judge_chain(run, outcome.status)
    return judge(run, outcome.status, refused=outcome.refused, trimmed=outcome.trimmed)
