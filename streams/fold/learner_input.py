"""What the intake hands to the learner, the answers of other code that it is given, and what is published of
an answer."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from driftline.features.declare.keys import key_text
from driftline.features.state.generated_function import GeneratedFunction, attribute
from driftline.online_models.pool.pool import Failure, Forecast, Pool
from driftline.online_models.tasks.protocol import Task
from driftline.streams.declare.events import Command, Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import OtherTask, Refused
from driftline.streams.fold.label_join import JoinRule, Lesson, ResolvedPrediction
from driftline.streams.records.messages import Interval, ModelVersion, Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.waiting.prediction import PendingPrediction


class Question(msgspec.Struct, frozen=True, gc=False):
    """A request that the learner answers: `moment` is its time, `published` what other code has answered to
    it, which stands."""

    pending: PendingPrediction
    moment: datetime
    published: Prediction | None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A request that a replica of the pool has answered, and which members failed to."""

    pending: PendingPrediction
    failures: tuple[Failure, ...]


Work = tuple[Question | Reply | ResolvedPrediction | Lesson | Command, int, Outputs]
"""What the learner is to do: a question, a reply, an example, a lesson or a command, the offset of the record
behind it, and where to put what comes of it."""


class Staleness(NamedTuple):
    """How old the pool was that gave the newest answer: labels that the learner has learned from since, as
    it heard of the answer, and seconds of event time from the pool to the request; None before there was one.
    """

    labels: int
    seconds: float | None


class Answered(NamedTuple):
    """What other code has published: `predictions`, by the offset of their request, stand whatever the models
    here answer; other requests up to offset `through` were not answered, and never will be: at the offsets
    `asked` they were refused, at others they were taken for facts. Those at the offsets `own` are answered
    here, as this code has done before. Predictions are taken out as the fold reaches them."""

    predictions: dict[int, Prediction]
    through: int
    asked: Sequence[range] = ()
    own: Container[int] = ()

    def is_passed(self, offset: int) -> bool:
        """Whether the request at this offset was not answered, and never will be."""
        return offset <= self.through and offset not in self.predictions and offset not in self.own

    def has_refused(self, offset: int) -> bool:
        """Whether the request at this offset was refused."""
        return self.is_passed(offset) and any(offset in stretch for stretch in self.asked)


class RequestReader:
    """Reads requests of a case: the key fields of its prediction, and the prediction that waits for a label
    by its rule. `key_field` is the field whose text an answer's record has as its key."""

    def __init__(self, case: UseCase, rule: JoinRule) -> None:
        self.key_field = case.task.label.on if case.key is None else case.key
        self.keys = _reader_of(case.key_fields)
        """From an event to the key fields of its prediction."""
        self._suffix = f":{case.task.name}"
        self._label_field = case.task.label.on
        self._wait = rule.wait

    def prediction_id(self, event: Event) -> str:
        """The id of the answer to a request."""
        return event.id + self._suffix

    def pending(
        self,
        prediction_id: str,
        event: Event,
        at: float,
        x: dict[str, Any],
        keys: dict[str, Any],
        label_key: Any,
        silent: bool,
    ) -> PendingPrediction:
        """The prediction that waits for the label of a request."""
        return PendingPrediction(
            prediction_id,
            event.id,
            at,
            key_text(keys[self.key_field]),
            label_key,
            keys,
            x,
            at + self._wait,
            silent=silent,
        )

    def adopted(self, published: Prediction, task: Task) -> PendingPrediction:
        """The prediction of other code that waits for its label, though its request is refused here."""
        at, keys = published.at.timestamp(), published.keys
        return PendingPrediction(
            published.id,
            published.event_id,
            at,
            key_text(keys.get(self.key_field, "")),  # that code may have used another key
            keys.get(self._label_field),
            keys,
            None,
            at + self._wait,
            as_published(task, published, ()),
            published.prediction,
        )


def _reader_of(fields: Sequence[str]) -> Callable[[Event], dict[str, Any]]:
    function = GeneratedFunction("read_keys", "event")
    values = ", ".join(f"{name!r}: {attribute('event', name)}" for name in fields)
    function.line(f"return {{{values}}}")
    return function.function()


class Turn:
    """The current record: its offset, where its outputs go, and the inputs of the learner that it makes
    known, after those of earlier records. `answered` is what other code has answered. One object serves all
    records of a step in turn: one for each would be slower.
    """

    __slots__ = ("answered", "offset", "out", "work")

    def __init__(self, out: Outputs, answered: Answered | None) -> None:
        self.offset = -1
        self.out = out
        self.answered = answered
        self.work: list[Work] = []

    def known(self, item: Question | Reply | ResolvedPrediction | Lesson | Command) -> None:
        """The record makes this known."""
        self.work.append((item, self.offset, self.out))


class Witness(Protocol):
    """Observes, in a fold by new code, what its outputs do not show; the fold does not depend on it."""

    def refused(self, offset: int, refused: Refused, *, published: bool) -> None:
        """A record is refused; if it is not `published`, it belongs to a warm-up."""
        ...

    def answered(self, own: Any, published: Any, *, same_point: bool) -> None:
        """The new code has an answer of its own to a request whose published answer stands."""
        ...


def as_published(task: Task, published: Prediction, outputs: tuple[Any, ...]) -> Forecast:
    """The answer of other code, beside the answers of every member here to the same request."""
    model = published.model
    try:
        output = task.output_of(published.prediction, published.probabilities)
    except ValueError as error:
        raise OtherTask(
            f"the published prediction {published.id} is no answer to this task: {error}. Code of "
            "another task cannot take over: use another namespace"
        ) from error
    interval = published.interval
    reach = None if interval is None else (interval.high - interval.low) / 2.0
    return Forecast(model.name, model.version, model.learned_through, output, outputs, reach=reach)


def prediction_of(
    task: Task, pending: PendingPrediction, moment: datetime, forecast: Forecast, interval: Interval | None
) -> Prediction:
    """The prediction to publish for a request of this `moment`, whose features and answer are known."""
    assert pending.x is not None
    return Prediction(
        pending.prediction_id,
        pending.event_id,
        task.name,
        moment,
        pending.keys,
        pending.prediction,
        task.probabilities(forecast.output),
        ModelVersion(forecast.serving, forecast.version, forecast.learned_through),
        pending.x,
        interval,
    )


def interval_of(pool: Pool, forecast: Forecast) -> Interval | None:
    """The interval around an answer of the pool; None where it tells none."""
    if pool.intervals is None or forecast.reach is None:
        return None
    value, reach = forecast.output, forecast.reach
    return Interval(value - reach, value + reach, pool.intervals.coverage, pool.intervals.held)
