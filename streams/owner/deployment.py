"""One stage of a case as deployed: its code, with the broker, checkpoints and online store that it uses."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from driftline.features.state.segment_store import IN_MEMORY
from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointContent,
    CheckpointHeader,
    CheckpointStore,
    Written,
    encode,
    named,
)
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.checkpoints.segment_collection import SegmentCollection
from driftline.streams.checkpoints.segment_files import SegmentFolders, SegmentLost
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.code.fold_version import fold_version
from driftline.streams.declare.events import tag_of
from driftline.streams.declare.topics import Topics, TopicSpec
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.alignment import Alignment
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Broker, Place
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_fold import StageFold

if TYPE_CHECKING:
    from driftline.streams.owner.upgrade.chain_standby import ChainStandby


class Following(Protocol):
    """The hand-over of a chain from other code to this one: see `owner.upgrade.handover.Handover`."""

    is_cleared: bool
    is_done: bool

    async def standby(self, partition: int) -> ChainStandby | None: ...


class RowWriter(Protocol):
    """Takes online feature rows; waits when it cannot keep up."""

    @property
    def incarnation(self) -> str:
        """Identifies the store between two losses of its rows; "" while that is unknown."""
        ...

    @property
    def first_incarnation(self) -> str:
        """The store's incarnation when rows were first written to it; "" before."""
        ...

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        """Take rows to write; raises FeaturesError when writing has failed for good."""
        ...

    def offered(self) -> int:
        """A ticket for everything offered so far."""
        ...

    async def written(self, ticket: int) -> None:
        """Return when everything up to the ticket is durable in the store."""
        ...

    @property
    def rows_written(self) -> int:
        """Rows given to the store so far."""
        ...

    @property
    def rows_waiting(self) -> int:
        """Rows that are still to be written."""
        ...

    @property
    def failing_seconds(self) -> float:
        """For how many seconds the store has accepted no rows; 0 while it does."""
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that an owner of partitions of one stage needs.

    Without an `itinerary` the case is one stage, whose topic is the log. In a chain each stage has a topic of
    its own, and is owned like a log: `of_stage` gives the deployment of another one. Records between stages
    belong to this code only. Predictions are published by the stage that answers, what follows from labels by
    the last one, dead letters by each.
    Packed predictions may be files of `segments`. `alignment` says how far the intakes of this process may be
    ahead. `number` is that of a chain's code epoch; with a `handover` other code serves until that is done.
    """

    case: UseCase
    code: Code
    topics: Topics
    broker: Broker
    checkpoints: CheckpointStore
    seal: Seal
    rows: RowWriter | None = None
    itinerary: Itinerary | None = None
    stage: int = 0
    segments: SegmentFolders | None = None
    alignment: Alignment | None = None
    number: int = 0
    handover: Following | None = None

    def of_stage(self, stage: int) -> Deployment:
        """The same for another stage of the case."""
        return replace(self, stage=stage)

    @property
    def places(self) -> StagePlaces:
        """Where all stages read and write."""
        return StagePlaces(self.topics, self.code.short, self.itinerary, self.number)

    @property
    def is_beside(self) -> bool:
        """Whether other code still serves: this stage then sends to the later ones, and publishes nothing."""
        return self.handover is not None and not self.handover.is_done and not self.is_last

    @property
    def follows(self) -> bool:
        """Whether this is the first stage of a chain that took over from other code."""
        return self.stage == 0 and self.number > 0

    @property
    def asks(self) -> str:
        """The type of the events that ask for predictions."""
        return tag_of(self.case.task.ask)

    @property
    def first_position(self) -> int:
        """The source position of offset 0 of the stage's topic."""
        return self.places.first_position if self.stage else 0

    @property
    def stages(self) -> int:
        """How many stages the case has."""
        return self.places.count

    @property
    def is_last(self) -> bool:
        """Whether this stage answers."""
        return self.stage == self.stages - 1

    @property
    def partitions(self) -> int:
        """How many partitions this stage has."""
        return self.places.partitions(self.stage)

    @property
    def topic(self) -> str:
        """The topic that this stage folds."""
        return self.log(0).topic

    def log(self, partition: int) -> Place:
        """The partition of the stage's topic, which is the log for the first stage."""
        return self.places.input(Target(self.stage, partition))

    @property
    def targets(self) -> list[Place]:
        """Everything that this stage sends to."""
        return self.places.sent_to(self.stage)

    def outputs(self, partition: int) -> dict[str, Place]:
        """The output partitions that this partition alone writes to, by kind."""
        return self.places.outputs(Target(self.stage, partition))

    @property
    def announced(self) -> list[Place]:
        """Where code epochs are announced: on the models topic, for every stage."""
        last = self.of_stage(self.stages - 1)
        return [last.outputs(partition)["models"] for partition in range(last.partitions)]

    @property
    def shape(self) -> dict[str, int]:
        """The partition count of each topic that this stage reads, sends to or publishes to."""
        shape = {self.topic: self.partitions}
        for place in (*self.targets, *self.outputs(self.partitions - 1).values()):
            shape[place.topic] = max(shape.get(place.topic, 0), place.partition + 1)
        return shape

    @property
    def specs(self) -> list[TopicSpec]:
        """Every topic that must exist, including those between the stages of this code."""
        return [*self.topics.all(), *self.topics.between(self.places.label)]

    @property
    def group(self) -> str:
        """The consumer group of the workers; each code has its own."""
        return f"{self.topics.readers}.worker.{self.code.short}"

    def owner(self, partition: int) -> str:
        """The name under which owners of the partition fence each other, the same for every code that
        publishes; beside another one it is this code's own."""
        name = self.topics.owner(self.places.kind(self.stage), partition)
        return f"{name}.{self.places.label}" if self.is_beside else name

    def name(self, partition: int) -> str:
        """The partition's name in messages: its number, preceded by the stage in later stages."""
        return self.places.name(Target(self.stage, partition))

    def folder(self, partition: int) -> str:
        """Where the partition's checkpoints are."""
        return self.places.folder(Target(self.stage, partition))

    def new_fold(self, partition: int) -> PartitionFold:
        """The fold of a partition before its first record; it makes online rows if there is a store."""
        rows = self.rows is not None
        store = IN_MEMORY if self.segments is None else self.segments.store(self.folder(partition))
        if self.itinerary is None:
            return PartitionProcessor(self.case, partition, rows=rows, store=store)
        return StageFold(
            self.case,
            self.itinerary,
            self.stage,
            partition,
            rows=rows,
            store=store,
            seal=self.seal,
            first_position=self.first_position,
        )

    def restored_fold(self, checkpoint: Checkpoint) -> PartitionFold:
        """A fold that continues from a checkpoint, which must come from a trusted place; raises
        SegmentLost."""
        header = checkpoint.header
        if header.segments and self.segments is None:
            raise SegmentLost("its segments are files of a folder, and checkpoints are an object store now")
        fold = self.new_fold(header.partition)
        fold.restore(pickle.loads(checkpoint.state))
        return fold

    def still_whole(self, fold: PartitionFold) -> PartitionFold:
        """A fold that was kept, once all its segments are checked to be on disk; raises SegmentLost."""
        if self.segments is not None:
            self.segments.files(self.folder(fold.partition)).check(fold.segments())
        return fold

    def segment_collection(self, partition: int) -> SegmentCollection | None:
        """Removes the segments of a partition that no checkpoint names; None if there are no segments."""
        if self.segments is None:
            return None
        folder, log = self.folder(partition), self.topic
        files = self.segments.files(folder)
        return SegmentCollection(self.checkpoints, files, folder, log, partition, self.seal)

    def take(self, header: CheckpointHeader, fold: PartitionFold) -> Callable[[], CheckpointContent]:
        """Take the state of a fold. What is returned makes its checkpoint, when all that it refers to is
        durable; that raises OSError."""
        packed: list[list[str]] = []
        state = fold.snapshot(packed)
        segments = named(header.segments, packed)
        files = None if self.segments is None else self.segments.files(self.folder(fold.partition))

        def content() -> CheckpointContent:
            if files is not None:
                files.make_durable(segments)
            whole = msgspec.structs.replace(header, segments=segments)
            return CheckpointContent(encode(Checkpoint(whole, state), self.seal), packed)

        return content


class FoldCheckpoint:
    """An `Unfinished` checkpoint of a fold, as of now: it packs the windows that have changed, and when it is
    there, the fold uses what it has packed. Raises OSError when there is nowhere to write it."""

    def __init__(
        self, deployment: Deployment, name: str, header: CheckpointHeader, fold: PartitionFold
    ) -> None:
        self._windows = fold.paged
        self._packs = self._windows.set_aside()
        try:
            self._written = deployment.checkpoints.begin(name, partial(deployment.take, header, fold))
        except OSError:
            self._put_back()
            raise

    def _put_back(self) -> None:
        if self._packs:
            self._windows.put_back()

    async def finish(self) -> Written:
        """See `Unfinished`."""
        try:
            written = await self._written.finish()
        except BaseException:
            self._put_back()
            raise
        if self._packs:
            self._windows.packed(written.packed)
        return written

    async def discard(self) -> None:
        """See `Unfinished`."""
        self._put_back()
        await self._written.discard()


def code_of(case: UseCase) -> Code:
    """The code of a case on this machine."""
    return Code(case.spec_hash, numeric_fingerprint(), fold_version())
