"""What the intake hands to the learner, and the answers of other code that it is given."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import msgspec

from driftline.features.declare.keys import key_text
from driftline.online_models.pool.pool import Forecast
from driftline.online_models.tasks.protocol import Task
from driftline.streams.declare.events import Command, Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import OtherTask, Refused
from driftline.streams.fold.label_join import JoinRule, Known, Lesson, ResolvedPrediction, Statement
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.waiting.prediction import PendingPrediction


class Question(msgspec.Struct, frozen=True, gc=False):
    """A request that the learner is to answer: `moment` is its time, `published` what other code has
    answered to it, which stands."""

    pending: PendingPrediction
    moment: datetime
    published: Prediction | None


Work = tuple[Question | ResolvedPrediction | Lesson | Command, int, Outputs]
"""What the learner is to do: a question, an example, a lesson or a command, the offset of the record behind
it, and where to put what comes of it."""


class Answered(NamedTuple):
    """What other code has published: `predictions`, by the offset of their request, stand whatever the
    models here say; other requests up to offset `through` were not answered, and never will be.
    Predictions are taken out as the fold comes to them."""

    predictions: dict[int, Prediction]
    through: int


class Joining(Protocol):
    """Where requests and what is said of them meet: a `LabelJoin`, or the way to one."""

    def add(self, pending: PendingPrediction) -> None: ...
    def answer(self, statement: Statement, known: Known) -> None: ...


class RequestReader:
    """Reads requests of a case: the keys that predictions tell, and what waits for a label by its rule.
    `key_field` is the field whose text an answer's record has as its key."""

    def __init__(self, case: UseCase, rule: JoinRule) -> None:
        self.key_field = case.task.label.on if case.key is None else case.key
        # attrgetter returns a bare value for one name: asking twice keeps it a tuple
        self._names = case.key_fields
        self._values_of = attrgetter(*self._names, self._names[0])
        self._suffix = f":{case.task.name}"
        self._wait = rule.wait

    def keys(self, event: Event) -> dict[str, Any]:
        """The fields that the prediction is told by."""
        return dict(zip(self._names, self._values_of(event), strict=False))

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
        """What waits for the label of a request."""
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


class Turn:
    """The record whose turn it is: its offset, where to put what it causes, and what is known by it for the
    learner to do, after what was known before. `answered` is what other code has answered.

    One serves all records of a step, each in its turn: one for each would be slower.
    """

    __slots__ = ("answered", "offset", "out", "work")

    def __init__(self, out: Outputs, answered: Answered | None) -> None:
        self.offset = -1
        self.out = out
        self.answered = answered
        self.work: list[Work] = []

    def known(self, item: Question | ResolvedPrediction | Lesson | Command) -> None:
        """The record makes this known."""
        self.work.append((item, self.offset, self.out))


class Witness(Protocol):
    """Observes, in a fold by new code, what its outputs do not show; nothing of the fold depends on it."""

    def refused(self, offset: int, refused: Refused, *, published: bool) -> None:
        """A record is refused; one that is not `published` is of a warm-up."""
        ...

    def answered(self, own: Any, published: Any, *, same_point: bool) -> None:
        """There is an answer of its own to a request whose published answer stands."""
        ...


def as_published(task: Task, published: Prediction, outputs: tuple[Any, ...]) -> Forecast:
    """What other code has answered, beside what every member here says to the same request."""
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
