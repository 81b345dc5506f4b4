"""Predictions that wait for their label, and the join with it.

A label answers every request with its key whose own time is not after the label's. A label whose
time lies after the request's deadline counts as late whatever the watermark says, so the result
does not depend on how records of different types were interleaved.

Thousands of predictions wait at a time and none is part of a cycle: they are structs that the
garbage collector does not walk through (`gc=False`).
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import msgspec

from online_models.pool import Forecast

Status = Literal["open", "labelled", "unlabelled", "void"]
NOTHING = float("inf")


class Pending(msgspec.Struct, eq=False, gc=False):
    """One prediction until its label can no longer change.

    `forecast` and `prediction` are the learner's answer, once it has come to the request. `closed_at` is
    the event time of what closed it last; a `silent` one was never published, so nobody hears of its
    outcome. Without features `x` it is other code's, on a request that was refused here: there is nothing
    to learn from it.
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
    status: Status = "open"
    label: Any = None
    learned: bool = False
    revision: int = -1
    closed_at: float = 0.0
    silent: bool = False


_deadline = attrgetter("deadline")


class Example(msgspec.Struct, frozen=True, gc=False):
    """What became of one prediction, for the learner, who comes to it later: the prediction may have been
    closed anew by then. A label is None unless the status is labelled; `status_before` and `label_before`
    are those that this one replaces.
    """

    pending: Pending
    status: Status
    label: Any
    at: float
    revision: int
    status_before: Status = "open"
    label_before: Any = None


class _Early(NamedTuple):
    at: float
    status: Status
    label: Any


@dataclass(slots=True)
class PendingState:
    """All that is waited for and remembered: by label key; by deadline; past it, but to be corrected still;
    labels that came before their request, and these in order."""

    by_label: dict[Any, list[Pending]] = field(default_factory=dict)
    waiting: deque[Pending] = field(default_factory=deque)
    closing: deque[Pending] = field(default_factory=deque)
    early: dict[Any, _Early] = field(default_factory=dict)
    early_order: deque[tuple[float, Any]] = field(default_factory=deque)
    open: int = 0


class PendingPredictions:
    """Open and recently closed predictions of one partition, by label key.

    `wait`, `corrections` and `lateness` are seconds; after deadline + corrections a prediction is
    forgotten. `expiry` is what the outcome is at the deadline: (status, label). Every example goes
    to `known` the moment it is known.
    """

    def __init__(
        self,
        wait: float,
        corrections: float,
        lateness: float,
        expiry: tuple[Status, Any],
        known: Callable[[Example], None],
    ) -> None:
        self._known = known
        self.wait = wait
        self._corrections = corrections
        self._lateness = lateness
        self._expiry = expiry
        self._forgotten: list[Pending] | None = None
        self._s = PendingState()

    @property
    def open(self) -> int:
        """Predictions without an outcome so far."""
        return self._s.open

    def add(self, pending: Pending) -> None:
        """Wait for the label of a new prediction; it is known at once when it came before the request."""
        waiting = self._s.waiting
        if not waiting or waiting[-1].deadline <= pending.deadline:
            waiting.append(pending)
        else:  # a late request
            insort_right(waiting, pending, key=_deadline)
        self._s.by_label.setdefault(pending.label_key, []).append(pending)
        self._s.open += not pending.silent
        early = self._s.early.get(pending.label_key) if self._s.early else None
        if early is not None and early.at >= pending.at:
            self._answer(pending, early.status, early.label, early.at)

    def answer(self, label_key: Any, status: Status, label: Any, at: float) -> None:
        """Apply a label (or a void) to every request of its key that it can answer."""
        for pending in self._s.by_label.get(label_key, ()):
            if pending.at <= at:
                self._answer(pending, status, label, at)
        if self._lateness > 0:
            known = self._s.early.get(label_key)
            if known is None or at >= known.at:
                self._s.early[label_key] = _Early(at, status, label)
                self._s.early_order.append((at, label_key))

    def _answer(self, pending: Pending, status: Status, label: Any, at: float) -> None:
        if pending.status == "open":
            self._s.open -= not pending.silent
            if at > pending.deadline:
                self._close(pending, *self._expiry, pending.deadline)
            else:
                self._close(pending, status, label, at)
                return
        if status == "labelled" and (pending.status != "labelled" or pending.label != label):
            self._close(pending, status, label, at)

    def _close(self, pending: Pending, status: Status, label: Any, at: float) -> None:
        pending.revision += 1
        example = Example(pending, status, label, at, pending.revision, pending.status, pending.label)
        pending.status = status
        pending.label = label
        pending.closed_at = at
        self._known(example)

    def expire(self, watermark: float) -> None:
        """Close what has waited past its deadline, and forget what can no longer be corrected."""
        waiting, closing = self._s.waiting, self._s.closing
        while waiting and waiting[0].deadline < watermark:
            pending = waiting.popleft()
            if pending.status == "open":
                self._s.open -= not pending.silent
                self._close(pending, *self._expiry, pending.deadline)
            closing.append(pending)
        while closing and closing[0].deadline + self._corrections < watermark:
            self._forget(closing.popleft())
        early = self._s.early_order
        while early and early[0][0] < watermark:
            at, label_key = early.popleft()
            known = self._s.early.get(label_key)
            if known is not None and known.at <= at:
                del self._s.early[label_key]

    def _forget(self, pending: Pending) -> None:
        of_label = self._s.by_label[pending.label_key]
        of_label.remove(pending)
        if not of_label:
            del self._s.by_label[pending.label_key]
        if self._forgotten is not None:
            self._forgotten.append(pending)

    def inherit(self, forgotten: Iterable[Pending] = ()) -> None:
        """Until `reconcile`, outcomes are published by other code: keep what is forgotten before it was.

        `forgotten` is what was kept so far, where the state was restored meanwhile.
        """
        self._forgotten = list(forgotten)

    @property
    def forgotten(self) -> list[Pending]:
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

    def reconcile(self, published: Mapping[str, int], own: Container[str]) -> list[Example]:
        """Go on from the revisions that were published; returns what is closed here, but was not there.

        An outcome published for one of the `own` predictions is of an answer that never was.
        """
        lacking = []
        for pending in self._remembered():
            revision = published.get(pending.prediction_id, -1)
            is_told = revision >= 0 and pending.prediction_id not in own
            if not is_told and pending.status != "open" and not pending.silent:
                revision += 1
                lacking.append(Example(pending, pending.status, pending.label, pending.closed_at, revision))
            pending.revision = revision
        self._forgotten = None
        return lacking

    def waiting(self) -> set[str]:
        """Ids of the predictions that may still get an outcome or a correction."""
        return {pending.prediction_id for pending in self._remembered()}

    def _remembered(self) -> Iterator[Pending]:
        yield from self._forgotten or ()
        for waiting in self._s.by_label.values():
            yield from waiting

    def state(self) -> PendingState:
        """All that is waited for and remembered; nothing is copied."""
        return self._s

    def restore(self, state: PendingState) -> None:
        """Take over what `state` gave."""
        self._s = state

    def next_deadline(self) -> float:
        """When, in event time, `expire` next has something to do."""
        next_one = self._s.waiting[0].deadline if self._s.waiting else NOTHING
        if self._s.closing:
            next_one = min(next_one, self._s.closing[0].deadline + self._corrections)
        if self._s.early_order:
            next_one = min(next_one, self._s.early_order[0][0])
        return next_one
