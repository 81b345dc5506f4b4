"""What a report needs of a run's records, collected as they are read back from the topics."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from driftline.infra.report.charts import Bin
from driftline.infra.report.samples import Sample
from driftline.online_models.tasks.metrics import metrics_of
from driftline.online_models.tasks.protocol import Task
from driftline.streams.fold.route import PoolKey
from driftline.streams.records.messages import DriftEvent, ModelEvent
from driftline.streams.records.outputs import Outputs

LASTING = 300
"""Values on both sides from which on a drift of a feature is more than a gust."""

FEATURE_SAMPLE = 20_000
"""About so many predictions keep their features, evenly spread over the run."""


class _Asked(msgspec.Struct, gc=False):
    id: str
    at: datetime
    keys: msgspec.Raw
    prediction: Any
    probabilities: dict[str, float] | None
    features: msgspec.Raw


class _Became(msgspec.Struct, gc=False):
    prediction_id: str
    status: str
    prediction: Any
    label: Any = None


class RequestKeys(NamedTuple):
    """What identifies a request: the key of its record, and the fields that its prediction repeats."""

    key: str
    keys: dict[str, Any]


class SampledFeatures(msgspec.Struct, frozen=True, gc=False):
    """Features of one sampled prediction, and the key of its pool; `at` in seconds since the epoch."""

    at: float
    pool: str
    values: dict[str, Any]


class Shift(msgspec.Struct, frozen=True):
    """A change of a feature's mean, `size` in its standard deviations over the whole run."""

    feature: str
    event: DriftEvent
    size: float


class RunRecords:
    """What the report needs of the records of a run; one in `every` predictions keeps its features.

    `pool_key` gives the key of the pool that answered a request (by default: that of its record).
    """

    def __init__(self, every: int = 1, pool_key: PoolKey = attrgetter("key")) -> None:
        self._every = max(1, every)
        self._pool_key = pool_key
        self._asked = msgspec.json.Decoder(_Asked)
        self._became = msgspec.json.Decoder(_Became)
        self._drift = msgspec.json.Decoder(DriftEvent)
        self._change = msgspec.json.Decoder(ModelEvent)
        self._values: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
        self._outputs: dict[str, Any] = {}
        self._labels: dict[str, Any] = {}
        self._seen = 0
        self._times: dict[int, tuple[array[int], array[float]]] = {}
        self.first_at = math.inf
        self.last_at = -math.inf
        self.keys: dict[str, Any] = {}
        self.features: list[SampledFeatures] = []
        self.drifts: list[DriftEvent] = []
        self.changes: list[ModelEvent] = []

    def add(self, partition: int, outputs: Outputs) -> None:
        """Add what the fold of a partition put out."""
        for prediction in outputs.predictions:
            self.prediction(prediction.key, prediction.value, partition, prediction.offset)
        for outcome in outputs.outcomes:
            self.outcome(outcome.value)
        for drift in outputs.drift:
            self.drift(drift.value)
        for change in outputs.models:
            self.change(change.value)

    def prediction(self, key: bytes | None, value: bytes, partition: int = 0, offset: int = 0) -> None:
        """Add a record of the predictions topic; `offset` is that of its source position."""
        asked = self._asked.decode(value)
        at = asked.at.timestamp()
        self.first_at = min(self.first_at, at)
        self.last_at = max(self.last_at, at)
        offsets, times = self._times.setdefault(partition, (array("q"), array("d")))
        offsets.append(offset)
        times.append(at)
        output = _output(asked.prediction, asked.probabilities)
        if output is not None:
            self._outputs[asked.id] = output
        if self._seen % self._every == 0:
            values = self._values.decode(asked.features)
            self.keys = self._values.decode(asked.keys)
            asked_by = RequestKeys((key or b"").decode("utf-8", "replace"), self.keys)
            self.features.append(SampledFeatures(at, self._pool_key(asked_by), values))
        self._seen += 1

    def outcome(self, value: bytes) -> None:
        """Add a record of the outcomes topic; a correction replaces the outcome that it corrects."""
        became = self._became.decode(value)
        if became.status != "labelled":
            self._labels.pop(became.prediction_id, None)
            return
        self._labels[became.prediction_id] = became.label

    def drift(self, value: bytes) -> None:
        """Add a record of the drift topic."""
        self.drifts.append(self._drift.decode(value))

    def change(self, value: bytes) -> None:
        """Add a record of the models topic that an input caused."""
        self.changes.append(self._change.decode(value))

    def served(self, task: Task) -> dict[str, Any]:
        """Figures, as those of a member, of what was answered, whichever member did."""
        metrics = metrics_of(task)
        for prediction_id, label in self._labels.items():
            if prediction_id in self._outputs:
                metrics.update(label, self._outputs[prediction_id])
        return metrics.summary()

    def dated(self, sample: Sample) -> Sample:
        """The sample at its partitions' mean event time.

        A worker may be ahead in one partition: the newest event time of all would say too much.
        """
        reached = []
        for partition, (offsets, times) in self._times.items():
            passed = bisect_left(offsets, sample.offsets.get(partition, 0))
            reached.append(times[max(0, passed - 1)])
        at = math.fsum(reached) / len(reached) if reached else sample.at
        return msgspec.structs.replace(sample, at=at)

    def calibration(self, count: int = 20) -> list[Bin]:
        """Mean prediction and mean outcome: equal bins of [0, 1], or of equal count for other values."""
        outputs = self._outputs
        pairs = [_comparable(outputs[i], y) for i, y in self._labels.items() if i in outputs]
        if not pairs:
            return []
        if all(0 <= p <= 1 for p, _ in pairs):
            groups: list[list[tuple[float, float]]] = [[] for _ in range(count)]
            for p, y in pairs:
                groups[min(int(p * count), count - 1)].append((p, y))
        else:
            pairs.sort()
            size = math.ceil(len(pairs) / count)
            groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
        return [
            Bin(sum(p for p, _ in g) / len(g), sum(y for _, y in g) / len(g), len(g)) for g in groups if g
        ]

    def biggest_shift(self) -> Shift | None:
        """The drift event that moved a feature's mean the most, in its standard deviations.

        One with few values on a side (a gust, not a change) counts only when there is no other.
        """
        spread = {name: _deviation(self._column(name)) for name in self._numeric_names()}
        shifts = []
        for event in self.drifts:
            name = feature_of(event.subject) if event.severity == "drift" else None
            if name is not None and spread.get(name):
                size = abs(event.after.mean - event.before.mean) / spread[name]
                shifts.append(Shift(name, event, size))
        lasting = [s for s in shifts if min(s.event.before.count, s.event.after.count) >= LASTING]
        return max(lasting or shifts, key=lambda shift: shift.size, default=None)

    def feature_over_time(self, name: str, pool: str, points: int = 120) -> list[tuple[float, float]]:
        """(event time, mean) of a feature of one pool's requests in so many equal pieces of the run."""
        span = max(self.last_at - self.first_at, 1.0)
        sums = [[0.0, 0] for _ in range(points)]
        for row in self.features:
            value = row.values.get(name)
            if row.pool == pool and isinstance(value, (int, float)):
                piece = sums[min(int((row.at - self.first_at) / span * points), points - 1)]
                piece[0] += value
                piece[1] += 1
        width = span / points
        return [(self.first_at + (i + 0.5) * width, total / n) for i, (total, n) in enumerate(sums) if n]

    def _numeric_names(self) -> list[str]:
        names: dict[str, None] = {}
        for row in self.features:
            for name, value in row.values.items():
                if isinstance(value, (int, float)):
                    names[name] = None
        return list(names)

    def _column(self, name: str) -> list[float]:
        values = (row.values.get(name) for row in self.features)
        return [float(value) for value in values if isinstance(value, (int, float))]


def feature_of(subject: str) -> str | None:
    """The feature whose mean a drift event is about; None for a loss or a spread.

    >>> feature_of("feature wind: mean"), feature_of("feature wind: spread"), feature_of("loss")
    ('wind', None, None)
    """
    name, _, of = subject.removeprefix("feature ").rpartition(": ")
    return name if subject.startswith("feature ") and of == "mean" else None


def _output(prediction: Any, probabilities: dict[str, float] | None) -> Any:
    """What the pool said, as its task has it: p(true), probabilities by label, or the value."""
    if probabilities is not None:
        return probabilities.get("true", probabilities)
    return float(prediction) if isinstance(prediction, (int, float)) else None


def _comparable(output: Any, label: Any) -> tuple[float, float]:
    """Two numbers to compare: p(true), p(likeliest class) or the value, and the label."""
    if isinstance(output, dict):
        likeliest = max(sorted(output), key=output.__getitem__, default=None)
        return output.get(likeliest, 0.0), float(label == likeliest)
    return output, float(label)


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
