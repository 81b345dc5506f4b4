"""Tasks: the request, the label, and how an estimator's answer is read and scored.

An *output* is what a task reads from an estimator: p(True), a dict of label to probability, or a float.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, replace
from math import log
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast

from driftline.declaration_check import ABOVE_0, AT_LEAST_0, Bounds, MaybeSeconds, Seconds, check
from driftline.online_models.errors import ModelDeclarationError, NotFinite
from driftline.online_models.tasks.anomaly_scores import Calibrated
from driftline.online_models.tasks.probabilities import FLOOR, clipped, log_loss, true_or_false


class _Unlabelled:
    def __reduce__(self) -> str:
        return "UNLABELLED"  # pickles to the one object, as it is compared by identity

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
_E = TypeVar("_E")


class LabelWarning(UserWarning):
    """The declaration of a label makes models learn from a biased sample.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", LabelWarning)  # makes it an error
    ...     warnings.warn("every label that comes is True", LabelWarning)
    Traceback (most recent call last):
        ...
    driftline.online_models.tasks.task.LabelWarning: every label that comes is True
    """


@dataclass(frozen=True, slots=True)
class Label(Generic[_E]):
    """How the true answer to a request becomes known. docs/labels.md explains it with examples.

    Parameters
    ----------
    event
        The type of event that has the label.
    on
        The field of requests and labels by which they are joined. A label answers open requests with the
        same value of it, whose time is not after the label's.
    value
        A function that reads the label from the event.
    wait
        How long a request waits for its label, in seconds of event time or as a timedelta.
    void
        Types of events that say that there will be no label.
    at_expiry
        The label of a request whose wait ends without one. By default there is none, and nothing is learned;
        fraud, clicks and churn need False.
    corrections
        Seconds after the wait in which corrections count, and also a late first label (default: `wait`).
    answers
        Which open requests a label answers: "all", the "oldest" or the "newest".
    corrects
        The field of a label or void event with the id of the event that it corrects (default: "corrects",
        where the event has that field). Only such an event changes a label that is known.
    learn_at
        When a label is learned, scored and watched for drift: "label", when it comes, or "deadline". That is
        the default if `at_expiry` is given: labels of one kind come early then, and are too many at first.

    Raises ModelDeclarationError for a wrong argument. A chargeback means fraud, and none within 60 days means
    that there was none:

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
        if self.event in self.void:
            raise ModelDeclarationError(f"Label: void: {self.event.__name__} brings the label")
        if self.corrects is not None and not self.is_corrected:
            raise ModelDeclarationError(
                f"Label(corrects={self.corrects!r}): neither {self.event.__name__} nor a void event has it"
            )
        if self.learn_at == "label" and self.at_expiry is not UNLABELLED:
            warnings.warn(
                f"Label(learn_at='label', at_expiry={self.at_expiry!r}): labels that come early are learned "
                f"up to {self.wait:g} s before those that only the deadline gives: models, metrics and drift "
                "monitors see too many of the first; leave learn_at out (docs/labels.md)",
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
    """Turns the probability of a binary task into a decision of least expected cost.

    `false_positive` is the cost of a wrong True, `false_negative` that of a wrong False, in the same unit.
    The prediction is True from p(True) = false_positive / (false_positive + false_negative) on (Elkan 2001,
    The foundations of cost-sensitive learning). Raises ModelDeclarationError for a cost that is not above 0.

    >>> Decision(false_positive=1, false_negative=4).threshold
    0.2
    """

    false_positive: Annotated[float, ABOVE_0]
    false_negative: Annotated[float, ABOVE_0]

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)

    @property
    def threshold(self) -> float:
        """The probability from which True is decided."""
        return self.false_positive / (self.false_positive + self.false_negative)

    def decide(self, p: float) -> bool:
        """The decision of least expected cost."""
        return p >= self.threshold

    def cost(self, y: bool, p: float) -> float:
        """The cost of the decision at probability `p` when the label is `y`."""
        if self.decide(p):
            return 0.0 if y else self.false_positive
        return self.false_negative if y else 0.0


@dataclass(frozen=True, slots=True)
class Binary(Generic[_E]):
    """A task with the labels True and False. Its output is p(True), its loss the log loss in nats.

    Parameters
    ----------
    name
        The task's name, which predictions have.
    ask
        The type of event that asks for a prediction.
    label
        How the true answer becomes known. Its `value` must give a bool, or 0 or 1.
    decision
        The costs of wrong decisions. None: the prediction is True from p(True) = 0.5 on.

    >>> import driftline as dl
    >>> class Payment(dl.Event, tag="payment"):
    ...     payment: str
    ...     amount: float
    >>> class Chargeback(dl.Event, tag="chargeback"):
    ...     payment: str
    >>> label = dl.Label(Chargeback, on="payment", value=lambda _: True, wait=60 * dl.DAY, at_expiry=False)
    >>> round(Binary("fraud", ask=Payment, label=label).loss(True, 0.5), 3)
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
        return clipped(True, p)

    def check_label(self, y: Any) -> bool:
        return true_or_false(y)

    def loss(self, y: Any, output: float) -> float:
        return log_loss(y, output)

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
    """A task with several labels, which are texts. Its output is a dict of probabilities by label, its loss
    the log loss in nats.

    `name`, `ask` and `label` are as in `Binary`. The label's `value` must give a text, an int or a bool; the
    last two become texts. Labels need not be declared: models learn them as they come.

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
            str(label): float(p) if 0.0 <= p <= 1.0 else clipped(label, p)
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
    """A task that predicts a number. Its output is a float, its loss the squared error.

    `name`, `ask` and `label` are as in `Binary`. The label's `value` must give a finite number within ±1e15.
    With `coverage`, such as 0.9, every prediction has an interval that aims to contain this share of the
    labels.

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
    coverage: Annotated[float, Bounds(above=0, below=1)] | None = field(default=None, kw_only=True)
    decision: Decision | None = field(default=None, init=False)
    kind: str = field(default="regression", init=False)
    is_supervised: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError, self.name)
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
        if isinstance(y, (int, float)) and abs(y) <= 1e15:
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
    """A task that scores how unusual a request is. Its output is a number in [0, 1]: the estimator's
    `score_one`, or its rank among recent scores if it has another range.

    Estimators learn from features alone, once a request's label is known or `wait` (seconds, or a timedelta)
    is over; they do not learn from requests labelled True, the anomalies. Labels are optional and used for
    metrics only: consider ROC AUC first, as a score is no probability. Give either `label`, which has a wait
    of its own, or `wait`: else ModelDeclarationError is raised. A label after the wait corrects the outcome,
    not the metrics.

    >>> import driftline as dl
    >>> class Payment(dl.Event, tag="payment"):
    ...     amount: float
    >>> Anomaly("odd", ask=Payment, wait=dl.DAY).wait  # models learn a day later
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
        return true_or_false(y)

    def loss(self, y: Any, output: float) -> float:
        return log_loss(y, output)

    def point(self, output: float) -> float:
        return output

    def probabilities(self, output: float) -> None:
        return None

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> float:
        if probabilities is not None:
            raise ValueError("an anomaly score was published with probabilities")
        return float(point)
