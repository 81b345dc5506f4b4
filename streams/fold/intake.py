"""First half of the fold: from records of the log to requests with their features, and to labels joined.

Its results for the second half, the learner, are listed in the log's order. The learner handles them after
some hundred records: nothing here depends on a model's answer, and each half runs faster alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from driftline.errors import pass_interrupt
from driftline.features.errors import FeatureValueError
from driftline.features.quality.feature_schema import RefusingFeatures
from driftline.features.state.event_time import NEVER
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.online_models.errors import reason_of
from driftline.streams.declare.commands import Authority
from driftline.streams.declare.events import Command, Event, WarmUp
from driftline.streams.declare.partitioning import Home
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold import refusal_reasons
from driftline.streams.fold.deduplication import Novelty, SeenEvents, hashed
from driftline.streams.fold.intake_state import Counts, Features, IntakeParts, IntakeState
from driftline.streams.fold.label_join import JoinRule, LabelJoin, Statement
from driftline.streams.fold.label_statement import LabelReader
from driftline.streams.fold.learner_input import (
    Answered,
    Question,
    RequestReader,
    Turn,
    Witness,
    Work,
)
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.fold.route import Route, routes
from driftline.streams.fold.watermark import Timeliness, Watermark
from driftline.streams.records.dead_letter import dead_letter
from driftline.streams.records.messages import Prediction
from driftline.streams.records.output_size import AnswerRoom
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.waiting.packing import Packing

RETAIN_EVERY = 256
"""Records between clean-ups of windows and ids; nothing that is put out depends on it."""
IDS = "ids of events that would be repeats"


_Decoded = tuple[Record, Event | Refused, int]
"""A record, its event or the reason why it is refused, and the hash of the event's content."""


class Intake:
    """Validate, deduplicate, update features, remember requests, join labels. `label_join` holds the
    predictions that wait for their label, also for a take-over from other code; it stays empty if requests
    and labels meet in another stage, where `joins` is False. What is packed is kept in the `store`. `offset`
    is that of the current record, -1 before the first.
    """

    def __init__(
        self,
        case: UseCase,
        features: Features,
        partition: int,
        store: SegmentStore = IN_MEMORY,
        *,
        joins: bool = True,
    ) -> None:
        task = case.task
        self._task = task
        self._codec = case.codec()
        watermark = Watermark(case.allowed_lateness, case.max_jump, case.clock_skew)
        self._s = IntakeState(watermark)
        self._seen = SeenEvents(case.dedup_horizon, store)
        self._store = store
        self._is_live = case.is_live
        self._features = features
        self._home = Home(partition, case.partitions)
        self._routes = routes(case)
        rule = JoinRule.of(task.label, case.allowed_lateness <= 0)
        self.label_join = LabelJoin(rule, Packing(case.key_fields, features.names()), store)
        self._joins = joins
        self._labels = LabelReader(task, rule)
        self._requests = RequestReader(case, rule)
        self._room = AnswerRoom(case.features)
        self._is_multiclass = task.kind == "multiclass"
        self._refusals = case.refusals
        self._authority = Authority(case.name, case.operators, case.addressee)
        self.accepted: defaultdict[str, int] = defaultdict(int)
        """Events of each type since this object was made: no output depends on it, so it is not part of the
        state."""
        self.witness: Witness | None = None
        self.offset = -1

    def state(self) -> IntakeParts:
        """Everything that later records depend on; nothing is copied."""
        return IntakeParts(
            self._s, self._seen, self._features.state(), self.label_join.state(), self._authority.state()
        )

    def restore(self, state: IntakeParts) -> None:
        """Continue from what `state` returned."""
        self._s = state.own
        self._seen = SeenEvents.again(state.seen, self._store)
        self._features.restore(state.features)
        self.label_join.restore(state.pending)
        self._authority.restore(state.authority)

    @property
    def counts(self) -> Counts:
        """How many of the records so far were accepted, refused and so on."""
        return self._s.counts

    @property
    def last_stranger(self) -> str:
        """The reason given for the last record in the wrong partition; empty if there was none."""
        return self._home.last_stranger

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self._s.warming

    @property
    def max_at(self) -> float | None:
        """Event time so far, in seconds since the epoch; None before the first event."""
        at = self._s.watermark.likely
        return None if at == NEVER else at

    @property
    def watermark(self) -> float:
        """Events before it are refused as late; in seconds since the epoch."""
        return self._s.watermark.value

    @property
    def ahead(self) -> int:
        """Events so far that were ahead of all later ones, and so did not move the watermark."""
        return self._s.watermark.contradicted

    @property
    def evicted_keys(self) -> int:
        """Keys of windows dropped so far to make room for others."""
        return self._features.evicted()

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys the features' windows hold, by event and what they are by."""
        return self._features.keys_held()

    def sizes(self) -> dict[str, StateSize]:
        """How many windows, predictions and ids of events there are, and what each takes of memory."""
        ids = {IDS: self._seen.size}
        if (packed := self._seen.packed_size).held:
            ids[f"{IDS}, packed"] = packed
        return self._features.sizes() | self.label_join.sizes() | ids

    def packed_sizes(self) -> dict[str, float]:
        """The bytes of a window, a prediction or an id in a file, by the names in `sizes`."""
        ids = {IDS: self._seen.packed_bytes()}
        return self._features.packed_sizes() | self.label_join.packed_sizes() | ids

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return self._features.paged

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self._features.segments() + self.label_join.segments() + self._seen.segments()

    def known_references(self) -> dict[str, KnownReferences]:
        """What this partition knows of each kind of reference, by the kind's name."""
        watermark = self._s.watermark.value
        return {
            f"{self._routes[kind].tag} (by {field})": KnownReferences.of(tally, watermark)
            for (kind, field), tally in self._features.tallies().items()
        }

    def fold(
        self,
        records: Iterable[Record],
        out: Outputs,
        answered: Answered | None = None,
        after: Callable[[Record, Turn], None] | None = None,
    ) -> list[Work]:
        """Fold records; returns the questions and examples for the learner, in order. `answered` is what
        other code has answered to them; `after` is called after each record."""
        state, silent = self._s, Outputs(published=False)
        turn = Turn(out, answered)
        # decoding all of them first is faster than decoding each in turn
        for record, event, content in [self._decoded(record) for record in records]:
            self.offset = turn.offset = record.offset
            state.records += 1
            if state.records % RETAIN_EVERY == 0:
                self._put_rows(out)
                self._features.retain(state.watermark.value)
                self._seen.retain(state.watermark.max_at)
            turn.out = silent if state.warming else out
            try:
                if isinstance(event, Refused):
                    raise event
                self._accept(record, event, content, turn)
            except Refused as refused:
                self._refuse(record, refused, turn.out)
            if answered is not None:
                self._adopt(answered.predictions.pop(record.offset, None))
            if after is not None:
                after(record, turn)
        return turn.work

    def _decoded(self, record: Record) -> _Decoded:
        try:
            event, written = self._codec.read(record.value, record.key)
            return record, event, hashed(written)
        except Refused as refused:
            return record, refused, 0
        except BaseException as error:
            pass_interrupt(error)
            return record, Refused("decode", reason_of(error)), 0

    def forget(self, request_ids: Collection[str]) -> None:
        """The requests with these ids, which were refused later, are new when they come again."""
        self._seen.forget(self._routes[self._task.ask].tag, request_ids)

    def put_rows(self, out: Outputs) -> None:
        """Put out the online feature rows that changed since the last time; a warm-up holds them back."""
        self._put_rows(out)
        if not self._s.warming and self._s.held_rows:
            out.rows = self._s.held_rows | out.rows
            self._s.held_rows = {}

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key that has one, as of the watermark; none during a warm-up."""
        return iter(()) if self._s.warming else self._features.every_row(self.watermark)

    def _put_rows(self, out: Outputs) -> None:
        self._features.put_rows(self._s.held_rows if self._s.warming else out.rows)

    def _refuse(self, record: Record, refused: Refused, out: Outputs) -> None:
        if out.published:
            self._s.counts.dead_letters += 1
        else:
            self._s.counts.refused_in_warm_up += 1
        if self.witness is not None:
            self.witness.refused(record.offset, refused, published=out.published)
        letters = out.dead_letters
        # a record that was accepted may have several reports
        ordinal = letters[-1].ordinal + 1 if letters and letters[-1].offset == record.offset else 0
        letters.append(dead_letter(record, refused, ordinal))

    def _accept(self, record: Record, event: Event, content: int, turn: Turn) -> None:
        """Accept an event, or raise Refused with nothing changed. Everything that may refuse it, user code
        and odd values included, comes first and changes nothing; the last such step is the windows, all or
        none. The steps after that cannot refuse: an exception there is an error of this package.
        """
        if event.__class__ is Command:
            return self._command(event, turn)
        state, features, route = self._s, self._features, self._routes[event.__class__]
        watermark, at = state.watermark, event.at.timestamp()
        if route.keyed and record.key not in self._home.known:
            self._check_home(record)
        novelty = self._seen.find(route.tag, event.id, content, watermark.max_at)
        if novelty != "new":
            return self._repeated(event, route, novelty)
        if route.marks:
            self._check_mark(event)
        appended = record.timestamp / 1000.0 if self._is_live and record.timestamp >= 0 else None
        if route.is_clock and not watermark.is_news(at, appended):
            return
        verdict = self._judge(event, route, at, appended)
        label_key: Any = None
        said: Statement | None = None
        x: dict[str, Any] | None = None
        if route.joins:
            label_key = self._labels.key(event)
            if route.labels or route.voids:
                said = self._said(event, at, label_key, route)
        if route.asks:
            x = self._read(event, at, turn)
            keys = self._requests.keys(event)
            self._room.check(record, keys, x)
        try:
            features.update(event, at)
        except FeatureValueError as error:
            raise refusal_reasons.without_features(error, features.problems()) from error
        self._move_time(event, route, at, appended, turn)
        features.come_to(watermark)
        self._seen.add(route.tag, event.id, content, watermark.max_at, at)
        if route.counted:
            state.counts.events += 1
            self.accepted[route.tag] += 1
        if verdict == "ahead":
            self._refuse(record, refusal_reasons.ahead(event, watermark), turn.out)
        if x is not None:
            if problems := features.problems():  # reported, but the request is not refused
                self._refuse(record, Refused("range", "; ".join(problems)), turn.out)
            self._ask(event, at, x, keys, label_key, turn)
        if said is not None:
            self._answer(said, turn)

    def _repeated(self, event: Event, route: Route, novelty: Novelty) -> None:
        """A repeat is dropped; raises Refused if another event has its id."""
        if novelty == "other content":
            raise Refused("id", f"another {route.tag!r} event came with the id {event.id!r} before")
        self._s.counts.duplicates += 1

    def _check_home(self, record: Record) -> None:
        """Raises Refused if the record is not in the partition of its key."""
        if (stranger := self._home.refusal(record.key or b"")) is not None:
            self._s.counts.misplaced += 1
            raise Refused("partition", stranger)

    def _judge(self, event: Event, route: Route, at: float, appended: float | None) -> Timeliness:
        """How an event's time compares with the others'; raises Refused if it is late or from the future."""
        watermark = self._s.watermark
        verdict: Timeliness = "on time"
        if route.is_event:
            verdict = watermark.judge(at, event.id, appended)
        elif route.is_reference and watermark.is_far_ahead(at, appended):
            verdict = "future"
        if verdict == "late":
            self._s.counts.late += 1
            raise refusal_reasons.late(event, watermark)
        if verdict == "future":
            raise refusal_reasons.of_the_future(event, watermark, self._is_live)
        return verdict

    def _move_time(self, event: Event, route: Route, at: float, appended: float | None, turn: Turn) -> None:
        watermark, join = self._s.watermark, self.label_join
        if route.is_event:
            watermark.advance(at, appended)
        elif route.is_clock:
            watermark.take_clock(at, appended)
        else:
            if route.marks:
                self._s.warming = isinstance(event, WarmUp)
            return
        if watermark.value > join.due:
            join.expire(watermark.value, turn.known)

    def _said(self, event: Event, at: float, label_key: Any, route: Route) -> Statement | None:
        """The statement of a label or void event."""
        said = self._labels.said(event, at, label_key, route)
        if self._is_multiclass and said is not None and said.label is not None:
            self._s.classes.check(said.label)
        return said

    def _answer(self, said: Statement, turn: Turn) -> None:
        if self._is_multiclass and said.label is not None:
            self._s.classes.add(said.label)
        if self._joins:
            self.label_join.answer(said, turn.known)

    def _read(self, event: Event, at: float, turn: Turn) -> dict[str, Any]:
        """The features of a request. Raises Refused, also if other code has refused it before."""
        try:
            x = self._features.read(event, at)
            if self._refusals is not None:
                self._check(self._refusals, x)
        except FeatureValueError as error:
            raise refusal_reasons.without_features(error, self._features.problems()) from error
        except Refused:
            raise
        except (
            BaseException
        ) as error:  # such as a key that cannot be hashed, or a value that cannot be compared
            pass_interrupt(error)
            raise Refused("features", reason_of(error)) from error
        if turn.answered is not None and turn.out.published and turn.answered.has_refused(turn.offset):
            raise refusal_reasons.refused_before()
        return x

    def _check(self, refusals: RefusingFeatures, x: dict[str, Any]) -> None:
        reason = refusals.reason(x)
        if reason is not None:
            raise Refused("schema", "; ".join([*self._features.problems(), reason]))

    def _command(self, command: Command, turn: Turn) -> None:
        """A repeated command is refused, not dropped as a duplicate: it is recognised by its nonce, not its
        id."""
        if not self._authority.is_meant(command):
            return
        reason = self._authority.refusal(command)
        if reason is not None:
            raise Refused("command", reason)
        turn.known(command)

    def _check_mark(self, event: Event) -> None:
        """Whether a warm-up can begin or end here."""
        begins = isinstance(event, WarmUp)
        if begins and self._s.records > 1:
            raise Refused("warm-up", "only the first record of a partition can begin a warm-up")
        if not begins and not self._s.warming:
            raise Refused("warm-up", "no warm-up is under way")

    def _ask(
        self, event: Event, at: float, x: dict[str, Any], keys: dict[str, Any], label_key: Any, turn: Turn
    ) -> None:
        if not self._joins:
            return
        prediction_id = self._requests.prediction_id(event)
        silent = not turn.out.published
        published = None
        if (answered := turn.answered) is not None:
            silent = silent or answered.is_passed(turn.offset)
            published = answered.predictions.pop(turn.offset, None)
            if published is not None:
                prediction_id = published.id
        pending = self._requests.pending(prediction_id, event, at, x, keys, label_key, silent)
        turn.known(Question(pending, event.at, published))
        self._s.counts.predictions += not silent
        self.label_join.add(pending)

    def _adopt(self, published: Prediction | None) -> None:
        """Other code has answered a request that is refused here: it still gets an outcome."""
        if published is not None:
            self._s.counts.predictions += 1
            self.label_join.add(self._requests.adopted(published, self._task))
