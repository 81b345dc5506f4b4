"""First half of the fold: from records of the log to requests with their features, and to labels joined.

What it finds for the second half, the learner, is listed in the log's order. The learner comes to it after
some hundred records: nothing here depends on what a model says, and each half runs faster alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from driftline.errors import pass_interrupt
from driftline.features.declare.keys import key_text
from driftline.features.errors import FeatureValueError
from driftline.features.quality.expectation import RefusingFeatures
from driftline.features.state.event_time import NEVER
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.online_models.errors import reason_of
from driftline.streams.declare.commands import Authority
from driftline.streams.declare.events import (
    Command,
    Event,
    Reference,
    WarmUp,
    moment,
)
from driftline.streams.declare.partitioning import Home
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold.deduplication import Novelty, SeenEvents, content_of
from driftline.streams.fold.intake_state import Counts, Features, IntakeParts, IntakeState
from driftline.streams.fold.label_join import (
    JoinRule,
    LabelJoin,
    Lesson,
    PendingPrediction,
    ResolvedPrediction,
)
from driftline.streams.fold.label_statement import LabelReader
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.fold.route import Route, routes
from driftline.streams.fold.watermark import Timeliness, Watermark
from driftline.streams.fold.work import Answered, Question, Witness, Work, as_published
from driftline.streams.records.bounds import check_answer, dead_letter
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record

RETAIN_EVERY = 256
"""Records between clean-ups of windows; what is read never depends on it."""


_Decoded = tuple[Record, Event | Refused, int]
"""A record, what it holds or why it is refused, and the hash of what its event says."""


class Intake:
    """Validate, deduplicate, update features, predict, remember, join."""

    def __init__(self, case: UseCase, features: Features, partition: int) -> None:
        task = case.task
        self._task = task
        self._codec = case.codec()
        watermark = Watermark(case.allowed_lateness, case.max_jump, case.clock_skew)
        self._s = IntakeState(watermark, SeenEvents(case.dedup_horizon))
        self._is_live = case.is_live
        self._features = features
        self._home = Home(partition, case.partitions)
        label = task.label
        self._routes = routes(case)
        self._offset = -1
        self._out = Outputs()
        self._work: list[Work] = []
        self._label_field = label.on
        rule = JoinRule.of(label, case.allowed_lateness)
        self._pending = LabelJoin(rule, self._known)
        self._labels = LabelReader(task, rule)
        self._key_field = label.on if case.key is None else case.key
        self._partition_key = attrgetter(self._key_field)
        self._key_fields = tuple((name, attrgetter(name)) for name in case.key_fields)
        self._suffix = f":{task.name}"
        self._is_multiclass = task.kind == "multiclass"
        self._refusals = case.refusals
        self._authority = Authority(case.name, case.operators)
        self._answered: Answered | None = None
        self.witness: Witness | None = None

    def state(self) -> IntakeParts:
        """Everything that later records depend on; nothing is copied."""
        return IntakeParts(self._s, self._features.state(), self._pending.state(), self._authority.state())

    def restore(self, state: IntakeParts) -> None:
        """Go on from what `state` gave."""
        self._s = state.own
        self._features.restore(state.features)
        self._pending.restore(state.pending)
        self._authority.restore(state.authority)

    @property
    def counts(self) -> Counts:
        """What came of the records so far."""
        return self._s.counts

    @property
    def offset(self) -> int:
        """Offset of the record at hand; -1 before the first."""
        return self._offset

    @property
    def last_stranger(self) -> str:
        """What was said of the last record in the wrong partition; empty when there was none."""
        return self._home.last_stranger

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self._s.warming

    @property
    def open_predictions(self) -> int:
        """Predictions without an outcome so far."""
        return self._pending.open

    @property
    def unmatched(self) -> int:
        """Labels, voids and corrections that found no prediction so far."""
        return self._pending.unmatched

    @property
    def max_at(self) -> float | None:
        """Event time so far, in seconds since the epoch; None before the first event."""
        at = self._s.watermark.likely
        return None if at == NEVER else at

    @property
    def ahead(self) -> int:
        """Events so far that were ahead of all that followed, so that they moved no time."""
        return self._s.watermark.contradicted

    @property
    def evicted_keys(self) -> int:
        """Keys of windows that had to go for others so far."""
        return self._features.evicted()

    def known_references(self) -> dict[str, KnownReferences]:
        """What this partition knows of each kind of reference, by the kind's name."""
        watermark = self._s.watermark.value
        return {
            f"{self._routes[kind].tag} (by {field})": KnownReferences.of(tally, watermark)
            for (kind, field), tally in self._features.tallies().items()
        }

    def fold(self, records: Iterable[Record], out: Outputs) -> list[Work]:
        """Fold records in; returns the questions and examples they make known, in order."""
        work: list[Work] = []
        self._work = work
        # decoding all of them first is faster than decoding each in its turn
        for record, event, content in [self._decoded(record) for record in records]:
            self._take(record, event, content, out)
        return work

    def _decoded(self, record: Record) -> _Decoded:
        try:
            event = self._codec.decode(record.value, record.key)
            return record, event, content_of(event)
        except Refused as refused:
            return record, refused, 0
        except BaseException as error:
            pass_interrupt(error)
            return record, Refused("decode", reason_of(error)), 0

    def _take(self, record: Record, event: Event | Refused, content: int, out: Outputs) -> None:
        state = self._s
        self._offset = record.offset
        state.records += 1
        if state.records % RETAIN_EVERY == 0:
            self._put_rows(out)
            self._features.retain(state.watermark.value)
        if state.warming:
            out = Outputs(heard=False)
        self._out = out
        try:
            if isinstance(event, Refused):
                raise event
            self._accept(event, content, record)
        except Refused as refused:
            self._refuse(record, refused, out)
        if self._answered is not None:
            self._adopt(self._answered.predictions.pop(record.offset, None))

    def put_rows(self, out: Outputs) -> None:
        """Put out the online feature rows that changed since the last time; a warm-up holds them back."""
        self._put_rows(out)
        if not self._s.warming and self._s.held_rows:
            out.rows = self._s.held_rows | out.rows
            self._s.held_rows = {}

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The newest online row of every key that has one; none during a warm-up."""
        return iter(()) if self._s.warming else self._features.every_row()

    def _put_rows(self, out: Outputs) -> None:
        self._features.put_rows(self._s.held_rows if self._s.warming else out.rows)

    def inherit(self, forgotten: Iterable[PendingPrediction] = ()) -> None:
        """Until `reconcile`, outcomes are published by other code; see `LabelJoin.inherit`."""
        self._pending.inherit(forgotten)

    @property
    def forgotten(self) -> list[PendingPrediction]:
        """Predictions that are kept for `reconcile` alone."""
        return self._pending.forgotten

    def settle(self, published: Container[str], own: Container[str]) -> None:
        """Other code has published outcomes of these predictions; for `own` see `reconcile`."""
        self._pending.settle(published, own)

    def reconcile(self, published: Mapping[str, int], own: Container[str]) -> list[ResolvedPrediction]:
        """Take over from other code, whose outcomes have these revisions by prediction id; returns what
        is closed here, but was not there. `own` are predictions which that code did not publish."""
        return self._pending.reconcile(published, own)

    def waiting(self) -> set[str]:
        """Ids of the predictions that may still get an outcome or a correction."""
        return self._pending.waiting()

    def _known(self, example: ResolvedPrediction | Lesson) -> None:
        self._work.append((example, self._offset, self._out))

    def _refuse(self, record: Record, refused: Refused, out: Outputs) -> None:
        if out.heard:
            self._s.counts.dead_letters += 1
        else:
            self._s.counts.refused_in_warm_up += 1
        if self.witness is not None:
            self.witness.refused(record.offset, refused, heard=out.heard)
        letters = out.dead_letters
        # one that was accepted may be told of twice
        ordinal = letters[-1].ordinal + 1 if letters and letters[-1].offset == record.offset else 0
        letters.append(dead_letter(record, refused, ordinal))

    def _accept(self, event: Event, content: int, record: Record) -> None:
        """Take an event in, or raise Refused with nothing changed.

        All that may refuse it comes first and changes nothing. What the event says is used there: user
        code, or a value that is not what it should be, may raise whatever it likes. That it enters the
        windows, whole or not at all, is the last of it. What follows cannot refuse, and what it raises is a
        fault of this package.
        """
        if event.__class__ is Command:
            self._command(event)
            return
        state, route = self._s, self._routes[event.__class__]
        if route.keyed and (stranger := self._home.refusal(record.key or b"")) is not None:
            # it would meet none of the other events of its key
            state.counts.misplaced += 1
            raise Refused("partition", stranger)
        watermark = state.watermark
        found = state.seen.find(route.tag, event.id, content, watermark.max_at)
        if found != "new":
            self._repeated(found, event)
            return
        at = event.at.timestamp()
        if route.marks:
            self._check_mark(event)
        appended = record.timestamp / 1000.0 if self._is_live and record.timestamp >= 0 else None
        if route.is_clock and not watermark.is_news(at, appended):
            return
        verdict = self._judge(event, route, at, appended)
        label_key = self._labels.key(event) if route.joins else None
        said = self._labels.said(event, at, label_key, route) if route.labels or route.voids else None
        new_class = said.label if self._is_multiclass and said is not None else None
        if new_class is not None:
            state.classes.check(new_class)
        x: dict[str, Any] | None = None
        keys: dict[str, Any] = {}
        if route.asks:
            x, keys = self._read(event, at), self._keys_of(event)
            check_answer(record, keys, x)
        try:
            self._features.update(event, at)
        except FeatureValueError as error:
            raise self._without(error) from error

        if route.marks:
            state.warming = isinstance(event, WarmUp)
        if route.moves_time:
            self._move_time(route, at, appended)
        self._features.come_to(watermark)
        state.seen.add(route.tag, event.id, content, watermark.max_at, at)
        if route.counted:
            state.counts.events += 1
        if verdict == "ahead":
            self._refuse(record, self._ahead(event), self._out)
        if x is not None:
            if problems := self._features.problems():  # reported, but no reason to refuse the request
                self._refuse(record, Refused("range", "; ".join(problems)), self._out)
            self._ask(event, at, x, keys, label_key)
        if new_class is not None:
            state.classes.add(new_class)
        if said is not None:
            self._pending.answer(said)

    def _judge(self, event: Event, route: Route, at: float, appended: float | None) -> Timeliness:
        """How an event's time stands to the others'; raises Refused where it is late or from the future."""
        watermark = self._s.watermark
        verdict: Timeliness = "on time"
        if route.moves_time:
            if not route.is_clock:
                verdict = watermark.judge(at, event.id, appended)
        elif route.is_reference and watermark.is_far_ahead(at, appended):
            verdict = "future"
        if verdict == "late" or verdict == "future":
            raise self._untimely(verdict, event)
        return verdict

    def _move_time(self, route: Route, at: float, appended: float | None) -> None:
        watermark = self._s.watermark
        if route.is_clock:
            watermark.tell(at, appended)
        else:
            watermark.advance(at, appended)
        if watermark.value > self._pending.due:
            self._pending.expire(watermark.value)

    def _repeated(self, found: Novelty, event: Event) -> None:
        if found == "other content":
            raise Refused(
                "id", f"another {self._routes[type(event)].tag!r} event came with the id {event.id!r} before"
            )
        self._s.counts.duplicates += 1

    def _read(self, event: Event, at: float) -> dict[str, Any]:
        """The features of a request."""
        try:
            x = self._features.read(event, at)
            if self._refusals is not None:
                self._check(self._refusals, x)
        except FeatureValueError as error:
            raise self._without(error) from error
        except Refused:
            raise
        except BaseException as error:  # a key that cannot be looked up, a value that cannot be compared
            pass_interrupt(error)
            raise Refused("features", reason_of(error)) from error
        return x

    def _without(self, error: FeatureValueError) -> Refused:
        cause = error.__cause__
        reason = str(error) if cause is None else f"{error} {reason_of(cause)}"
        return Refused("features", "; ".join([*self._features.problems(), reason]))

    def _check(self, refusals: RefusingFeatures, x: dict[str, Any]) -> None:
        reason = refusals.reason(x)
        if reason is not None:
            raise Refused("schema", "; ".join([*self._features.problems(), reason]))

    def _command(self, command: Command) -> None:
        """A repeated command is refused, not dropped as a duplicate is: its nonce tells, not its id."""
        reason = self._authority.refusal(command)
        if reason is not None:
            raise Refused("command", reason)
        self._work.append((command, self._offset, self._out))

    def _check_mark(self, event: Event) -> None:
        """Whether a warm-up can begin or end here."""
        begins = isinstance(event, WarmUp)
        if begins and self._s.records > 1:
            raise Refused("warm-up", "only the first record of a partition can begin a warm-up")
        if not begins and not self._s.warming:
            raise Refused("warm-up", "no warm-up is under way")

    def _untimely(self, verdict: Timeliness, event: Event) -> Refused:
        at, watermark = event.at.isoformat(), self._s.watermark
        if verdict == "late":
            self._s.counts.late += 1
            return Refused(
                "late", f"at {at} is before the watermark, which is {moment(watermark.value).isoformat()}"
            )
        ahead_of = (
            f"the broker's clock by more than clock_skew ({watermark.skew:g} s)"
            if self._is_live and not isinstance(event, Reference)
            else f"all others by more than max_jump ({watermark.max_jump:g} s)"
        )
        return Refused("time", f"at {at} is from the future: ahead of {ahead_of}")

    def _ahead(self, event: Event) -> Refused:
        now = moment(self._s.watermark.max_at).isoformat()
        return Refused(
            "ahead",
            f"accepted, but at {event.at.isoformat()} is ahead of the others, which are at {now}: it "
            "moves no time until they agree",
        )

    def _ask(self, event: Event, at: float, x: dict[str, Any], keys: dict[str, Any], label_key: Any) -> None:
        prediction_id = event.id + self._suffix
        silent = not self._out.heard
        published = None
        if (answered := self._answered) is not None:
            published = answered.predictions.pop(self._offset, None)
            if published is not None:
                prediction_id = published.id
            elif self._offset <= answered.through:
                silent = True
        deadline = at + self._pending.rule.wait
        key = key_text(self._partition_key(event))
        pending = PendingPrediction(
            prediction_id, event.id, at, key, label_key, keys, x, deadline, silent=silent
        )
        self._work.append((Question(pending, event.at, published), self._offset, self._out))
        self._wait(pending)

    def _keys_of(self, event: Event) -> dict[str, Any]:
        return {name: get(event) for name, get in self._key_fields}

    def _wait(self, pending: PendingPrediction) -> None:
        state = self._s
        state.counts.predictions += not pending.silent
        self._pending.add(pending)

    def _adopt(self, published: Prediction | None) -> None:
        """Other code has answered a request that is refused here: its outcome is owed all the same."""
        if published is None:
            return
        at = published.at.timestamp()
        keys = published.keys
        pending = PendingPrediction(
            published.id,
            published.event_id,
            at,
            key_text(keys.get(self._key_field, "")),  # that code may have had another key
            keys.get(self._label_field),
            keys,
            None,
            at + self._pending.rule.wait,
            as_published(self._task, published, ()),
            published.prediction,
        )
        self._wait(pending)

    def keep(self, answered: Answered | None) -> None:
        """What other code has answered to the records that follow."""
        self._answered = answered
