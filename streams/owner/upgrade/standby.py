"""New code takes over from other code, without an outage.

Beside the code that serves, the new one folds each partition from its start as far as outputs are published,
taking published predictions as they are. When it is close behind, it fences the other code out, folds the
rest, and serves from there on. A code epoch on the models topic says from where.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Self

from driftline.streams.archive.epochs import epochs, stretches_asked
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, CheckpointRefusal, input_hash, load
from driftline.streams.checkpoints.tails import OutputMark, Tail, read_tail
from driftline.streams.errors import REPORT_ONLY, StreamsError
from driftline.streams.fold.inheritance import Bequest, Inheritance
from driftline.streams.fold.processor import PartitionProcessor, pickled
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.upgrade.upgrade_plan import Planner, UpgradePlan
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.records.ports import Extent, Place, StoredRecord
from driftline.streams.records.positions import SourcePosition, position_of
from driftline.streams.records.published import PublishedOutputs


class LogRemade(StreamsError):
    """The log was recreated since the beginning of the upgrade."""


class NothingToInheritFrom(StreamsError):
    """The answers of other code, or the log that it answered from, have been deleted."""


INHERITED = ("predictions", "outcomes")
"""Kinds of outputs that new code takes from other code."""
CLOSE_BEHIND = 3_000
"""If an approach folds fewer records than this, the partition can be taken over."""


class Standby:
    """One partition under new code, silent, beside the code that serves it.

    `rows`: whether online rows are kept for the take-over.
    """

    def __init__(self, deployment: Deployment, partition: int, *, rows: bool) -> None:
        self._deployment = deployment
        self.partition = partition
        self.processor = PartitionProcessor(deployment.case, partition, rows=rows)
        self._inheritance = Inheritance(self.processor)
        places = deployment.outputs(partition)
        self._published = PublishedOutputs(deployment.broker, places["predictions"], places["outcomes"])
        self._last: StoredRecord | None = None
        self._log: Extent | None = None
        self._rows = rows
        self._planner = Planner(partition)
        self._letters_read = 0

    @property
    def log_end(self) -> int:
        """Where the log ended when it was last looked at."""
        return self._log.end if self._log is not None else 0

    def snapshot(self) -> bytes:
        """The pickled state, for `restored` in another process."""
        state = {
            "processor": self.processor.state(),
            "inheritance": self._inheritance.state(),
            "published": self._published.state(),
            "last": self._last,
            "log": self._log,
            "planner": self._planner,
            "letters_read": self._letters_read,
        }
        return pickled(state)

    @classmethod
    def restored(cls, deployment: Deployment, partition: int, snapshot: bytes, *, rows: bool) -> Self:
        """A standby that continues from a snapshot, which must come from a trusted place."""
        standby = cls(deployment, partition, rows=rows)
        state = pickle.loads(snapshot)
        standby.processor.restore(state["processor"])
        standby._inheritance.restore(state["inheritance"])
        standby._published.restore(state["published"])
        standby._last, standby._log = state["last"], state["log"]
        standby._planner, standby._letters_read = state["planner"], state["letters_read"]
        return standby

    async def approach(self) -> int:
        """Fold as far as everything is published; returns the number of records. The rest cannot be folded
        before the other code is fenced out. Raises NothingToInheritFrom, LogRemade when the log was
        recreated, and BrokerChanged.
        """
        marks = await self.marks()
        tails = await self._tails(marks)
        furthest = max(tail.position[0] for tail in tails.values())
        log_end = self.log_end
        # read once more: everything settled at the first reading can be read at the second
        tails = await self._tails(marks)
        self.see(tails)
        bequest = (await self.bequest(positions_of(tails)))._replace(furthest=furthest)
        return await self._fold_up_to(min(bequest.settled + 1, log_end), bequest)

    async def plan(self) -> UpgradePlan:
        """How this code would answer everything that is published now. A copy of this state folds the records
        that the other code may have published in part."""
        ahead = self.restored(self._deployment, self.partition, self.snapshot(), rows=self._rows)
        tails = await ahead._tails(await ahead.marks())
        ahead.see(tails)
        bequest = await ahead.bequest(positions_of(tails))
        await ahead._fold_up_to(bequest.furthest + 1, bequest)
        return ahead._planner.plan

    async def bequest(self, positions: Mapping[str, SourcePosition]) -> Bequest:
        """What other code leaves that has published up to these source positions, by kind."""
        deployment = self._deployment
        models = deployment.outputs(self.partition)["models"]
        extent = (await deployment.broker.extents([models]))[models]
        known = await epochs(deployment.broker, models, extent.begin, extent.end)
        asked = stretches_asked([announced.epoch for announced in known], deployment.asks)
        return Bequest.up_to(positions, asked)

    async def _fold_up_to(self, end: int, bequest: Bequest) -> int:
        await self._read_letters()
        folded = 0
        log_place = self._deployment.log(self.partition)
        async for records in self._deployment.broker.read(log_place, self.processor.next_offset, end):
            self.processor.watched_by(self._planner)
            await self.fold(records, bequest)
            self.processor.watched_by(None)
            folded += len(records)
        self._planner.plan.records += folded
        return folded

    async def _read_letters(self) -> None:
        """Read which records the other code has refused by now."""
        place = self._deployment.outputs(self.partition)["dead_letters"]
        extent = (await self._deployment.broker.extents([place]))[place]
        first: int | None = None
        async for letters in self._deployment.broker.read(
            place, max(self._letters_read, extent.begin), extent.end
        ):
            first = position_of(letters[0].headers)[0] if first is None else first
            self._planner.before |= refused_in(letters)
        if extent.begin > self._letters_read:  # some are deleted, with what they reported
            self._planner.known_from = self.log_end if first is None else first
        self._letters_read = extent.end

    async def _tails(self, marks: Mapping[str, OutputMark]) -> dict[str, Tail]:
        deployment = self._deployment
        log_place = deployment.log(self.partition)
        places = deployment.outputs(self.partition)
        extents = await deployment.broker.extents([log_place, *places.values()])
        log = extents[log_place]
        if self._log is not None and self._log.topic_id != log.topic_id:
            raise LogRemade(f"{log_place} was recreated during the upgrade: start it again")
        self._log = log
        refuse_deleted(deployment, self.partition, extents)
        return {
            kind: await read_tail(deployment.broker, places[kind], extents[places[kind]], marks.get(kind))
            for kind in KINDS
        }

    def see(self, tails: Mapping[str, Tail]) -> None:
        """The outputs now reach to here."""
        self._published.reach(tails["predictions"].offset + 1, tails["outcomes"].offset + 1)

    async def fold(self, records: Sequence[StoredRecord], bequest: Bequest) -> Outputs:
        """Fold records whose outputs other code has published, as the bequest says."""
        beyond = (records[-1].offset + 1, -1)
        predictions = await self._published.predictions(min(bequest.predictions, beyond))
        outcomes = await self._published.outcomes(min(bequest.outcomes, beyond))
        self._last = records[-1]
        return self._inheritance.step(records, bequest, predictions, outcomes)

    async def marks(self) -> Mapping[str, OutputMark]:
        """The output marks in the newest checkpoint of any code."""
        deployment = self._deployment
        folder = deployment.folder(self.partition)
        return await newest_marks(deployment, folder, deployment.topics.log, self.partition)

    async def header(self) -> CheckpointHeader:
        """The header of the state."""
        return CheckpointHeader(
            self._deployment.topics.log,
            self._log.topic_id if self._log is not None else "",
            self.partition,
            self._deployment.case.partitions,
            self.processor.next_offset,
            input_hash(self._last) if self._last is not None else "",
            self._deployment.code,
            dict(await self.marks()),
        )


def positions_of(tails: Mapping[str, Tail]) -> dict[str, SourcePosition]:
    """The source positions of tails."""
    return {kind: tail.position for kind, tail in tails.items()}


def refused_in(letters: Sequence[StoredRecord]) -> set[int]:
    """Offsets of the records behind dead letters, without those that were accepted nevertheless."""
    report_only = {("stage", stage.encode()) for stage in REPORT_ONLY}
    return {position_of(letter.headers)[0] for letter in letters if report_only.isdisjoint(letter.headers)}


async def to_upgrade(deployment: Deployment) -> list[int]:
    """The partitions whose outputs are from other code."""
    numbers = []
    for number in range(deployment.case.partitions):
        place = deployment.outputs(number)["models"]
        extent = (await deployment.broker.extents([place]))[place]
        known = await epochs(deployment.broker, place, extent.begin, extent.end)
        if known and known[-1].epoch.writers:
            raise NothingToInheritFrom(
                f"{deployment.case.name} was served as a chain of stages and is one stage now, which cannot "
                "take over from it: serve it in another namespace, into which its history is produced"
            )
        if not known or known[-1].epoch.code != deployment.code:
            numbers.append(number)
    return numbers


async def newest_marks(
    deployment: Deployment, folder: str, topic: str, partition: int
) -> Mapping[str, OutputMark]:
    """The output marks in the newest checkpoint of a folder that is one of the topic's; none without one."""
    for name in reversed(list(await deployment.checkpoints.names(folder))):
        try:
            checkpoint = await load(deployment.checkpoints, name, topic, partition, deployment.seal)
        except CheckpointRefusal:
            continue  # the next take-over reports it
        return checkpoint.header.outputs
    return {}


def refuse_deleted(deployment: Deployment, partition: int, extents: Mapping[Place, Extent]) -> None:
    """Raises NothingToInheritFrom if predictions and outcomes are incomplete, or the log of a case of one
    stage: in a chain each code has topics of its own between the stages."""
    outputs = deployment.outputs(partition)
    places = [outputs[kind] for kind in INHERITED]
    if deployment.itinerary is None:
        places.insert(0, deployment.log(partition))
    for place in places:
        begin = extents[place].begin
        if begin > 0:
            raise NothingToInheritFrom(
                f"{place} begins at {begin}: offsets 0 to {begin} are needed to take over from other code. "
                "Name an archive that has them in DRIFTLINE_ARCHIVE"
            )
