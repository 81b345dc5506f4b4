"""Bare River on ready feature dicts: predict at the request, learn at the label, in the log's order.

It is the lower bound of the cost of serving River models online.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from driftline.bench.cases import without_extras
from driftline.bench.log import Log
from driftline.streams.declare.usecase import UseCase
from driftline.streams.simulation.simulate import Simulation


class Step(NamedTuple):
    """Predict for key and features, or learn the label of an earlier one."""

    key: str
    x: dict[str, Any]
    learn: bool
    label: Any


class Ready(NamedTuple):
    """The steps, and the probabilities (or values) that driftline published, for the check."""

    steps: list[Step]
    published: list[Any]


def ready(case: UseCase, log: Log) -> Ready:
    """The steps over a log, taken from the predictions and outcomes that the fold publishes."""
    simulation = Simulation(without_extras(case))
    steps: list[Step] = []
    published: list[Any] = []
    asked: dict[str, Step] = {}
    for partition, records in log.chunks(500):
        out = simulation.step(partition, records)
        # at one record, labels that expire come before its own prediction
        made = [(o.offset, 0, o) for o in out.outcomes] + [(o.offset, 1, o) for o in out.predictions]
        for _, is_prediction, output in sorted(made, key=lambda item: item[:2]):
            message = msgspec.json.decode(output.value)
            if is_prediction:
                step = Step((output.key or b"").decode(), message["features"], False, None)
                asked[message["id"]] = step
                steps.append(step)
                published.append(message["probabilities"])
            elif message["status"] == "labelled" and not message.get("revision"):
                request = asked.pop(message["prediction_id"])
                steps.append(request._replace(learn=True, label=message["label"]))
    return Ready(steps, published)


class Bare:
    """New estimators that are run through ranges of the steps."""

    def __init__(self, case: UseCase, work: Ready) -> None:
        champion = case.models.first
        models = {key: champion.born() for key in dict.fromkeys(step.key for step in work.steps)}
        predict = "predict_one" if case.task.kind == "regression" else "predict_proba_one"
        self._asks = {key: getattr(model, predict) for key, model in models.items()}
        self._learns = {key: model.learn_one for key, model in models.items()}
        self._is_binary = case.task.kind == "binary"
        self._work = work
        self._outputs: list[Any] = []

    def run(self, begin: int, end: int) -> None:
        """Run the steps [begin, end)."""
        asks, learns, outputs = self._asks, self._learns, self._outputs
        for key, x, learn, label in self._work.steps[begin:end]:
            if learn:
                learns[key](x, label)
            else:
                outputs.append(asks[key](x))

    def same_predictions(self) -> bool:
        """Whether every prediction was the published one."""
        published, outputs = self._work.published, self._outputs
        if not self._is_binary:
            return len(outputs) == len(published)
        return [p["true"] for p in published] == [p.get(True, 0.5) for p in outputs]
