"""The fold without Kafka, against bare River, with its cost by stage.

The cost of a stage is the difference between two folds, one of which does more. Each is timed alone: a
profiler would add its own cost to code with many small calls.
"""

from __future__ import annotations

import gc
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

from driftline.bench.cases import adapting, by_default, challenged, without_extras
from driftline.bench.log import Chunks, Log
from driftline.bench.peers import river
from driftline.features.state.feature_state import FeatureState
from driftline.garbage_collection import seldom_collected
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.intake import RETAIN_EVERY, Intake
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.simulate import Simulation

CHUNK = 500
_T = TypeVar("_T")


Fold = Callable[[Chunks], None]
"""Folds chunks, continuing from those it was given before."""


def _decode(case: UseCase) -> Fold:
    decode = case.codec().decode

    def fold(chunks: Chunks) -> None:
        for _, records in chunks:
            for record in records:
                decode(record.value, record.key)

    return fold


def _features(case: UseCase) -> Fold:
    decode = case.codec().decode
    ask = case.task.ask
    states = [FeatureState(case.features, ask) for _ in range(case.partitions)]

    def fold(chunks: Chunks) -> None:
        for partition, records in chunks:
            state = states[partition]
            for number, record in enumerate(records, 1):
                event = decode(record.value, record.key)
                at = event.at.timestamp()
                if type(event) is ask:
                    state.read(event, at)
                state.update(event, at)
                if number % RETAIN_EVERY == 0:
                    state.retain(at)

    return fold


def _intake(case: UseCase, rows: bool) -> Fold:
    scorers = [
        Intake(case, case.feature_state(case.views() if rows else ()), p) for p in range(case.partitions)
    ]

    def fold(chunks: Chunks) -> None:
        for partition, records in chunks:
            out = Outputs()
            scorers[partition].fold(records, out)
            scorers[partition].put_rows(out)

    return fold


def _whole(case: UseCase) -> Fold:
    processors = Simulation(case).processors

    def fold(chunks: Chunks) -> None:
        for partition, records in chunks:
            processors[partition].step(records)

    return fold


def _outputs(case: UseCase, log: Log) -> dict[str, Any]:
    """The digest and the number of outputs, which a worker must reach too."""
    simulation = Simulation(case)
    counts = {"predictions": 0, "outcomes": 0}
    for partition, records in log.chunks(CHUNK):
        out = simulation.step(partition, records)
        counts["predictions"] += len(out.predictions)
        counts["outcomes"] += len(out.outcomes)
    return {**counts, "digest": simulation.digests()["predictions"]}


SLICES = 12
"""The number of pieces of the log that are timed alone. Of each piece, the fastest round counts: other work
on the machine slows down a second or so, seldom at the same piece in every round."""


def _sliced(items: Sequence[_T]) -> list[Sequence[_T]]:
    size = -(-len(items) // SLICES)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _timed(pieces: Sequence[Callable[[], None]]) -> list[float]:
    """CPU seconds of each piece."""
    gc.collect()
    spent = []
    for piece in pieces:
        started = process_time()
        piece()
        spent.append(process_time() - started)
    return spent


def _least(rounds: Sequence[list[float]]) -> float:
    """The pieces' sum, each at its fastest."""
    return float(sum(min(times) for times in zip(*rounds, strict=True)))


def _folds(case: UseCase, whole: dict[str, UseCase]) -> dict[str, Callable[[], Fold]]:
    """Folds that do more and more, by name."""
    return {
        "decode": lambda: _decode(case),
        "features": lambda: _features(case),
        "intake": lambda: _intake(case, False),
        "intake_with_rows": lambda: _intake(case, True),
        "champion_alone": lambda: _whole(whole["champion_alone"]),
        "with_baselines": lambda: _whole(without_extras(case, baselines=True)),
        "with_metrics": lambda: _whole(without_extras(case, baselines=True, metrics=True)),
        "everything": lambda: _whole(whole["everything"]),
        "challenged": lambda: _whole(challenged(case)),
        "adapting": lambda: _whole(adapting(case)),
    }


@dataclass(slots=True)
class _Rounds:
    """CPU seconds by name: of every round, those of each piece."""

    beginnings: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    """Of what comes before the first request."""
    spent: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    same_as_river: bool = True

    def us_per(self, flights: int, records: int) -> tuple[dict[str, float], dict[str, float]]:
        """CPU us a flight, and a record. What comes before the first request (the planes) is no flight's:
        it counts for the records alone."""
        seconds = {name: _least(times) for name, times in self.spent.items()}
        before = {name: _least(times) for name, times in self.beginnings.items()}
        return (
            {name: taken / flights * 1e6 for name, taken in seconds.items()},
            {name: (taken + before.get(name, 0.0)) / records * 1e6 for name, taken in seconds.items()},
        )


def _interleaved(
    case: UseCase, log: Log, work: river.Ready, folds: dict[str, Callable[[], Fold]], rounds: int
) -> _Rounds:
    """Rounds in which bare River and every fold have their turn."""
    first = log.first_request(case)
    before, slices = log.chunks(CHUNK, 0, first), _sliced(log.chunks(CHUNK, first))
    steps = _sliced(range(len(work.steps)))
    gc.collect()
    gc.freeze()  # in all runs, the collector skips the prepared data
    done = _Rounds()
    for _ in range(rounds):
        bare = river.Bare(case, work)
        done.spent["river"].append(_timed([partial(bare.run, each[0], each[-1] + 1) for each in steps]))
        done.same_as_river = done.same_as_river and bare.same_predictions()
        for name, make in folds.items():
            fold = make()
            done.beginnings[name].append(_timed([partial(fold, before)]))
            done.spent[name].append(_timed([partial(fold, list(piece)) for piece in slices]))
    return done


def _stages(flight: dict[str, float]) -> dict[str, float]:
    """CPU us a flight by stage: differences between folds."""
    return {
        "decode and check": flight["decode"],
        "features": flight["features"] - flight["decode"],
        "time, duplicates, join": flight["intake"] - flight["features"],
        "champion predicts and learns, encode both": flight["champion_alone"] - flight["intake"],
        "baselines": flight["with_baselines"] - flight["champion_alone"],
        "metrics": flight["with_metrics"] - flight["with_baselines"],
        "drift monitors": flight["everything"] - flight["with_metrics"],
        "three linear challengers": flight["challenged"] - flight["champion_alone"],
        "drift manager and promotion, with them": flight["adapting"] - flight["challenged"],
        "online feature rows (worker only)": flight["intake_with_rows"] - flight["intake"],
    }


@seldom_collected()  # as wherever a case is folded, and no less for bare River
def measure(case: UseCase, log: Log, rounds: int) -> dict[str, Any]:
    """CPU us a flight (a prediction) and a record, of interleaved rounds."""
    work = river.ready(case, log)
    whole = {"champion_alone": without_extras(case), "everything": by_default(case)}
    outputs = {name: _outputs(variant, log) for name, variant in whole.items()}
    done = _interleaved(case, log, work, _folds(case, whole), rounds)
    flight, record = done.us_per(len(work.published), len(log))
    shown = ("river", "champion_alone", "everything")
    return {
        "predictions": len(work.published),
        "records": len(log),
        "same_predictions_as_river": done.same_as_river,
        "outputs": outputs,
        "us_per_flight": {name: flight[name] for name in shown},
        "us_per_event": {name: record[name] for name in shown},
        "stages_us_per_flight": _stages(flight),
    }


if __name__ == "__main__":
    pin()
    print(json.dumps(measure(load_case(sys.argv[1]), Log.load(Path(sys.argv[2])), int(sys.argv[3]))))
