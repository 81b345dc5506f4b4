"""The last stage: requests, with all features read, meet their labels and their models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from driftline.features.declare.ranges import RangesState
from driftline.features.state.segment_store import SegmentStore
from driftline.object_size import StateSize
from driftline.online_models.pool.pool import Forecast, Pool
from driftline.streams.between.stage_record import (
    Accepted,
    Answer,
    ModelRecord,
    StageRecord,
    decode_model_record,
    decode_record,
)
from driftline.streams.between.writers import WriterProgress, Writers
from driftline.streams.declare.events import SYSTEM_EVENTS, Command, Event
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold import refusal_reasons
from driftline.streams.fold.label_join import JoinRule, LabelJoin, LabelJoinState, LabelTally
from driftline.streams.fold.label_statement import LabelReader
from driftline.streams.fold.learner import Learner, LearnerParts
from driftline.streams.fold.learner_input import Question, Reply, RequestReader, Staleness, Turn, Witness
from driftline.streams.fold.route import ONE_POOL, Route, routes
from driftline.streams.records.dead_letter import dead_letter
from driftline.streams.records.messages import Prediction
from driftline.streams.records.output_size import AnswerRoom, Classes
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.publication import Publication, Published
from driftline.streams.stages.stage_features import Completion
from driftline.streams.stages.stage_work import LaterStage
from driftline.streams.waiting.packing import Packing


class LastParts(NamedTuple):
    """The state of the last stage."""

    heard: WriterProgress
    ranges: RangesState
    pending: LabelJoinState
    learner: LearnerParts
    classes: Classes
    predictions: int
    dead_letters: int
    refused_in_warm_up: int
    published: Published | None


class Predecessor(Protocol):
    """Other code, which answered before this one: what it has published of a partition stands."""

    def published(self, event_id: str, offset: int) -> Prediction | None:
        """The published answer to the request that came at this source position."""
        ...

    def is_passed(self, at: float, offset: int) -> bool:
        """Whether the request of this time, which came at this source position, was not answered, and never
        will be."""
        ...

    def refuses(self, event_id: str) -> bool:
        """Whether it has refused the request with this id, to which there is no answer. Else it took the
        event for a fact."""
        ...

    def unseen_before(self, watermark: float) -> Iterable[Prediction]:
        """The published answers to requests before this time that have not come."""
        ...


class LastStage(LaterStage):
    """Joins labels, answers, learns and detects drift: the fold's later half, over a topic of its own. Where
    replicas answer, it takes their answers in, and publishes its pool to them.

    Writers overtake each other, so a label takes effect when the watermark has passed it, and no request that
    it is about can still be on its way. The source position of the topic's offset 0 is `first_position`.
    While there is a `predecessor`, its answers stand.
    """

    def __init__(
        self,
        case: UseCase,
        itinerary: Itinerary,
        partition: int,
        store: SegmentStore,
        publication: Publication | None,
        first_position: int = 0,
    ) -> None:
        rule = JoinRule.of(case.task.label, in_order=False)
        self._task = case.task
        self._first_position = first_position
        self.predecessor: Predecessor | None = None
        self._decode_record = decode_record if publication is None else decode_model_record
        self._codec = case.codec()
        self._decode = EventDecoder[Event]((*case.events, *SYSTEM_EVENTS)).decode
        self._routes = routes(case)
        self._requests = RequestReader(case, rule)
        self._room = AnswerRoom(case.features)
        self._labels = LabelReader(case.task, rule)
        self._completion = Completion(case, judging=publication is None)
        self._publication = publication
        self._writers = Writers(itinerary.writers(itinerary.last))
        self.label_join = LabelJoin(rule, Packing(case.key_fields, self._completion.names), store)
        self.learner = Learner(case, partition, itinerary.plan.stages[itinerary.last].partitions)
        self._is_multiclass = case.task.kind == "multiclass"
        self._classes = Classes()
        self.predictions = 0
        self.dead_letters = self.refused_in_warm_up = 0
        self._staleness: Staleness | None = None
        self._half: Turn | Learner = self.learner

    @property
    def offset(self) -> int:
        """The offset of the record at hand, -1 before the first."""
        return self._half.offset

    @property
    def open(self) -> int:
        """Predictions that wait for their label."""
        return self.label_join.open

    @property
    def writers(self) -> Iterable[tuple[int, int]]:
        """Every partition that writes to this one."""
        return self._writers.state()

    @property
    def staleness(self) -> Staleness | None:
        """Of the newest answer of a replica; None before it, and where the pool itself answers."""
        return self._staleness

    @property
    def labels(self) -> LabelTally:
        """What became of labels since this object was made."""
        return self.label_join.tally

    def sizes(self) -> dict[str, StateSize]:
        """How many predictions there are, and what each takes of memory."""
        return self.label_join.sizes()

    def counts(self) -> dict[str, int]:
        """Counts of answers, outcomes and reports."""
        return {
            "predictions": self.predictions,
            "dead_letters": self.dead_letters,
            "refused_in_warm_up": self.refused_in_warm_up,
            "unmatched": self.label_join.unmatched,
            **asdict(self.learner.results),
            "pending": self.label_join.open,
        }

    def pools(self) -> list[Pool]:
        """Its pools, in order."""
        return self.learner.pools_in_order()

    def pools_watched_by(self, witness: Witness | None) -> None:
        """From now on, report to a witness what the answers to requests do not show."""
        self.learner.witness = witness

    def segments(self) -> list[str]:
        """The files of packed predictions that a snapshot refers to."""
        return self.label_join.segments()

    def fold(self, records: Sequence[Record], out: Outputs) -> None:
        """Fold records of the stage's topic, and return their outputs."""
        writers, join = self._writers, self.label_join
        # what a warm-up causes is not published, but for outcomes of requests that it has nothing to do with
        quiet = Outputs(published=False, outcomes=out.outcomes)
        self._half = turn = Turn(out, None)
        for record in records:
            turn.offset = self._first_position + record.offset
            stage_record = self._decode_record(record.value)
            if not writers.take(stage_record):
                continue
            turn.out = quiet if stage_record.silent else out
            if self.predecessor is not None:
                self._adopt(self.predecessor.unseen_before(writers.watermark))
            if writers.watermark > join.due:
                join.expire(writers.watermark, turn.known)
            if stage_record.event:
                event = self._decode(stage_record.event)
                try:
                    self._take(event, stage_record, turn)
                except Refused as refused:
                    self._tell(self._accepted(event, stage_record, turn), refused, turn.out)
            publication = self._publication
            if publication is not None and (turn.work or publication.by_time):
                self._learn_and_publish(publication, turn)
        self._half = self.learner
        self.learner.fold(turn.work)
        self.label_join.pack()

    def _learn_and_publish(self, publication: Publication, turn: Turn) -> None:
        """Learn what the record at hand makes known, then publish the pool if it is time to."""
        out = turn.out
        before = len(out.models)
        self.learner.fold(turn.work)
        turn.work.clear()
        pool = self.learner.pools.get(ONE_POOL)
        if pool is not None:
            changed = len(out.models) > before
            publication.look(pool, turn.offset, self._writers.watermark, changed=changed)

    def _accepted(self, event: Event, stage_record: StageRecord, turn: Turn) -> Accepted:
        """The event as a record of this stage's topic."""
        return Accepted(turn.offset, self._codec.key(event), stage_record.event)

    def _take(self, event: Event, stage_record: StageRecord, turn: Turn) -> None:
        if stage_record.refused is not None:
            raise Refused(*stage_record.refused)
        if event.__class__ is Command:
            turn.known(event)
            return
        route, at = self._routes[event.__class__], event.at.timestamp()
        label_key = self._labels.key(event)
        if route.asks:
            if stage_record.__class__ is ModelRecord and stage_record.answer is not None:
                self._note(event, at, label_key, stage_record, stage_record.answer, turn)
            else:
                self._ask(event, at, label_key, stage_record, turn)
        if route.labels or route.voids:
            self._answer(event, at, label_key, route, turn)

    def _ask(
        self,
        event: Event,
        at: float,
        label_key: Any,
        stage_record: StageRecord,
        turn: Turn,
    ) -> None:
        x = self._completion.completed(stage_record.read)
        keys = self._requests.keys(event)
        accepted = self._accepted(event, stage_record, turn)
        self._room.check(accepted, keys, x)
        name, published, silent = self._requests.prediction_id(event), None, stage_record.silent
        if self.predecessor is not None and not silent:
            published = self.predecessor.published(event.id, turn.offset)
            name = name if published is None else published.id
            silent = published is None and self.predecessor.is_passed(at, turn.offset)
            if silent and self.predecessor.refuses(event.id):
                raise refusal_reasons.refused_before()
        if problems := self._completion.accepted():  # reported, but no reason to refuse the request
            self._tell(accepted, Refused("range", "; ".join(problems)), turn.out)
        pending = self._requests.pending(name, event, at, x, keys, label_key, silent=silent)
        out = turn.out
        if silent and out.published:
            turn.out = Outputs(published=False)
        turn.known(Question(pending, event.at, published))
        turn.out = out
        self.predictions += not silent
        self.label_join.add(pending)

    def _adopt(self, unseen: Iterable[Prediction]) -> None:
        """Other code has answered requests that are refused here: they still get their outcome."""
        for published in unseen:
            self.predictions += 1
            self.label_join.add(self._requests.adopted(published, self._task))

    def _note(
        self, event: Event, at: float, label_key: Any, stage_record: StageRecord, answer: Answer, turn: Turn
    ) -> None:
        """A replica has answered a request: it waits for its label here."""
        x, keys = self._completion.completed(stage_record.read), self._requests.keys(event)
        name = self._requests.prediction_id(event)
        pending = self._requests.pending(name, event, at, x, keys, label_key, silent=stage_record.silent)
        forecast = Forecast(
            answer.serving, answer.version, answer.learned_through, answer.output, answer.outputs
        )
        forecast.reach, forecast.unanswered = answer.reach, answer.unanswered
        pending.forecast, pending.prediction = forecast, self._task.point(answer.output)
        turn.known(Reply(pending, answer.failures))
        pool = self.learner.pools.get(ONE_POOL)
        labels = 0 if pool is None else pool.labels
        self._staleness = Staleness(labels - answer.labels, None if answer.at is None else at - answer.at)
        self.label_join.add(pending)

    def _answer(self, event: Event, at: float, label_key: Any, route: Route, turn: Turn) -> None:
        said = self._labels.said(event, at, label_key, route)
        if said is not None:
            if self._is_multiclass and said.label is not None:
                # each partition of the log knows only its own classes, and an answer must contain all
                self._classes.check(said.label)
                self._classes.add(said.label)
            self.label_join.answer(said, turn.known)

    def _tell(self, accepted: Accepted, refused: Refused, out: Outputs) -> None:
        self.dead_letters += out.published
        self.refused_in_warm_up += not out.published
        letters = out.dead_letters
        # an event that was accepted may have several reports
        ordinal = letters[-1].ordinal + 1 if letters and letters[-1].offset == accepted.offset else 0
        letters.append(dead_letter(accepted, refused, ordinal))

    def state(self) -> LastParts:
        """Everything that later records depend on; nothing is copied."""
        return LastParts(
            self._writers.state(),
            self._completion.state(),
            self.label_join.state(),
            self.learner.state(),
            self._classes,
            self.predictions,
            self.dead_letters,
            self.refused_in_warm_up,
            None if self._publication is None else self._publication.state(),
        )

    def restore(self, state: LastParts) -> None:
        """Continue from what `state` returned."""
        self._writers.restore(state.heard)
        self._completion.restore(state.ranges)
        self.label_join.restore(state.pending)
        self.learner.restore(state.learner)
        self._classes = state.classes
        self.predictions, self.dead_letters = state.predictions, state.dead_letters
        self.refused_in_warm_up = state.refused_in_warm_up
        if self._publication is not None and state.published is not None:
            self._publication.restore(state.published)
