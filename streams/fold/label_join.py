"""Predictions that wait for their label, and the join with it.

The effect of a label or a void depends on event times alone. It takes effect when the watermark has passed
it, so that no earlier event can follow: effects are in the order of event time, however requests, labels and
voids were interleaved in the log. At equal times, a label comes before a void and a void before a correction;
statements of one kind and time count in the log's order. Without lateness the log is in order, and a label
takes effect at once, on the requests before it.

A label answers open requests (`JoinRule.answers` says which of several); if none is open, those that expired
without one. An answered request changes only by a correction, which names the label it corrects. Packed
predictions (`driftline.streams.waiting`) are unpacked before anything is decided about their label key.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from driftline.features.state.segment_store import SegmentStore
from driftline.object_size import StateSize, added_sizes
from driftline.online_models.tasks.task import UNLABELLED, Answers, Label
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction, PredictionStatus, in_order_of_time
from driftline.streams.waiting.queue import NEVER_DUE, WaitingQueue, packed_bytes
from driftline.streams.waiting.queue_state import QueueState, StoredQueue


class ResolvedPrediction(msgspec.Struct, frozen=True, gc=False):
    """The result of one prediction, for the learner, which handles it later: the prediction may have been
    closed again by then. A label is None unless the status is labelled; `status_before` and `label_before`
    are those that this one replaces. `is_due`: it is learned from now, not at the deadline.
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
    """What the models learn from a prediction at its deadline; the outcome has `labelled_at`."""

    pending: PendingPrediction
    label: Any
    labelled_at: float


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What the event `event_id` states about the requests with its label key: their label, or that there will
    be none (void). If it `corrects` another event, it is about the requests which that one answered."""

    label_key: Any
    status: PredictionStatus
    label: Any
    at: float
    event_id: str
    corrects: str | None = None


def _in_time(statement: Statement) -> tuple[float, int]:
    """The order of effects: by time; at equal times, labels before voids before corrections."""
    if statement.corrects is not None:
        return statement.at, 2
    return statement.at, int(statement.status == "void")


Known = Callable[[ResolvedPrediction | Lesson], None]
"""Takes an example or a lesson as soon as it is known."""


@dataclass(frozen=True, slots=True)
class JoinRule:
    """How labels meet requests; `wait` and `corrections` are seconds.

    With `in_order` all events come in the order of their time, so a label takes effect at once. After
    deadline + corrections a prediction is forgotten. `expiry` is the outcome at the deadline: (status,
    label). With `by_deadline`, labelled predictions are learned from at their deadline.
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
        """The rule of a declared label."""
        expiry: tuple[PredictionStatus, Any] = (
            ("unlabelled", None) if label.at_expiry is UNLABELLED else ("labelled", label.at_expiry)
        )
        corrections = label.wait if label.corrections is None else label.corrections
        return cls(
            label.wait, corrections, in_order, expiry, label.answers, label.learns_at == "deadline",
            corrections > 0 and label.is_corrected,
        )  # fmt: skip


class LabelJoinState(NamedTuple):
    """All that later labels depend on.

    `waiting` are predictions before their deadline, `closing` those past it; `added` is how many there were
    so far.
    """

    waiting: QueueState | StoredQueue
    closing: QueueState | StoredQueue
    statements: deque[Statement]
    added: int
    open: int
    unmatched: int


@dataclass(slots=True)
class LabelTally:
    """How many labels, voids and corrections found a prediction, and how many found none."""

    matched: int = 0
    unmatched: int = 0

    def __add__(self, other: LabelTally) -> LabelTally:
        return LabelTally(self.matched + other.matched, self.unmatched + other.unmatched)


_ByLabelKey = dict[Any, list[PendingPrediction]]


class LabelJoin:
    """Open and recently closed predictions of one partition, by label key.

    `open` counts published predictions without an outcome so far; `unmatched` counts labels, voids and
    corrections so far that matched no prediction; `due` is when, in event time, `expire` next has something
    to do. Of the predictions that are not packed, `_unanswered` are open, or expired without a label, by
    their time. `_answered` are those that a correction may still change, by the label's key and id.
    """

    def __init__(self, rule: JoinRule, packing: Packing, store: SegmentStore) -> None:
        self.rule = rule
        self.open = 0
        self.unmatched = 0
        self.due = NEVER_DUE
        self.tally = LabelTally()
        """Since this object was made: no output depends on it, so it is not part of the state."""
        self._waiting = WaitingQueue(packing, store, self._remember)
        self._closing = WaitingQueue(packing, store, self._remember)
        self._unanswered: _ByLabelKey = {}
        self._answered: _ByLabelKey = {}
        self._statements: deque[Statement] = deque()
        self._added = 0
        self._forgotten: list[PendingPrediction] | None = None

    def __len__(self) -> int:
        """How many predictions are remembered."""
        return sum(1 for _ in self._remembered())

    def add(self, pending: PendingPrediction) -> None:
        """Wait for the label of a new prediction."""
        pending.number = self._added
        self._added += 1
        of_key = self._unanswered.get(pending.label_key)
        if of_key is None:
            self._unanswered[pending.label_key] = [pending]
        else:
            insort_right(of_key, pending, key=in_order_of_time)
        self._waiting.add(pending)
        self.open += not pending.silent
        if pending.deadline < self.due:
            self.due = pending.deadline

    def answer(self, statement: Statement, known: Known) -> None:
        """Take a label, a void or a correction: it takes effect when the watermark has passed it."""
        if self.rule.in_order:
            self._apply(statement, known)
            return
        hash(statement.label_key)  # raises at the record that brings it, not later where it takes effect
        statements = self._statements
        if statements and _in_time(statements[-1]) > _in_time(statement):
            insort_right(statements, statement, key=_in_time)
        else:
            statements.append(statement)
        if statement.at < self.due:
            self.due = statement.at

    def expire(self, watermark: float, known: Known) -> None:
        """Apply the statements before the watermark, close predictions past their deadline, and forget those
        that can no longer change."""
        statements = self._statements
        while statements and statements[0].at < watermark:
            statement = statements.popleft()
            self._pass(statement.at, known)
            self._apply(statement, known)
        self._pass(watermark, known)
        self.due = self._next_due()

    def _next_due(self) -> float:
        due = min(self._waiting.due, self._closing.due + self.rule.corrections)
        return min(due, self._statements[0].at) if self._statements else due

    def _pass(self, time: float, known: Known) -> None:
        """Deadlines before this time are over."""
        while (pending := self._waiting.take_due(time)) is not None:
            if pending.status == "open":
                self._close(pending, *self.rule.expiry, pending.deadline, True, known)
            elif self.rule.by_deadline and pending.status == "labelled":
                known(Lesson(pending, pending.label, pending.closed_at))
            if not pending.answered_by or self.rule.is_corrected:
                self._closing.add(pending)
        if self._forgotten is None:  # else they are asked for
            self._closing.pass_by(time, self.rule.corrections)
        while (pending := self._closing.take_due(time, self.rule.corrections)) is not None:
            self._forget(pending)

    def _apply(self, statement: Statement, known: Known) -> None:
        self._waiting.unpack(statement.label_key)
        self._closing.unpack(statement.label_key)
        if statement.corrects is None:
            found = self._meant(statement, known)
            for pending in found:
                _remove(self._unanswered, pending.label_key, pending)
        else:
            found = self._corrected(statement)
        if found:
            self.tally.matched += 1
        else:
            self.unmatched += 1
            self.tally.unmatched += 1
        for pending in found:
            self._answer(pending, statement, known)

    def _answer(self, pending: PendingPrediction, statement: Statement, known: Known) -> None:
        """Answer this prediction, or correct it."""
        rule, name = self.rule, statement.event_id
        if name not in pending.answered_by:
            pending.answered_by += (name,)
            if rule.is_corrected:
                self._add_answered(pending, name)
        if pending.status != statement.status or pending.label != statement.label:
            is_due = not rule.by_deadline or statement.at > pending.deadline
            self._close(pending, statement.status, statement.label, statement.at, is_due, known)
        if not rule.is_corrected:
            self._drop(pending)

    def _meant(self, statement: Statement, known: Known) -> list[PendingPrediction]:
        """The requests that a label or a void answers."""
        at = statement.at
        asked = self._unanswered.get(statement.label_key, ())
        found = []
        for pending in asked:
            if pending.at > at or pending.status != "open":
                continue
            if pending.deadline < at:  # the watermark may be behind the event
                self._close(pending, *self.rule.expiry, pending.deadline, True, known)
            else:
                found.append(pending)
        if not found and statement.status == "labelled":
            corrections = self.rule.corrections
            found = [p for p in asked if corrections > 0 and p.at <= at <= p.deadline + corrections]
        if self.rule.answers == "oldest":
            return found[:1]
        return found[-1:] if self.rule.answers == "newest" else found

    def _corrected(self, statement: Statement) -> list[PendingPrediction]:
        """The requests that the corrected statement has answered."""
        assert statement.corrects is not None
        found = self._answered.get((statement.label_key, statement.corrects), ())
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
            self.open -= not pending.silent
        pending.revision += 1
        example = ResolvedPrediction(
            pending, status, label, at, pending.revision, pending.status, pending.label, is_due
        )
        pending.status = status
        pending.label = label
        pending.closed_at = at
        known(example)

    def _forget(self, pending: PendingPrediction) -> None:
        if self._is_remembered(pending):  # else nothing of it was kept after it was answered
            self._remove(pending)
            self._drop(pending)

    def _drop(self, pending: PendingPrediction) -> None:
        """It cannot change any more."""
        if self._forgotten is not None:
            self._forgotten.append(pending)

    def inherit(self, forgotten: Iterable[PendingPrediction] = ()) -> None:
        """Until `reconcile`, outcomes are published by other code: keep predictions that are forgotten before
        that. `forgotten` are those kept so far, if the state was restored meanwhile.
        """
        self._forgotten = list(forgotten)

    @property
    def forgotten(self) -> list[PendingPrediction]:
        """The predictions kept until `reconcile`; not part of `state`."""
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
        """Continue from the revisions that were published; returns predictions that are closed here, but were
        not there. An outcome published for one of the `own` predictions belongs to an answer that was never
        published.
        """
        lacking: list[ResolvedPrediction] = []

        def revise(pending: PendingPrediction) -> None:
            revision = published.get(pending.prediction_id, -1)
            is_published = revision >= 0 and pending.prediction_id not in own
            if not is_published and pending.status != "open" and not pending.silent:
                revision += 1
                lacking.append(
                    ResolvedPrediction(pending, pending.status, pending.label, pending.closed_at, revision)
                )
            pending.revision = revision

        for pending in chain(self._forgotten or (), self._objects()):
            revise(pending)
        for queue in (self._waiting, self._closing):
            queue.revise_packed(lambda pending: revise(pending) if self._is_remembered(pending) else None)
        self._forgotten = None
        return sorted(lacking, key=lambda example: example.pending.number)

    def waiting(self) -> set[str]:
        """Ids of the predictions that may still get an outcome or a correction."""
        return {pending.prediction_id for pending in self._remembered()}

    def _remembered(self) -> Iterator[PendingPrediction]:
        yield from self._forgotten or ()
        yield from self._objects()
        for queue in (self._waiting, self._closing):
            yield from (pending for pending in queue.packed() if self._is_remembered(pending))

    def _objects(self) -> Iterator[PendingPrediction]:
        """The predictions that are remembered and not packed."""
        for of_key in self._unanswered.values():
            yield from of_key
        for (_, name), answered in self._answered.items():
            yield from (pending for pending in answered if pending.answered_by[0] == name)

    def _is_remembered(self, pending: PendingPrediction) -> bool:
        """Whether a label or a correction may still change a waiting prediction; else it waits only to be
        learned from."""
        return not pending.answered_by or self.rule.is_corrected

    def _is_over(self, pending: PendingPrediction) -> bool:
        """Whether nothing happens to a prediction at its deadline any more."""
        awaits_lesson = self.rule.by_deadline and pending.status == "labelled"
        return not self._is_remembered(pending) and not awaits_lesson

    def _remember(self, pending: PendingPrediction) -> None:
        """It is an object again."""
        if not pending.answered_by:
            of_key = self._unanswered.setdefault(pending.label_key, [])
            insort_right(of_key, pending, key=in_order_of_time)
        elif self.rule.is_corrected:
            for name in pending.answered_by:
                self._add_answered(pending, name)

    def _add_answered(self, pending: PendingPrediction, name: str) -> None:
        answered = self._answered.setdefault((pending.label_key, name), [])
        insort_right(answered, pending, key=in_order_of_time)

    def _remove(self, pending: PendingPrediction) -> None:
        """No label key leads to this object any more."""
        if not pending.answered_by:
            _remove(self._unanswered, pending.label_key, pending)
        elif self.rule.is_corrected:
            for name in pending.answered_by:
                _remove(self._answered, (pending.label_key, name), pending)

    def pack(self) -> None:
        """Pack the older ones if there are many; called when the learner has handled all that is known."""
        for pending in self._waiting.pack(self._is_over):
            self._remove(pending)
        for pending in self._closing.pack(lambda pending: not self._is_remembered(pending)):
            self._remove(pending)

    def sizes(self) -> dict[str, StateSize]:
        """How many predictions wait or are remembered, packed or not, and what each takes of memory."""
        queues = self._waiting, self._closing
        return {
            "predictions that wait": added_sizes(queue.size for queue in queues),
            "predictions that wait, packed": added_sizes(queue.packed_size for queue in queues),
        }

    def packed_sizes(self) -> dict[str, float]:
        """The bytes of a prediction in a file, by the names in `sizes`."""
        return dict.fromkeys(self.sizes(), packed_bytes((self._waiting, self._closing)))

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self._waiting.segments() + self._closing.segments()

    def state(self) -> LabelJoinState:
        """All that waits or is remembered; nothing is copied."""
        return LabelJoinState(
            self._waiting.state(self._is_over),
            self._closing.state(lambda pending: not self._is_remembered(pending)),
            self._statements,
            self._added,
            self.open,
            self.unmatched,
        )

    def restore(self, state: LabelJoinState) -> None:
        """Continue from what `state` returned, and from nothing else."""
        self._unanswered, self._answered = {}, {}
        self._waiting.restore(state.waiting)
        self._closing.restore(state.closing)
        self._statements, self._added = state.statements, state.added
        self.open, self.unmatched = state.open, state.unmatched
        self.due = self._next_due()


def _remove(where: dict[Any, list[PendingPrediction]], key: Any, pending: PendingPrediction) -> None:
    of_key = where[key]
    of_key.remove(pending)
    if not of_key:
        del where[key]
