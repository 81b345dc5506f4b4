"""The last stage of a chain under new code, beside the code that serves it, until it is taken over.

The stages before it run beside those of the other code, into topics of their own. This one folds what comes
from them as far as it is known what the other code has answered. Once that is fenced out, it folds the rest,
and a code epoch says from where it publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from driftline.features.state.event_time import NEVER
from driftline.streams.archive.epochs import CodeEpoch, asked_before, epochs
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, input_hash
from driftline.streams.checkpoints.tails import OutputMark, Tail, read_tail
from driftline.streams.declare.plan import QUESTIONS
from driftline.streams.errors import StreamsError
from driftline.streams.fold.inheritance import Bequest
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.owner.upgrade.held_back import Inherited
from driftline.streams.owner.upgrade.standby import (
    INHERITED,
    LogRemade,
    NothingToInheritFrom,
    newest_marks,
    positions_of,
    refuse_deleted,
)
from driftline.streams.owner.upgrade.upgrade_plan import Planner, UpgradePlan
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.records.ports import Broker, Extent, Place, RecordsMissing, StoredRecord, TopicMissing
from driftline.streams.records.positions import SourcePosition, position_of, source_of
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_fold import StageFold
from driftline.streams.stages.succession import IntakeSuccession, Legacy, Succession, beside


class _Front:
    """How far in event time the code before has come: the smallest watermark of what writes to its last
    stage, as far as that stage has put its answers out."""

    def __init__(self, broker: Broker, place: Place, epoch: CodeEpoch) -> None:
        self._broker, self._place = broker, place
        self._first, self._writers = _first_position(epoch), epoch.writers
        self._at = 0
        self._heard: dict[Writer, float] = {}

    async def settled(self, answered: int) -> float:
        """The event time before which all is answered, once all up to this source position is; `NEVER` where
        that cannot be known."""
        until = answered - self._first + 1
        try:
            extent = (await self._broker.extents([self._place]))[self._place]
            begin = max(self._at, extent.begin)
            async for records in self._broker.read(self._place, begin, min(until, extent.end)):
                for record in records:
                    stage_record = decode_record(record.value)
                    self._heard[stage_record.writer] = max(
                        stage_record.watermark, self._heard.get(stage_record.writer, NEVER)
                    )
        except (TopicMissing, RecordsMissing):
            return NEVER
        self._at = max(self._at, until)
        return min(self._heard.values()) if len(self._heard) == self._writers else NEVER


def _first_position(epoch: CodeEpoch) -> int:
    return StagePlaces.first_position_of(epoch.number)


class ChainStandby:
    """One partition of the last stage, silent, beside the code whose newest epoch is `before`."""

    def __init__(self, deployment: Deployment, partition: int, before: CodeEpoch) -> None:
        if not before.writers:
            raise NothingToInheritFrom(
                f"{deployment.case.name} was served as one stage, and is a chain of {deployment.stages} now, "
                "which cannot take over from it: serve it in another namespace, into which its history is "
                "produced"
            )
        self._deployment, self._before = deployment, before
        self.partition = partition
        fold = deployment.new_fold(partition)
        assert isinstance(fold, StageFold)
        self.processor = fold
        self._succession = Succession(deployment.case, fold, before.asks)
        self._planner = Planner(partition)
        fold.pools_watched_by(self._planner)
        self._places = deployment.outputs(partition)
        served = StagePlaces(deployment.topics, before.code.short, deployment.itinerary, before.number)
        self._served = served
        questions = Place(deployment.topics.of_stage(QUESTIONS, served.label), partition)
        self._front = _Front(deployment.broker, questions, before)
        self._read = dict.fromkeys(INHERITED, 0)
        self._settled = NEVER
        self._last: StoredRecord | None = None
        self._is_held_up = False
        self.is_close = False
        """Whether all that can be folded beside the other code is, as of the last look."""

    @property
    def answers(self) -> UpgradePlan:
        """How many published predictions this code would have answered otherwise."""
        return self._planner.plan

    @property
    def refused(self) -> Sequence[Output]:
        """The dead letters of this code so far, which are not published."""
        return self._succession.withheld

    @property
    def time(self) -> float:
        """How far it has come in event time; infinite while it waits for the other code, whom nobody else
        has to wait for."""
        return inf if self._is_held_up else self.processor.watermark

    async def approach(self) -> int:
        """Fold as far as it is known what the other code answers; returns the number of records."""
        marks = await self.marks()
        bequest = Bequest.up_to(positions_of(await self._tails(marks)))
        self._settled = await self._front.settled(bequest.answered)
        # read once more: everything settled at the first reading can be read at the second
        await self._tell(await self._tails(marks))
        place = self._deployment.log(self.partition)
        end = (await self._deployment.broker.extents([place]))[place].end
        folded, self._is_held_up = 0, False
        async for records in self._deployment.broker.read(place, self.processor.next_offset, end):
            count = self._succession.decided(records, self._settled)
            if count:
                self._put_nothing_out(self._succession.step(records[:count], beside(self._settled)))
                self._last = records[count - 1]
                folded += count
            if count < len(records):
                self._is_held_up = True
                break
        return folded

    @staticmethod
    def _put_nothing_out(out: Outputs) -> None:
        if out.predictions or out.outcomes:
            raise StreamsError("a fault of driftline: beside other code, a request was answered")

    async def legacy(self, tails: Mapping[str, Tail]) -> Legacy:
        """What the other code leaves, which is fenced out: all that it has published up to these tails."""
        newest = (await newest_epochs(self._deployment))[self.partition]
        if newest != self._before:
            raise LogRemade(
                f"{self._places['models']}: another code has taken over during the upgrade: start it again"
            )
        bequest = Bequest.up_to(positions_of(tails))
        self._settled = max(self._settled, await self._front.settled(bequest.answered))
        await self._tell(tails)
        begins = self.processor.first_position + self.processor.next_offset
        succession = self._succession
        return Legacy(begins, self._settled, succession.reached, succession.unanswered)

    def inherited(self, legacy: Legacy) -> Inherited:
        """How the rest is folded."""
        self.processor.pools_watched_by(None)

        async def fold(records: Sequence[StoredRecord]) -> Outputs:
            return self._succession.step(records, legacy)

        return Inherited(fold, lambda: self._succession.is_over)

    async def _tell(self, tails: Mapping[str, Tail]) -> None:
        """Take in what is published up to these tails."""
        ends = {kind: tails[kind].offset + 1 for kind in INHERITED}
        found: dict[str, list[bytes]] = {kind: [] for kind in INHERITED}
        for kind in INHERITED:
            async for records in self._deployment.broker.read(
                self._places[kind], self._read[kind], ends[kind]
            ):
                found[kind] += [record.value or b"" for record in records if source_of(record.headers)]
            self._read[kind] = max(self._read[kind], ends[kind])
        self._succession.tell(found["predictions"], found["outcomes"])

    async def _tails(self, marks: Mapping[str, OutputMark]) -> dict[str, Tail]:
        deployment, places = self._deployment, self._places
        extents = await deployment.broker.extents(list(places.values()))
        refuse_deleted(deployment, self.partition, extents)
        return {
            kind: await read_tail(deployment.broker, place, extents[place], marks.get(kind))
            for kind, place in places.items()
        }

    async def marks(self) -> Mapping[str, OutputMark]:
        """The output marks in the newest checkpoint of the code before."""
        deployment, target = self._deployment, Target(self._deployment.stage, self.partition)
        topic = deployment.topics.of_stage(QUESTIONS, self._served.label)
        return await newest_marks(deployment, self._served.folder(target), topic, self.partition)

    async def header(self) -> CheckpointHeader:
        """The header of the state."""
        deployment = self._deployment
        place = deployment.log(self.partition)
        return CheckpointHeader(
            deployment.topic,
            (await deployment.broker.extents([place]))[place].topic_id,
            self.partition,
            deployment.partitions,
            self.processor.next_offset,
            input_hash(self._last) if self._last is not None else "",
            deployment.code,
            dict(await self.marks()),
        )


async def succeeded(
    deployment: Deployment, partition: int, known: Sequence[CodeEpoch]
) -> tuple[StageFold, Inherited]:
    """A fold from the start of the last stage's topic, after this code has taken over. The epochs of the
    partition are `known`, the newest is this code's."""
    fold = deployment.new_fold(partition)
    assert isinstance(fold, StageFold)
    epoch, places = known[-1], deployment.outputs(partition)
    succession = Succession(deployment.case, fold, asked_before(known, epoch))
    extents = await deployment.broker.extents(list(places.values()))
    refuse_deleted(deployment, partition, extents)
    published = {}
    for kind in INHERITED:
        place = places[kind]
        published[kind] = await _published_until(deployment.broker, place, extents[place], epoch.tails[kind])
    succession.tell(published["predictions"], published["outcomes"])
    legacy = Legacy(epoch.from_offset, epoch.settled, epoch.reached)

    async def fold_on(records: Sequence[StoredRecord]) -> Outputs:
        return succession.step(records, legacy)

    return fold, Inherited(fold_on, lambda: succession.is_over)


async def _published_until(broker: Broker, place: Place, extent: Extent, tail: SourcePosition) -> list[bytes]:
    """The outputs of a place up to a source position."""
    found: list[bytes] = []
    async for records in broker.read(place, extent.begin, extent.end):
        for record in records:
            if source_of(record.headers) is None:
                continue
            if position_of(record.headers) > tail:
                return found
            found.append(record.value or b"")
    return found


async def intake_succeeded(
    deployment: Deployment, fold: PartitionFold, begins: CodeEpoch
) -> Inherited | None:
    """How a partition of the log is folded until this code, whose epoch `begins` there, forgets the requests
    that the code before had refused; None once it has."""
    assert isinstance(fold, StageFold)
    newest = [epoch for epoch in await newest_epochs(deployment) if epoch is not None]
    unanswered = [event_id for epoch in newest for event_id in epoch.unanswered]
    succession = IntakeSuccession(fold, begins.forgets_at, unanswered)
    if succession.is_over:
        return None

    async def fold_on(records: Sequence[StoredRecord]) -> Outputs:
        return succession.step(records)

    return Inherited(fold_on, lambda: succession.is_over)


async def newest_epochs(deployment: Deployment) -> list[CodeEpoch | None]:
    """The newest code epoch of each partition that announces some; None where none is."""
    broker, places = deployment.broker, deployment.announced
    extents = await broker.extents(places)
    newest: list[CodeEpoch | None] = []
    for place in places:
        known = await epochs(broker, place, extents[place].begin, extents[place].end)
        newest.append(known[-1].epoch if known else None)
    return newest


def next_number(deployment: Deployment, newest: Sequence[CodeEpoch | None]) -> int:
    """The number of the epoch in which this code serves a chain, or will: 0 for the first one."""
    known = [epoch for epoch in newest if epoch is not None]
    if not known:
        return 0
    last = max(known, key=lambda epoch: epoch.number)
    return last.number if last.code == deployment.code else last.number + 1
