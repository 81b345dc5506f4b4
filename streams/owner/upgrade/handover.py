"""The hand-over of a chain from the code that serves to the one of this process.

All stages run beside those of the other code. When the last one is close behind, the plan is put to whoever
asked for the upgrade; then each partition of the last stage is taken over. When all are, in whichever
process, the stages before it publish too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from driftline.streams.archive.epochs import CodeEpoch
from driftline.streams.errors import REPORT_ONLY, UPGRADE, Refused
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.upgrade.chain_standby import ChainStandby, newest_epochs
from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import position_of

HANDOVER_LOOK_EVERY = 0.2
"""Seconds between two looks at how far it has come."""

MARKERS = 20
"""Offsets at the end of a topic that may be markers of transactions alone."""


class _Id(msgspec.Struct):
    id: str


class Handover:
    """How far a process has come in taking a chain over; `decide` gets the plan, and says whether to go on.
    `deployment` is that of any stage."""

    def __init__(self, deployment: Deployment, decide: Callable[[UpgradePlan], Awaitable[bool]]) -> None:
        self._deployment = deployment.of_stage(deployment.stages - 1)
        self._decide = decide
        self._standbys: dict[int, ChainStandby] = {}
        self._reached = 0
        self._goals: dict[Place, int] = {}
        self.is_cleared = False
        """Whether the plan was accepted."""
        self.is_done = False

    def is_taken(self, epoch: CodeEpoch | None) -> bool:
        """Whether the newest epoch of a partition is this code's."""
        own = self._deployment
        return epoch is not None and epoch.number == own.number and epoch.code == own.code

    async def standby(self, partition: int) -> ChainStandby | None:
        """The standby of a partition of the last stage, which other code serves; None where it is this
        code's. Raises NothingToInheritFrom."""
        epoch = (await newest_epochs(self._deployment))[partition]
        if epoch is None or self.is_taken(epoch):
            return None
        if partition not in self._standbys:
            self._standbys[partition] = ChainStandby(self._deployment, partition, epoch)
        return self._standbys[partition]

    async def look(self, tasks: Mapping[Target, OwnedPartition | None]) -> None:
        """Note how far it is; `tasks` are the partitions of all stages in this process, None for those that
        are not owned yet."""
        before = {target: one for target, one in tasks.items() if target.stage < self._deployment.stage}
        owned = {target: one for target, one in before.items() if one is not None}
        if not self.is_cleared and len(owned) == len(before) and await self._is_close(owned):
            self.is_cleared = await self._decide(await self._plan(owned))
        if self.is_cleared or not self._standbys:
            newest = await newest_epochs(self._deployment)
            self.is_done = all(self.is_taken(epoch) for epoch in newest)

    async def _is_close(self, owned: Mapping[Target, OwnedPartition]) -> bool:
        """Whether one stage after the other has come to where its topic ended when those before it had, and
        the standbys to where they may."""
        while self._reached < self._deployment.stage:
            folded = {
                self._deployment.places.input(target): one.processor.next_offset
                for target, one in owned.items()
                if target.stage == self._reached
            }
            if not self._goals:
                extents = await self._deployment.broker.extents(list(folded))
                self._goals = {place: extent.end for place, extent in extents.items()}
            if any(folded[place] + MARKERS < self._goals.get(place, 0) for place in folded):
                return False
            self._reached, self._goals = self._reached + 1, {}
        return bool(self._standbys) and all(standby.is_close for standby in self._standbys.values())

    async def _plan(self, owned: Mapping[Target, OwnedPartition]) -> UpgradePlan:
        """What taking over would do, as far as this process has folded."""
        plan, letters = UpgradePlan(), await self._letters()
        known = {name for of_partition in letters.values() for name in of_partition.values()}
        for target, one in owned.items():
            if target.stage > 0 or one.held_back is None:
                continue
            plan.records += one.processor.next_offset
            before = letters[target.partition]
            for offset, refused in one.held_back.refused:
                _judge(plan, target.partition, offset, refused, was_refused=offset in before)
        for partition, standby in self._standbys.items():
            plan.add(standby.answers)
            for letter in standby.refused:
                fields = dict(letter.headers)
                refused = Refused(fields["stage"].decode(), fields["reason"].decode())
                _judge(plan, partition, letter.offset, refused, was_refused=_id(letter.value) in known)
        return plan

    async def _letters(self) -> dict[int, dict[int, str]]:
        """The records that the code before has refused: by partition of the dead letters, the position of
        each and the id of its event."""
        broker, topic = self._deployment.broker, self._deployment.topics.dead_letters
        count = (await broker.topics([topic]))[topic].partitions
        places = [Place(topic, partition) for partition in range(count)]
        extents = await broker.extents(places)
        found: dict[int, dict[int, str]] = {}
        for place in places:
            ids = found[place.partition] = {}
            async for records in broker.read(place, extents[place].begin, extents[place].end):
                for record in records:
                    stage = dict(record.headers).get("stage")
                    if stage is not None and stage.decode() not in REPORT_ONLY:
                        ids[position_of(record.headers)[0]] = _id(record.value)
        return found


def _judge(plan: UpgradePlan, partition: int, offset: int, refused: Refused, *, was_refused: bool) -> None:
    """Count a record that the new code refuses."""
    if refused.stage in REPORT_ONLY:
        return
    if refused.stage == UPGRADE:
        plan.kept_refused += 1
    elif was_refused:
        plan.refused_before += 1
    else:
        plan.refuse(partition, offset, refused)


def _id(value: bytes | None) -> str:
    try:
        return msgspec.json.decode(value or b"", type=_Id).id
    except msgspec.MsgspecError:
        return ""
