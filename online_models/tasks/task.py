"""What is predicted: the request, the label, and how an estimator's answer is read and scored.

An *output* is what a task reads from an estimator: binary p(True), multiclass a dict of label to
probability, regression a float.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, replace
from math import isfinite, log
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast

from driftline.declaration_check import ABOVE_0, AT_LEAST_0, MaybeSeconds, Seconds, check
from driftline.online_models.errors import ModelDeclarationError, NotFinite
from driftline.online_models.tasks.anomaly_scores import TOLERANCE, Calibrated

FLOOR = 1e-15
"""Probabilities are clipped to it in the log loss."""


class _Unlabelled:
    def __reduce__(self) -> str:
        return "UNLABELLED"  # pickles to itself: it is compared by identity

    def __repr__(self) -> str:
        return "UNLABELLED"


UNLABELLED: Final = _Unlabelled()
"""At expiry there is no label: the outcome is "unlabelled" and nothing is learned."""


Answers = Literal["all", "oldest", "newest"]
"""Which of several open requests with its key a label answers."""
LearnAt = Literal["deadline", "label"]
"""When a label is learned from."""
CORRECTS = "corrects"
"""The field by which an event says that it is a correction, where `Label.corrects` names no other."""


class LabelWarning(UserWarning):
    """A label is declared in a way that makes models learn what is not so.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", LabelWarning)  # such a declaration is refused here
    ...     warnings.warn("every label that comes is True", LabelWarning)
    Traceback (most recent call last):
        ...
    driftline.online_models.tasks.task.LabelWarning: every label that comes is True
    """


_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class Label(Generic[_E]):
    """How the truth becomes known (docs/labels.md says more).

    `event` carries it, `value` reads it. It answers the requests whose field `on` is the same and whose time
    is not after its own: all that are open, or the "oldest" or "newest" of them (`answers`). `wait` is how
    long (seconds of event time) a request waits; `void` events say that there will be no label; `at_expiry`
    is the label when none came (fraud, clicks and churn need False). What is answered stays so, but for
    corrections: a label or void event corrects the one whose id is in its field `corrects` (default: a field
    of that name, where the event has one). For `corrections` seconds after the wait (default: `wait`) they
    count, and so does a first label that comes too late; 0 means none of either.

    `learn_at` is when labels are learned from, scored and watched for drift: "label", as they come, or
    "deadline", when the wait of their request is over. The latter is the default where `at_expiry` is a
    value: there, one kind of label comes early and the other only at the deadline, and who learns them as
    they come learns for a whole `wait` that everything is of the first kind.

    A charge-back means fraud, and none within 60 days means that there was none:

    >>> import driftline as dl
    >>> class Chargeback(dl.Event, tag="chargeback"):
    ...     payment: str
    >>> Label(Chargeback, on="payment", value=lambda _: True, wait=60 * dl.DAY, at_expiry=False).wait
    5184000.0
    """

    event: type[_E]
    on: str = field(kw_only=True)
    value: Callable[[_E], Any] = field(kw_only=True)
    # MISSING: it has no default. To mypy it needs one, or it would be no descriptor
    wait: Annotated[Seconds, ABOVE_0] = field(default=cast(Any, MISSING), kw_only=True)
    void: Sequence[type] = field(default=(), kw_only=True)
    at_expiry: Any = field(default=UNLABELLED, kw_only=True)
    corrections: Annotated[MaybeSeconds, AT_LEAST_0] = field(default=cast(Any, None), kw_only=True)
    answers: Answers = field(default="all", kw_only=True)
    corrects: str | None = field(default=None, kw_only=True)
    learn_at: LearnAt | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.value, str):
            raise ModelDeclarationError(
                f"Label: value: expected a function of the event, not {self.value!r}: write "
                f"value=lambda event: event.{self.value}"
            )
        check(self, ModelDeclarationError)
        if self.corrects is not None and not self.is_corrected:
            raise ModelDeclarationError(
                f"Label(corrects={self.corrects!r}): neither {self.event.__name__} nor a void event has it"
            )
        if self.learn_at == "label" and self.at_expiry is not UNLABELLED:
            warnings.warn(
                f"Label(learn_at='label', at_expiry={self.at_expiry!r}): labels that come early are learned "
                f"up to {self.wait:g} s before those that only the deadline gives: models, metrics and drift "
                "monitors see too many of the first; leave learn_at out to learn each at its deadline "
                "(docs/labels.md)",
                LabelWarning,
                stacklevel=3,
            )

    @property
    def learns_at(self) -> LearnAt:
        """When labels are learned from, as declared or by default."""
        if self.learn_at is not None:
            return self.learn_at
        return "label" if self.at_expiry is UNLABELLED else "deadline"

    def correction_field(self, event: type) -> str | None:
        """The field of a label or void event that names what it corrects; None where it has none."""
        name = CORRECTS if self.corrects is None else self.corrects
        return name if name in getattr(event, "__struct_fields__", ()) else None

    @property
    def is_corrected(self) -> bool:
        """Whether an event can say that it is a correction."""
        return any(self.correction_field(event) for event in (self.event, *self.void))

    def checked(self, task: str, check: Callable[[Any], Any]) -> Label[_E]:
        """This label with `at_expiry` as the task's `check` normalises it; raises ModelDeclarationError."""
        if self.at_expiry is UNLABELLED:
            return self
        try:
            value = check(self.at_expiry)
        except ValueError as error:
            raise ModelDeclarationError(f"{task}: Label(at_expiry={self.at_expiry!r}): {error}") from error
        return self if value is self.at_expiry else replace(self, at_expiry=value)


@dataclass(frozen=True, slots=True)
class Decision:
    """Turns a probability into a decision by its costs (in any one unit).

    Deciding True costs `false_positive` when wrong, deciding False costs `false_negative`; the
    expected cost is least at the threshold fp / (fp + fn) (Elkan 2001, The foundations of
    cost-sensitive learning).

    >>> Decision(false_positive=1, false_negative=4).threshold
    0.2
    """

    false_positive: float
    false_negative: float

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)
        if not (self.false_positive > 0 and self.false_negative > 0):
            raise ModelDeclarationError("Decision: both costs must be > 0")

    @property
    def threshold(self) -> float:
        """The probability from which True is decided."""
        return self.false_positive / (self.false_positive + self.false_negative)

    def decide(self, p: float) -> bool:
        """The decision of least expected cost."""
        return p >= self.threshold

    def cost(self, y: bool, p: float) -> float:
        """What deciding at probability `p` cost when the truth is `y`."""
        if self.decide(p):
            return 0.0 if y else self.false_positive
        return self.false_negative if y else 0.0


def _clipped(label: Any, p: Any) -> float:
    """A probability that left [0, 1] by rounding, brought back; raises NotFinite for any other."""
    if -TOLERANCE <= p <= 1.0 + TOLERANCE:
        return 0.0 if p < 0.0 else 1.0
    raise NotFinite(f"p({label}) is {p!r}")


def _true_or_false(y: Any) -> bool:
    if y in (0, 1):
        return bool(y)
    raise ValueError(f"{y!r} is not true or false")


def _log_loss(y: Any, p: float) -> float:
    given = p if y else 1.0 - p
    return -log(given if given > FLOOR else FLOOR)


@dataclass(frozen=True, slots=True)
class Binary(Generic[_E]):
    """True or false, with p(True) as output and log loss in nats.

    >>> import driftline as dl
    >>> class Payment(dl.Event, tag="payment"):
    ...     amount: float
    >>> class Chargeback(dl.Event, tag="chargeback"):
    ...     payment: str
    >>> class Query(dl.Event, tag="query"):
    ...     payment: str
    >>> label = dl.Label(Chargeback, on="payment", value=lambda _: True, wait=60 * dl.DAY, at_expiry=False)
    >>> round(Binary("fraud", ask=Query, label=label).loss(True, 0.5), 3)
    0.693
    """

    name: str
    ask: type = field(kw_only=True)
    label: Label[_E] = field(kw_only=True)
    decision: Decision | None = field(default=None, kw_only=True)
    kind: str = field(default="binary", init=False)
    is_supervised: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError, self.name)
        object.__setattr__(self, "label", self.label.checked(f"Binary({self.name!r})", self.check_label))

    def prepared(self, estimator: Any) -> Any:
        return estimator

    def predict(self, estimator: Any, x: dict[str, Any]) -> float | None:
        probabilities = estimator.predict_proba_one(x)
        if probabilities is None:
            return None
        p = probabilities.get(True)
        if p is None:
            p = 1.0 - probabilities[False] if False in probabilities else 0.5
        if 0.0 <= p <= 1.0:
            return float(p)
        return _clipped(True, p)

    def check_label(self, y: Any) -> bool:
        return _true_or_false(y)

    def loss(self, y: Any, output: float) -> float:
        return _log_loss(y, output)

    def point(self, output: float) -> bool:
        return output >= 0.5 if self.decision is None else self.decision.decide(output)

    def probabilities(self, output: float) -> dict[str, float]:
        return {"false": 1.0 - output, "true": output}

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> float:
        if probabilities is None or "true" not in probabilities:
            raise ValueError("a binary prediction was published without its probabilities")
        return probabilities["true"]


@dataclass(frozen=True, slots=True)
class Multiclass(Generic[_E]):
    """One of several labels (text), with a dict of probabilities as output.

    >>> import driftline as dl
    >>> class Parcel(dl.Event, tag="parcel"):
    ...     parcel: str
    >>> class Sorted(dl.Event, tag="sorted"):
    ...     parcel: str
    ...     zone: str
    >>> label = dl.Label(Sorted, on="parcel", value=lambda event: event.zone, wait=dl.DAY)
    >>> round(Multiclass("zone", ask=Parcel, label=label).loss("north", {"north": 0.5, "south": 0.5}), 3)
    0.693
    """

    name: str
    ask: type = field(kw_only=True)
    label: Label[_E] = field(kw_only=True)
    decision: Decision | None = field(default=None, init=False)
    kind: str = field(default="multiclass", init=False)
    is_supervised: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError, self.name)
        object.__setattr__(self, "label", self.label.checked(f"Multiclass({self.name!r})", self.check_label))

    def prepared(self, estimator: Any) -> Any:
        return estimator

    def predict(self, estimator: Any, x: dict[str, Any]) -> dict[str, float] | None:
        probabilities = estimator.predict_proba_one(x)
        if probabilities is None:
            return None
        said = {
            str(label): float(p) if 0.0 <= p <= 1.0 else _clipped(label, p)
            for label, p in probabilities.items()
        }
        # estimators that keep their classes in a set have them in an order of their own
        return dict(sorted(said.items())) if len(said) > 1 else said

    def check_label(self, y: Any) -> str:
        if isinstance(y, (str, bool, int)):
            return str(y)
        raise ValueError(f"{y!r} is no class label")

    def loss(self, y: Any, output: dict[str, float]) -> float:
        return -log(min(max(output.get(y, 0.0), FLOOR), 1.0))

    def point(self, output: dict[str, float]) -> str | None:
        return max(sorted(output), key=output.__getitem__) if output else None

    def probabilities(self, output: dict[str, float]) -> dict[str, float]:
        return output

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> dict[str, float]:
        if probabilities is None:
            raise ValueError("a multiclass prediction was published without its probabilities")
        return probabilities


@dataclass(frozen=True, slots=True)
class Regression(Generic[_E]):
    """A number, with squared error.

    With `coverage`, such as 0.9, every prediction has an interval that is to hold that share of labels.

    >>> import driftline as dl
    >>> class Ride(dl.Event, tag="ride"):
    ...     ride: str
    >>> class Done(dl.Event, tag="done"):
    ...     ride: str
    ...     minutes: float
    >>> label = dl.Label(Done, on="ride", value=lambda event: event.minutes, wait=dl.DAY)
    >>> Regression("minutes", ask=Ride, label=label).loss(12.0, 10.0)
    4.0
    """

    name: str
    ask: type = field(kw_only=True)
    label: Label[_E] = field(kw_only=True)
    coverage: float | None = field(default=None, kw_only=True)
    decision: Decision | None = field(default=None, init=False)
    kind: str = field(default="regression", init=False)
    is_supervised: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError, self.name)
        if self.coverage is not None and not 0 < self.coverage < 1:
            raise ModelDeclarationError(f"Regression(coverage={self.coverage!r}): a share must be in (0, 1)")
        object.__setattr__(self, "label", self.label.checked(f"Regression({self.name!r})", self.check_label))

    def prepared(self, estimator: Any) -> Any:
        return estimator

    def predict(self, estimator: Any, x: dict[str, Any]) -> float | None:
        said = estimator.predict_one(x)
        if said is None:
            return None
        value = float(said)
        if not abs(value) <= 1e150:
            raise NotFinite(f"the prediction is {value!r}")
        return value

    def check_label(self, y: Any) -> float:
        if isinstance(y, (int, float)) and isfinite(y) and abs(y) <= 1e15:
            return float(y)
        raise ValueError(f"{y!r} is no finite number")

    def loss(self, y: Any, output: float) -> float:
        return float((y - output) ** 2)

    def point(self, output: float) -> float:
        return output

    def probabilities(self, output: float) -> None:
        return None

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> float:
        if probabilities is not None:
            raise ValueError("a prediction of a number was published with probabilities")
        return float(point)


def no_label(event: Any) -> None:
    """The label rule of a task without labels."""


@dataclass(frozen=True, slots=True)
class Anomaly(Generic[_E]):
    """How odd a request is, a number in [0, 1] that an estimator's `score_one` gives; where scores are of
    another range, their ranks (see `driftline.online_models.tasks.anomaly_scores`).

    Estimators learn from features alone, once a request's `wait` (seconds) is over or its label is known;
    what is labelled true, an anomaly, they do not learn from. Labels are for the metrics: ranking (ROC AUC)
    tells most, as a score is no probability; they may be left out, and `wait` is the label's where there
    is one. A label that comes after the wait corrects the outcome, not the metrics.
    Raises ModelDeclarationError unless just one of `label` and `wait` is given.

    >>> import driftline as dl
    >>> class Payment(dl.Event, tag="payment"):
    ...     amount: float
    >>> Anomaly("odd", ask=Payment, wait=dl.DAY).wait  # learned a day later, as no label says better
    86400.0
    """

    name: str
    ask: type = field(kw_only=True)
    label: Label[_E] = field(default=cast(Any, None), kw_only=True)  # made from `wait`
    wait: Annotated[MaybeSeconds, ABOVE_0] = field(default=cast(Any, None), kw_only=True)
    decision: Decision | None = field(default=None, init=False)
    kind: str = field(default="binary", init=False)
    is_supervised: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        label = self.label
        if self.wait is not None:
            label = Label(self.ask, on="id", value=no_label, wait=self.wait)
        if label is None or self.label not in (None, label):
            raise ModelDeclarationError(
                f"Anomaly({self.name!r}) needs either a label or a wait after which it learns"
            )
        object.__setattr__(self, "label", label)
        check(self, ModelDeclarationError, self.name)
        object.__setattr__(self, "label", label.checked(f"Anomaly({self.name!r})", self.check_label))

    def prepared(self, estimator: Any) -> Calibrated:
        return Calibrated(estimator)

    def predict(self, estimator: Any, x: dict[str, Any]) -> float | None:
        score = estimator.score_one(x)
        return None if score is None else float(score)

    def check_label(self, y: Any) -> bool:
        return _true_or_false(y)

    def loss(self, y: Any, output: float) -> float:
        return _log_loss(y, output)

    def point(self, output: float) -> float:
        return output

    def probabilities(self, output: float) -> None:
        return None

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> float:
        if probabilities is not None:
            raise ValueError("an anomaly score was published with probabilities")
        return float(point)
