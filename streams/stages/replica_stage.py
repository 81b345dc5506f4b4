"""The stage of the replicas: requests are answered as the learner's pool was when it was published last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from driftline.features.declare.ranges import RangesState
from driftline.online_models.pool.pool import Forecast, PoolState
from driftline.online_models.pool.replica import Replica
from driftline.streams.between.activations import Activations, Sealing
from driftline.streams.between.sender import Sender
from driftline.streams.between.stage_record import (
    Accepted,
    Answer,
    ModelRecord,
    decode_model_record,
)
from driftline.streams.between.writers import WriterProgress, Writers
from driftline.streams.declare.events import Event
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold.label_join import JoinRule
from driftline.streams.fold.label_statement import LabelReader
from driftline.streams.fold.learner_input import RequestReader, interval_of, prediction_of
from driftline.streams.fold.route import ONE_POOL
from driftline.streams.records.dead_letter import dead_letter
from driftline.streams.records.output_size import AnswerRoom
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.records.record import Record
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_features import Completion
from driftline.streams.stages.stage_work import LaterStage


class ReplicaParts(NamedTuple):
    """The state of a replica: what it has heard, and was sent of pools, and the pool that answers."""

    heard: WriterProgress
    activations: Any
    ranges: RangesState
    pool: PoolState
    pool_at: float | None
    predictions: int
    dead_letters: int


class ReplicaStage(LaterStage):
    """Answers requests and sends them, with the answers, to the learner, who joins their labels.

    Which pool answers is in the stage's topic: the learner appends what it publishes to every partition. So a
    replica is a fold like any other, and needs nothing but its topic. `offset` is that of the record at hand,
    -1 before the first.
    """

    offset: int = -1

    def __init__(
        self, case: UseCase, itinerary: Itinerary, number: int, sender: Sender, seal: Sealing
    ) -> None:
        rule = JoinRule.of(case.task.label, in_order=False)
        self._task = case.task
        self._codec = case.codec()
        self._decode = EventDecoder[Event](tuple(case.events)).decode
        self._requests = RequestReader(case, rule)
        self._room = AnswerRoom(case.features)
        self._labels = LabelReader(case.task, rule)
        self._completion = Completion(case, judging=True)
        self._encode = msgspec.json.Encoder().encode
        self._learner = Target(itinerary.last, 0)
        self._writers = Writers(itinerary.writers(number))
        self._activations = Activations(case.name, seal)
        self._pool = Replica(case.task, case.models, ONE_POOL, self._learner.partition)
        self._sender = sender
        self._predictions = 0
        self._dead_letters = 0

    def counts(self) -> dict[str, int]:
        """Answers, and refusals that are published here."""
        return {"predictions": self._predictions, "dead_letters": self._dead_letters}

    def fold(self, records: Sequence[Record], out: Outputs) -> None:
        """Take records of the stage's topic in, and put out what they cause."""
        writers, sender = self._writers, self._sender
        for record in records:
            self.offset = record.offset
            model_record = decode_model_record(record.value)
            if model_record.part is not None:
                self._hear(model_record)
                continue
            was_warming = writers.warming
            if not writers.take(model_record):
                continue
            ended = was_warming and not writers.warming
            sender.begin(record.offset, writers.watermark, silent=model_record.silent, ended=ended)
            if model_record.event:
                event = self._decode(model_record.event)
                accepted = Accepted(record.offset, self._codec.key(event), model_record.event)
                # what a warm-up causes is not published
                own = Outputs(published=False) if model_record.silent else out
                try:
                    self._answer(event, model_record, accepted, own)
                except Refused as refused:
                    self._tell(accepted, refused, own)
            sender.end()

    def _hear(self, model_record: ModelRecord) -> None:
        snapshot = self._activations.take(model_record)
        if snapshot is not None:
            self._pool.activate(snapshot)

    def _answer(self, event: Event, model_record: ModelRecord, accepted: Accepted, out: Outputs) -> None:
        requests, at = self._requests, event.at.timestamp()
        keys = requests.keys(event)
        x = self._completion.completed(model_record.read)
        self._room.check(accepted, keys, x)
        name, label_key = requests.prediction_id(event), self._labels.key(event)
        pending = requests.pending(name, event, at, x, keys, label_key, silent=model_record.silent)
        answer, forecast = self._asked(x, name)
        pending.prediction = self._task.point(forecast.output)
        # sent before anything is put out: one that is too large to be learned from is refused
        self._sender.answered(self._learner, model_record.event, model_record.read, answer)
        if problems := self._completion.accepted():  # reported, but no reason to refuse the request
            self._tell(accepted, Refused("range", "; ".join(problems)), out)
        said = prediction_of(self._task, pending, event.at, forecast, interval_of(self._pool, forecast))
        out.predictions.append(Output(accepted.offset, 0, pending.key.encode(), self._encode(said)))
        self._predictions += out.published

    def _asked(self, x: dict[str, Any], name: str) -> tuple[Answer, Forecast]:
        """The answer to a request, for the learner and for whoever asked."""
        pool = self._pool
        forecast, failures = pool.answer(x, name)
        answer = Answer(
            forecast.serving,
            forecast.version,
            forecast.learned_through,
            forecast.output,
            forecast.outputs,
            forecast.reach,
            forecast.unanswered,
            tuple(failures),
            pool.labels,
            pool.at,
        )
        return answer, forecast

    def _tell(self, accepted: Accepted, refused: Refused, out: Outputs) -> None:
        self._dead_letters += out.published
        out.dead_letters.append(dead_letter(accepted, refused, 0))

    def state(self) -> ReplicaParts:
        """Everything that later records depend on; nothing is copied."""
        return ReplicaParts(
            self._writers.state(),
            self._activations.state(),
            self._completion.state(),
            self._pool.state(),
            self._pool.at,
            self._predictions,
            self._dead_letters,
        )

    def restore(self, state: ReplicaParts) -> None:
        """Go on from what `state` gave."""
        self._writers.restore(state.heard)
        self._activations.restore(state.activations)
        self._completion.restore(state.ranges)
        self._pool.restore(state.pool)
        self._pool.at = state.pool_at
        self._predictions, self._dead_letters = state.predictions, state.dead_letters
