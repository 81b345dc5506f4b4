"""Predictions that wait for their label, and the join with it.

What a label or a void does is decided by event times alone. It has its effect when the watermark has passed
it, so that nothing in time can come before it: in time's order, however requests, labels and voids were
interleaved in the log. Of one time, a label comes before a void and a void before a correction; what says
the same at the same time counts in the log's order. Without lateness the log is in order, and a label
has its effect at once, on the requests before it.

A label answers what is open (`JoinRule.answers` says which of several requests); where nothing is, what
expired without one. What is answered changes by a correction alone, which names the label it corrects.

Thousands of predictions wait at a time and none is part of a cycle: they are structs that the
garbage collector does not walk through (`gc=False`).
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

import msgspec

from driftline.online_models.pool.pool import Forecast
from driftline.online_models.tasks.task import UNLABELLED, Answers, Label

PredictionStatus = Literal["open", "labelled", "unlabelled", "void"]
NEVER_DUE = float("inf")


class PendingPrediction(msgspec.Struct, eq=False, gc=False):
    """One prediction until its label can no longer change.

    `forecast` and `prediction` are the learner's answer, once it has come to the request. `closed_at` is
    the event time of what closed it last; `told_by` are the ids of the events that answered it, the label
    first and then its corrections. A `silent` one was never published, so nobody hears of its outcome.
    Without features `x` it is other code's, on a request that was refused here: there is nothing to learn
    from it.
    """

    prediction_id: str
    event_id: str
    at: float
    key: str
    label_key: Any
    keys: dict[str, Any]
    x: dict[str, Any] | None
    deadline: float
    forecast: Forecast | None = None
    prediction: Any = None
    status: PredictionStatus = "open"
    label: Any = None
    learned: bool = False
    revision: int = -1
    closed_at: float = 0.0
    silent: bool = False
    told_by: tuple[str, ...] = ()


_asked_at = attrgetter("at")
_deadline = attrgetter("deadline")


class ResolvedPrediction(msgspec.Struct, frozen=True, gc=False):
    """What became of one prediction, for the learner, who comes to it later: the prediction may have been
    closed anew by then. A label is None unless the status is labelled; `status_before` and `label_before`
    are those that this one replaces. `is_due` says that it is to be learned from now, not at the deadline.
    """

    pending: PendingPrediction
    status: PredictionStatus
    label: Any
    at: float
    revision: int
    status_before: PredictionStatus = "open"
    label_before: Any = None
    is_due: bool = True


class Lesson(msgspec.Struct, frozen=True, gc=False):
    """What is to be learned from a prediction at its deadline; the outcome has `labelled_at`."""

    pending: PendingPrediction
    label: Any
    labelled_at: float


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What the event `event_id` says of the requests with its label key: their label, or that there will be
    none (void). One that `corrects` another says it of those which that one answered."""

    label_key: Any
    status: PredictionStatus
    label: Any
    at: float
    event_id: str
    corrects: str | None = None


def _in_time(statement: Statement) -> tuple[float, int]:
    """The order of effects: by time; of one time, labels before voids before corrections."""
    if statement.corrects is not None:
        return statement.at, 2
    return statement.at, int(statement.status == "void")


Known = Callable[[ResolvedPrediction | Lesson], None]
"""Takes an example or a lesson the moment it is known."""


@dataclass(frozen=True, slots=True)
class JoinRule:
    """How labels meet requests; `wait` and `corrections` are seconds.

    With `in_order` all comes in the order of its time, so a label has its effect at once. After
    deadline + corrections a prediction is forgotten. `expiry` is what the outcome is at the deadline:
    (status, label). With `by_deadline`, what is labelled is learned from at its deadline.
    """

    wait: float
    corrections: float
    in_order: bool
    expiry: tuple[PredictionStatus, Any] = ("unlabelled", None)
    answers: Answers = "all"
    by_deadline: bool = False
    is_corrected: bool = True

    @classmethod
    def of(cls, label: Label[Any], in_order: bool) -> JoinRule:
        """The rule that a declared label means."""
        expiry: tuple[PredictionStatus, Any] = (
            ("unlabelled", None) if label.at_expiry is UNLABELLED else ("labelled", label.at_expiry)
        )
        corrections = label.wait if label.corrections is None else label.corrections
        return cls(
            label.wait, corrections, in_order, expiry, label.answers, label.learns_at == "deadline",
            corrections > 0 and label.is_corrected,
        )  # fmt: skip


@dataclass(slots=True)
class LabelJoinState:
    """All that later labels depend on.

    `unanswered` are open, or expired without a label; by their time. `answered` are those that a correction
    may still change, by the label's key and id. `waiting` are by deadline, `closing` those past it.
    """

    unanswered: dict[Any, list[PendingPrediction]] = field(default_factory=dict)
    answered: dict[tuple[Any, str], list[PendingPrediction]] = field(default_factory=dict)
    waiting: deque[PendingPrediction] = field(default_factory=deque)
    closing: deque[PendingPrediction] = field(default_factory=deque)
    statements: deque[Statement] = field(default_factory=deque)
    due: float = NEVER_DUE
    open: int = 0
    unmatched: int = 0


class LabelJoin:
    """Open and recently closed predictions of one partition, by label key."""

    def __init__(self, rule: JoinRule) -> None:
        self.rule = rule
        self._s = LabelJoinState()
        self._forgotten: list[PendingPrediction] | None = None

    @property
    def open(self) -> int:
        """Predictions without an outcome so far, those that were published."""
        return self._s.open

    @property
    def unmatched(self) -> int:
        """Labels, voids and corrections so far that found no prediction."""
        return self._s.unmatched

    @property
    def due(self) -> float:
        """When, in event time, `expire` next has something to do."""
        return self._s.due

    def __len__(self) -> int:
        """How many predictions are remembered."""
        return sum(1 for _ in self._remembered())

    def add(self, pending: PendingPrediction) -> None:
        """Wait for the label of a new prediction."""
        s = self._s
        of_key = s.unanswered.get(pending.label_key)
        if of_key is None:
            s.unanswered[pending.label_key] = [pending]
        else:
            insort_right(of_key, pending, key=_asked_at)
        if s.waiting and s.waiting[-1].deadline > pending.deadline:
            insort_right(s.waiting, pending, key=_deadline)
        else:
            s.waiting.append(pending)
        s.open += not pending.silent
        if pending.deadline < s.due:
            s.due = pending.deadline

    def answer(self, statement: Statement, known: Known) -> None:
        """Take in a label, a void or a correction: its effect comes when the watermark has passed it."""
        s = self._s
        if self.rule.in_order:
            self._apply(statement, known)
            return
        hash(statement.label_key)  # raises at the record that brings it, and not where it has its effect
        if s.statements and _in_time(s.statements[-1]) > _in_time(statement):
            insort_right(s.statements, statement, key=_in_time)
        else:
            s.statements.append(statement)
        if statement.at < s.due:
            s.due = statement.at

    def expire(self, watermark: float, known: Known) -> None:
        """Let what was said before the watermark have its effect, close what has waited past its deadline,
        and forget what can no longer change."""
        s = self._s
        while s.statements and s.statements[0].at < watermark:
            statement = s.statements.popleft()
            self._pass(statement.at, known)
            self._apply(statement, known)
        self._pass(watermark, known)
        s.due = s.waiting[0].deadline if s.waiting else NEVER_DUE
        if s.closing:
            s.due = min(s.due, s.closing[0].deadline + self.rule.corrections)
        if s.statements:
            s.due = min(s.due, s.statements[0].at)

    def _pass(self, time: float, known: Known) -> None:
        """Deadlines before this time are over."""
        s, corrections = self._s, self.rule.corrections
        while s.waiting and s.waiting[0].deadline < time:
            pending = s.waiting.popleft()
            if pending.status == "open":
                self._close(pending, *self.rule.expiry, pending.deadline, True, known)
            elif self.rule.by_deadline and pending.status == "labelled":
                known(Lesson(pending, pending.label, pending.closed_at))
            if not pending.told_by or self.rule.is_corrected:
                s.closing.append(pending)
        while s.closing and s.closing[0].deadline + corrections < time:
            self._forget(s.closing.popleft())

    def _apply(self, statement: Statement, known: Known) -> None:
        s = self._s
        if statement.corrects is None:
            found = self._meant(statement, known)
            for pending in found:
                _remove(s.unanswered, pending.label_key, pending)
        else:
            found = self._corrected(statement)
        s.unmatched += not found
        for pending in found:
            self._tell(pending, statement, known)

    def _tell(self, pending: PendingPrediction, statement: Statement, known: Known) -> None:
        """This prediction is answered, or corrected."""
        rule, name = self.rule, statement.event_id
        if name not in pending.told_by:
            pending.told_by += (name,)
            if rule.is_corrected:
                self._s.answered.setdefault((pending.label_key, name), []).append(pending)
        if pending.status != statement.status or pending.label != statement.label:
            is_due = not rule.by_deadline or statement.at > pending.deadline
            self._close(pending, statement.status, statement.label, statement.at, is_due, known)
        if not rule.is_corrected:
            self._drop(pending)

    def _meant(self, statement: Statement, known: Known) -> list[PendingPrediction]:
        """The requests that a label or a void answers."""
        at = statement.at
        asked = [p for p in self._s.unanswered.get(statement.label_key, ()) if p.at <= at]
        found = []
        for pending in asked:
            if pending.status != "open":
                continue
            if pending.deadline < at:  # the watermark may be behind the event
                self._close(pending, *self.rule.expiry, pending.deadline, True, known)
            else:
                found.append(pending)
        if not found and statement.status == "labelled":
            corrections = self.rule.corrections
            found = [p for p in asked if corrections > 0 and at <= p.deadline + corrections]
        if self.rule.answers == "oldest":
            return found[:1]
        return found[-1:] if self.rule.answers == "newest" else found

    def _corrected(self, statement: Statement) -> list[PendingPrediction]:
        """The requests that what is corrected has answered."""
        assert statement.corrects is not None
        found = self._s.answered.get((statement.label_key, statement.corrects), ())
        return [p for p in found if statement.at <= p.deadline + self.rule.corrections]

    def _close(
        self,
        pending: PendingPrediction,
        status: PredictionStatus,
        label: Any,
        at: float,
        is_due: bool,
        known: Known,
    ) -> None:
        if pending.status == "open":
            self._s.open -= not pending.silent
        pending.revision += 1
        example = ResolvedPrediction(
            pending, status, label, at, pending.revision, pending.status, pending.label, is_due
        )
        pending.status = status
        pending.label = label
        pending.closed_at = at
        known(example)

    def _forget(self, pending: PendingPrediction) -> None:
        if not pending.told_by:
            _remove(self._s.unanswered, pending.label_key, pending)
        elif self.rule.is_corrected:
            for name in pending.told_by:
                _remove(self._s.answered, (pending.label_key, name), pending)
        else:
            return  # nothing was kept of it since it was answered
        self._drop(pending)

    def _drop(self, pending: PendingPrediction) -> None:
        """It cannot change any more."""
        if self._forgotten is not None:
            self._forgotten.append(pending)

    def inherit(self, forgotten: Iterable[PendingPrediction] = ()) -> None:
        """Until `reconcile`, outcomes are published by other code: keep what is forgotten before it was.

        `forgotten` is what was kept so far, where the state was restored meanwhile.
        """
        self._forgotten = list(forgotten)

    @property
    def forgotten(self) -> list[PendingPrediction]:
        """What is kept until `reconcile`; no part of `state`."""
        return self._forgotten or []

    def settle(self, published: Container[str], own: Container[str]) -> None:
        """The outcomes of these predictions are published; for `own` see `reconcile`."""
        if self._forgotten:
            self._forgotten = [
                p
                for p in self._forgotten
                if not p.silent and (p.prediction_id not in published or p.prediction_id in own)
            ]

    def reconcile(self, published: Mapping[str, int], own: Container[str]) -> list[ResolvedPrediction]:
        """Go on from the revisions that were published; returns what is closed here, but was not there.

        An outcome published for one of the `own` predictions is of an answer that never was.
        """
        lacking = []
        for pending in self._remembered():
            revision = published.get(pending.prediction_id, -1)
            is_told = revision >= 0 and pending.prediction_id not in own
            if not is_told and pending.status != "open" and not pending.silent:
                revision += 1
                lacking.append(
                    ResolvedPrediction(pending, pending.status, pending.label, pending.closed_at, revision)
                )
            pending.revision = revision
        self._forgotten = None
        return lacking

    def waiting(self) -> set[str]:
        """Ids of the predictions that may still get an outcome or a correction."""
        return {pending.prediction_id for pending in self._remembered()}

    def _remembered(self) -> Iterator[PendingPrediction]:
        yield from self._forgotten or ()
        for of_key in self._s.unanswered.values():
            yield from of_key
        for (_, name), answered in self._s.answered.items():
            yield from (pending for pending in answered if pending.told_by[0] == name)

    def state(self) -> LabelJoinState:
        """All that is waited for and remembered; nothing is copied."""
        return self._s

    def restore(self, state: LabelJoinState) -> None:
        """Take over what `state` gave."""
        self._s = state


def _remove(where: dict[Any, list[PendingPrediction]], key: Any, pending: PendingPrediction) -> None:
    of_key = where[key]
    of_key.remove(pending)
    if not of_key:
        del where[key]
