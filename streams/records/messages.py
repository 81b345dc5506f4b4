"""The wire format of the output topics: plain JSON, one struct a topic."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from driftline.features.quality.feature_schema import AnomalyKind, Severity
from driftline.online_models.drift.alarm_budget import AlarmBudget
from driftline.online_models.drift.drift_report import Estimate, Side, Toll
from driftline.online_models.promote.promotion import Evidence


class ModelVersion(msgspec.Struct, frozen=True, gc=False):
    """The model that served: `version` is a position in the log, member@partition:offset."""

    name: str
    version: str
    learned_through: int


class Interval(msgspec.Struct, frozen=True, gc=False):
    """Where the number is to lie, in the share `coverage` of all requests; `held` is the share so far."""

    low: float
    high: float
    coverage: float
    held: float | None


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One answer to one request. `features` are the values used; absent means missing.

    `interval` is around a number, where the task declares its coverage, once enough labels are known.
    """

    id: str
    event_id: str
    task: str
    at: datetime
    keys: dict[str, Any]
    prediction: Any
    probabilities: dict[str, float] | None
    model: ModelVersion
    features: dict[str, Any]
    interval: Interval | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A prediction joined with its label, void or expiry.

    `horizon` is seconds from request to label; `loss` is the task's (log loss in nats, squared
    error); `corrects` is the revision that this one replaces. Every Nth labelled outcome of a pool
    (N is the declared `Monitoring.estimate_every`) has an `estimate` of how well the model does now.
    """

    prediction_id: str
    event_id: str
    task: str
    at: datetime
    keys: dict[str, Any]
    status: Literal["labelled", "unlabelled", "void"]
    prediction: Any
    model: str
    label: Any = None
    loss: float | None = None
    horizon: float | None = None
    revision: int = 0
    corrects: int | None = None
    estimate: Estimate | None = None


class Suspect(msgspec.Struct, frozen=True):
    """What changed of one stream; `evidence` is about -ln of the chance of it on a stream that does not."""

    subject: str
    change: str
    evidence: float
    before: Side
    after: Side


class Position(msgspec.Struct, frozen=True):
    """A place in the log's partition."""

    at: datetime
    offset: int


class Span(msgspec.Struct, frozen=True):
    """From one position to another."""

    first: Position
    last: Position


class DriftEvent(msgspec.Struct, frozen=True):
    """A turn of an incident: warned of, confirmed (again where it proves to be of another kind), over.

    One incident is all that changes at a time, its `suspects` ranked, likeliest cause first; `subject`,
    `before` and `after` are the first one's. `predictions` is when that was asked which shows the change,
    `labels` when its labels came: null when it took none to see. Offsets are
    positions in the log's partition. `toll` comes with the end of a confirmed incident.
    """

    id: str
    at: datetime
    key: str
    subject: str
    detector: str
    severity: Literal["warning", "drift", "recovered"]
    before: Side
    after: Side
    first_offset: int
    offset: int
    incident: str = ""
    kind: Literal["", "data break", "label delay", "covariate drift", "label shift", "concept drift"] = ""
    suspects: tuple[Suspect, ...] = ()
    predictions: Span | None = None
    labels: Span | None = None
    budget: AlarmBudget | None = None
    toll: Toll | None = None


class ModelEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of what serves or learns, with its reason; the evidence where it rests on a comparison."""

    id: str
    at: datetime
    key: str
    kind: str
    member: str
    stage: str
    reason: str
    serving: str
    offset: int
    evidence: Evidence | None = None


class Histogram(msgspec.Struct, frozen=True):
    """Counts of numbers: below `low`, in each bin of width `step` from there on, and above the last bin."""

    low: float
    step: float
    counts: tuple[int, ...]


class FeatureDistance(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a window is from the reference: population stability index (nats), Jensen-Shannon distance
    (base 2), Kolmogorov-Smirnov statistic (numbers alone); the `bounds` above which drift is reported."""

    psi: float
    js: float
    ks: float | None
    bounds: dict[str, float] = {}


class FeatureSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Statistics of one feature in one window. Quantiles are off by less than a bin's width; `top` are the
    most frequent texts, `distinct` is how many there were."""

    count: int
    missing: int
    types: dict[str, int]
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: dict[str, float] | None = None
    histogram: Histogram | None = None
    top: tuple[tuple[str, int], ...] = ()
    distinct: int | None = None
    distance: FeatureDistance | None = None

    @property
    def median(self) -> float | None:
        """Of the numbers; None without any."""
        return None if self.quantiles is None else self.quantiles["0.5"]

    @property
    def missing_share(self) -> float | None:
        """Share of the requests that lack the feature; None without requests."""
        requests = self.count + self.missing
        return self.missing / requests if requests else None


class DataStatistics(msgspec.Struct, frozen=True):
    """Features as served to the `requests` of one partition with event times in [`at`, `until`). `schema` is
    the sha256 of what they were expected to be; offsets are of the first and last request in the log."""

    at: datetime
    until: datetime
    partition: int
    requests: int
    first_offset: int
    last_offset: int
    schema: str
    features: dict[str, FeatureSummary]


class DataAnomaly(msgspec.Struct, frozen=True):
    """Where a window's statistics are not what the schema expects: `count` of its `requests` show it."""

    id: str
    at: datetime
    until: datetime
    partition: int
    feature: str
    kind: AnomalyKind
    severity: Severity
    count: int
    requests: int
    expected: str
    found: str
    schema: str


def begins_with(kind: str, prediction_id: str) -> bytes | None:
    """What the records of one prediction begin with in the topic of a kind; None where none is of one."""
    field = {"predictions": "id", "outcomes": "prediction_id"}.get(kind)
    return None if field is None else b'{"%s":%s,' % (field.encode(), msgspec.json.encode(prediction_id))
