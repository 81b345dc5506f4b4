"""The fold without Kafka, against bare River, with its cost by stage.

Stages are differences between folds that do more and more, each of them timed alone: a profiler
would charge its own cost to whatever has many small calls.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from bench import river
from bench.cases import without_extras
from bench.log import Log
from features.state import FeatureState
from online_models.pool import Forecast
from streams.outputs import Outputs
from streams.pending import Example, Pending
from streams.scorer import RETAIN_EVERY, Scorer
from streams.simulate import Simulation
from streams.usecase import UseCase, load_case

CHUNK = 500


class NoModels:
    """Stands in for the pools: always the same answer, nothing learned."""

    def __init__(self) -> None:
        self._forecast = Forecast("none", "none@0:0", 0, 0.25, (0.25,))

    def forecast(
        self, key: str, x: dict[str, Any], at: float, offset: int, prediction_id: str, out: Outputs
    ) -> Forecast:
        """The same answer."""
        return self._forecast

    def take(self, example: Example, offset: int, out: Outputs) -> None:
        """Learn nothing."""

    def publish(self, pending: Pending, offset: int, out: Outputs) -> None:
        """Nothing is known here that was not published."""


def _decode(case: UseCase, log: Log) -> Callable[[], None]:
    def run() -> None:
        decode = case.codec().decode
        for _, records in log.chunks(CHUNK):
            for record in records:
                decode(record.value, record.key)

    return run


def _features(case: UseCase, log: Log) -> Callable[[], None]:
    def run() -> None:
        decode = case.codec().decode
        ask = case.task.ask
        states = [FeatureState(case.features, ask, case.key) for _ in range(log.partitions)]
        for partition, records in log.chunks(CHUNK):
            state = states[partition]
            for number, record in enumerate(records, 1):
                event = decode(record.value, record.key)
                at = event.at.timestamp()
                if type(event) is ask:
                    state.read(event, at)
                state.update(event, at)
                if number % RETAIN_EVERY == 0:
                    state.retain(at)

    return run


def _scorer(case: UseCase, log: Log, rows: bool) -> Callable[[], None]:
    def run() -> None:
        scorers = [Scorer(case, NoModels(), rows) for _ in range(log.partitions)]
        for partition, records in log.chunks(CHUNK):
            out = Outputs()
            take = scorers[partition].take
            for record in records:
                take(record, out)
            scorers[partition].put_rows(out)

    return run


def _whole(case: UseCase, log: Log) -> Callable[[], None]:
    def run() -> None:
        simulation = Simulation(case)
        for partition, records in log.chunks(CHUNK):
            simulation.processors[partition].step(records)

    return run


def _outputs(case: UseCase, log: Log) -> dict[str, Any]:
    """The digest, and how much is put out: what a worker must arrive at too."""
    simulation = Simulation(case)
    counts = {"predictions": 0, "outcomes": 0}
    for partition, records in log.chunks(CHUNK):
        out = simulation.step(partition, records)
        counts["predictions"] += len(out.predictions)
        counts["outcomes"] += len(out.outcomes)
    return {**counts, "digest": simulation.digest()}


def _timed(run: Callable[[], object]) -> float:
    gc.collect()
    started = process_time()
    run()
    return process_time() - started


def measure(case: UseCase, log: Log, rounds: int) -> dict[str, Any]:
    """CPU us a flight (a prediction) and a record, medians of interleaved rounds."""
    work = river.ready(case, log)
    whole = {"champion_alone": without_extras(case), "everything": case}
    outputs = {name: _outputs(variant, log) for name, variant in whole.items()}
    gc.collect()
    gc.freeze()  # what is ready is not for the collector to walk through, in any of the runs
    runs = {
        "decode": _decode(case, log),
        "features": _features(case, log),
        "scorer": _scorer(case, log, False),
        "scorer_with_rows": _scorer(case, log, True),
        "champion_alone": _whole(whole["champion_alone"], log),
        "with_baselines": _whole(without_extras(case, baselines=True), log),
        "with_metrics": _whole(without_extras(case, baselines=True, metrics=True), log),
        "everything": _whole(case, log),
    }
    layout_only = []
    spent: dict[str, list[float]] = {name: [] for name in ("river", *runs)}
    same = True
    for _ in range(rounds):
        gc.collect()
        bare = river.run(case, work)
        spent["river"].append(bare.cpu_seconds)
        same = same and bare.same_predictions
        layout_only.append(_timed(partial(log.chunks, CHUNK)))
        for name, run in runs.items():
            spent[name].append(_timed(run))
    chunking = median(layout_only)
    predictions = len(work.published)
    flight = {
        name: (median(times) - (chunking if name != "river" else 0.0)) / predictions * 1e6
        for name, times in spent.items()
    }
    per_event = predictions / len(log)
    return {
        "predictions": predictions,
        "records": len(log),
        "same_predictions_as_river": same,
        "outputs": outputs,
        "us_per_flight": {
            "river": flight["river"],
            "champion_alone": flight["champion_alone"],
            "everything": flight["everything"],
        },
        "us_per_event": {
            "river": flight["river"] * per_event,
            "champion_alone": flight["champion_alone"] * per_event,
            "everything": flight["everything"] * per_event,
        },
        "stages_us_per_flight": {
            "decode and check": flight["decode"],
            "features": flight["features"] - flight["decode"],
            "time, duplicates, join, encode prediction": flight["scorer"] - flight["features"],
            "champion predicts and learns, encode outcome": flight["champion_alone"] - flight["scorer"],
            "baselines": flight["with_baselines"] - flight["champion_alone"],
            "metrics": flight["with_metrics"] - flight["with_baselines"],
            "challengers and drift monitors": flight["everything"] - flight["with_metrics"],
            "online feature rows (worker only)": flight["scorer_with_rows"] - flight["scorer"],
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(load_case(sys.argv[1]), Log.load(Path(sys.argv[2])), int(sys.argv[3]))))
