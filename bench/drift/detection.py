"""True and false detections of the drift monitors, on streams with known changes.

    python -m driftline.bench.drift.detection [--runs N] [--only TEXT] [--processes N]

prints a line for each scenario: the number of false incidents and the requests between them; for scenarios
with a change also how often and how late it was detected, its reported kind, and the first suspect.
"""

from __future__ import annotations

import argparse
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any, NamedTuple

from driftline.bench.drift.scenarios import SCENARIOS
from driftline.bench.drift.streams import Asked, Scenario
from driftline.online_models.drift import Drift, DriftManager, Monitoring
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.tasks.task import Binary, Label
from driftline.streams.code.hash_seed import pin


class Ask:
    """The request."""


TASK = Binary("b", ask=Ask, label=Label(Ask, on="id", value=lambda event: event, wait=1.0))


def _logistic() -> Any:
    from river import compose, linear_model, preprocessing

    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return numbers | linear_model.LogisticRegression()


def reported(scenario: Scenario, seed: int, monitoring: Monitoring | None = None) -> Iterator[Drift]:
    """The drift events of one pool on the scenario. Offsets are numbers of requests."""
    declared = monitoring or Monitoring(season=scenario.season)
    if scenario.learns:
        yield from _pool(scenario, seed, declared)
        return
    manager = DriftManager(declared, TASK, ["m"])
    waiting: list[tuple[float, int, Asked]] = []
    for number, asked in enumerate(scenario.requests(seed)):
        while waiting and waiting[0][0] <= asked.at:
            known, offset, old = heapq.heappop(waiting)
            assert old.p is not None
            loss = TASK.loss(old.y, old.p)
            yield from manager.learn(old.y, old.p, loss, (loss,), old.at, offset, known, number, (old.p,))
        yield from manager.observe(asked.x, asked.p, asked.at, number)
        heapq.heappush(waiting, (asked.at + asked.delay, number, asked))


def _pool(scenario: Scenario, seed: int, monitoring: Monitoring) -> Iterator[Drift]:
    pool = Pool(TASK, PerKey(Member("logistic", _logistic), monitoring=monitoring, metrics=False), "", 0)
    waiting: list[tuple[float, int, Asked, Any]] = []
    for number, asked in enumerate(scenario.requests(seed)):
        while waiting and waiting[0][0] <= asked.at:
            known, _, old, forecast = heapq.heappop(waiting)
            yield from pool.learn(old.x, old.y, forecast, known, number, "").drifts
        forecast, _ = pool.predict(asked.x)
        yield from pool.observe(asked.x, forecast, asked.at, number)
        heapq.heappush(waiting, (asked.at + asked.delay, number, asked, forecast))


class Run(NamedTuple):
    """The false incidents of a run, and of the true one the delay (None: missed), kind and first suspect."""

    false: int
    delay: int | None
    kind: str
    first: str


def judged(scenario: Scenario, drifts: Iterable[Drift]) -> Run:
    """The judgement of a run of a scenario, from its reported drift events."""
    confirmed: dict[int, list[Drift]] = {}
    for drift in drifts:
        if drift.severity == "drift":
            confirmed.setdefault(drift.incident, []).append(drift)
    begins = scenario.count if scenario.begins is None else scenario.begins
    true = [turns for turns in confirmed.values() if turns[-1].offset >= begins]
    false = len(confirmed) - len(true)
    if not true:
        return Run(false, None, "", "")
    turns = true[0]
    reported = turns[-1]
    first = next(turn for turn in turns if turn.offset >= begins)
    return Run(false, first.offset - begins, reported.kind, reported.suspects[0].subject)


def _judged(name: str, seed: int) -> Run:
    """One run of the scenario of that name, in a process of its own."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    return judged(scenario, reported(scenario, seed))


def _line(scenario: Scenario, runs: Sequence[Run]) -> str:
    quiet = scenario.count if scenario.begins is None else scenario.begins
    false = sum(run.false for run in runs)
    between = f"one in {quiet * len(runs) / false:,.0f}" if false else "none"
    line = f"{scenario.name:<52} {false:>3} false in {len(runs)} x {quiet:,} ({between})"
    if scenario.begins is None:
        return line
    delays = [run.delay for run in runs if run.delay is not None]
    found = f"; found {len(delays)} of {len(runs)}"
    if delays:
        kinds = Counter(run.kind for run in runs if run.delay is not None)
        firsts = Counter(run.first for run in runs if run.delay is not None)
        found += f", median delay {median(delays):,.0f} (worst {max(delays):,}); "
        found += ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        found += "; first: " + ", ".join(f"{subject} {n}" for subject, n in firsts.most_common())
    return line + found


def main() -> None:
    """Run the scenarios and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="scenarios whose name has this text")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as workers:
        for scenario in SCENARIOS:
            if given.only in scenario.name:
                runs = list(workers.map(_judged, [scenario.name] * given.runs, range(given.runs)))
                print(_line(scenario, runs), flush=True)


if __name__ == "__main__":
    pin()
    main()
