"""The task of one partition in a worker: take over, catch up, serve, store checkpoints, give back.

Each partition has a task of its own, so that one that is recovering or refused never delays the
others.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Literal, NamedTuple

import msgspec

from driftline.features.errors import FeaturesError
from driftline.features.online.transient_failures import Outage
from driftline.logs import about
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.errors import FoldFault, StreamsError
from driftline.streams.owner.checkpointing import STORED_WITHIN, Checkpointing
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import Held, OwnedPartition
from driftline.streams.owner.published_counts import PublishedTally
from driftline.streams.owner.retry_pause import is_broker_trouble, pause_after
from driftline.streams.owner.standstill import Standstill
from driftline.streams.owner.takeover import OtherCode, take_over
from driftline.streams.owner.topology import TopologyRefused
from driftline.streams.owner.upgrade.chain_standby import ChainStandby
from driftline.streams.owner.upgrade.standby import CLOSE_BEHIND, Standby
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import StoredRecord

log = logging.getLogger("driftline.worker")

CustodyState = Literal["taking over", "recovering", "serving", "retrying", "refused", "given back"]
RENEW_AFTER = 12 * 3600.0
"""Seconds without a record after which a partition is taken over again: a broker forgets a producer,
and with it the fence, after a day without sends."""
LOOK_EVERY = 10.0
"""Seconds between checks for another owner's fence, for changed topics, and for records that wait although
nothing has been answered since the last check."""
_EVENLY = 0.618034
"""Multiples of it, without what is before their point, lie evenly between 0 and 1: the golden ratio."""
COMES_BACK_SHARE = 0.125
"""Largest share of the time in which windows come back into memory."""
LOOK_EVERY_BESIDE = 0.1
"""Seconds between looks at what the code that serves has published, while this one folds beside it."""


class Frame(NamedTuple):
    """Records handed over for a partition, and the call that acknowledges them once their outputs are."""

    records: Sequence[StoredRecord]
    ack: Callable[[], object]


class PartitionTask:
    """The task of one partition, from its assignment to its revocation."""

    def __init__(
        self,
        deployment: Deployment,
        partition: int,
        budget: CheckpointBudget,
        held: Held | None = None,
        standby: Standby | ChainStandby | None = None,
    ) -> None:
        """`budget` is for the checkpoints of all partitions of the worker; times are the running loop's."""
        self._now = asyncio.get_running_loop().time
        self._deployment = deployment
        self._held = held
        self._standby = standby
        self._frames: asyncio.Queue[Frame | int | None] = asyncio.Queue()
        # a number among the frames ends the serving by the owner with that number
        self._served = 0
        self._at_hand: deque[Frame] = deque()
        self._stopping = asyncio.Event()
        self._waits = False
        self._comes_back, self._comes_back_at = False, 0.0
        self._reported_strangers = False
        self._was_beside = False
        # at other times than the worker's other partitions: answers wait for what all of them ask at once
        turn = (partition * deployment.stages + deployment.stage) * _EVENLY % 1.0
        self._looked = self._now() - turn * LOOK_EVERY
        self._looking: asyncio.Task[None] | None = None
        self._outage: Outage | None = None
        self.name = deployment.name(partition)
        self._standstill = Standstill(self.name)
        self._owned: OwnedPartition | None = None
        self._checkpointing = Checkpointing(self.name, budget)
        self._task: asyncio.Task[None] | None = None
        self._recovery_started = 0.0
        self._because = "assigned"
        self._tally = PublishedTally()
        self.take_overs: Counter[str] = Counter()
        """How often the partition was taken over here, by reason: assigned, renewed, or the name of an
        error."""
        self.partition = partition
        self.state: CustodyState = "taking over"
        self.reason = ""
        self.superseded = False
        """Whether newer code has taken the partition over."""
        self._last_record = self._now()

    @property
    def idle_seconds(self) -> float:
        """Seconds without a record."""
        return self._now() - self._last_record

    @property
    def _idle(self) -> bool:
        """Whether everything handed over is answered."""
        return self._waits and not self._at_hand

    @property
    def stalled(self) -> str:
        """Why the partition counts as stalled; empty if it does not."""
        return self._standstill.reason

    @property
    def owned(self) -> OwnedPartition | None:
        """Processor and outbox, once taken over."""
        return self._owned

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends when `stop` is called, or with the error that ended it."""
        self._task = asyncio.create_task(self._run(), name=f"partition {self.name}")
        return self._task

    def put(self, frame: Frame) -> None:
        """Hand records over; the transport bounds how many wait."""
        self._frames.put_nowait(frame)

    async def _run(self) -> None:
        about(partition=self.name, offset=lambda: self._owned.acknowledged if self._owned else None)
        while not self._stopping.is_set():
            try:
                await self._own()
                await self._serve()
                await self._set_down()
            except OtherCode as error:
                self.superseded = True
                await self._refuse(error)
            except TopologyRefused as error:
                await self._refuse_for_now(error)
            except FeaturesError:
                raise  # the online store takes no rows, which is so for all partitions
            except Exception as error:
                pause = pause_after(error)
                if pause is None:
                    await self._refuse(error)
                else:
                    await self._retry(error, pause)

    async def _own(self) -> None:
        if self.state != "refused":  # as it is shown until the take-over succeeds
            self.state = "taking over"
        if not await self._approach():
            return
        held, self._held = self._held, None
        # until the partition is this code's, the next attempt needs the standby too
        self._owned = owned = await take_over(self._deployment, self.partition, held, self._standby)
        owned.tally.continues(self._tally)
        self._tally = owned.tally
        self._standby = None
        self._was_beside = self._deployment.is_beside
        self.take_overs[self._because] += 1
        self._served += 1
        owned.on_acknowledged = self._answered
        owned.on_failure = partial(self._end_serving, self._served)
        self._checkpointing.begin()
        self._comes_back = True
        self._recovery_started = self._now()
        self.state = "recovering"
        async for _ in owned.recover():
            self._checkpointing.folded(owned)
            self._checkpointing.look(owned)
            if self._stopping.is_set():
                return
        self._answered()  # records queued when the partition was lost: the log has been folded to its end
        self.state = "serving"
        self.reason = ""
        progress = owned.progress
        log.info(
            "partition %s: recovered from offset %d to %d in %.1f s",
            self.name,
            progress.begin,
            progress.until,
            self._now() - self._recovery_started,
        )

    async def _approach(self) -> bool:
        """Beside the code that serves a chain, fold the last stage until it may be taken over; False when the
        task is to end before."""
        handover = self._deployment.handover
        if handover is None or handover.is_done or not self._deployment.is_last:
            return True
        self._standby = standby = await handover.standby(self.partition)
        while standby is not None and not self._stopping.is_set():
            folded = await standby.approach()
            if (alignment := self._deployment.alignment) is not None:
                alignment.come_to(Target(self._deployment.stage, self.partition), standby.time)
            standby.is_close = folded <= CLOSE_BEHIND
            if handover.is_cleared and standby.is_close:
                break
            await self._pause(LOOK_EVERY_BESIDE)
        return not self._stopping.is_set()

    async def _serve(self) -> None:
        owned = self._owned
        if owned is None:
            return
        begin: int | None = None
        while not self._stopping.is_set():
            frame = await self._next_frame(owned)
            self._waits = False
            if frame is None or frame == self._served:
                break
            if isinstance(frame, int):
                continue  # it belongs to an earlier owner
            records = frame.records
            self._at_hand.append(frame)
            await owned.advance(records, records[0].offset if begin is None else begin)
            begin = records[-1].offset + 1
            await self._taken_in(owned)
        await owned.settled()

    async def _next_frame(self, owned: OwnedPartition) -> Frame | int | None:
        """The next frame. While there is none, windows come back into memory, after a restore: for a share of
        the time, so that a frame that comes meanwhile seldom waits."""
        self._waits = True
        while self._frames.empty() and self._comes_back:
            left = self._comes_back_at - self._now()
            if left <= 0.0:
                begun = self._now()
                self._comes_back = owned.processor.paged.read_ahead()
                left = (self._now() - begun) / COMES_BACK_SHARE
                self._comes_back_at = begun + left
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await self._frames.get()
        return await self._frames.get()

    async def _taken_in(self, owned: OwnedPartition) -> None:
        """A frame was folded; its outputs are published later."""
        self._answered(owned.acknowledged)  # a frame that was folded before has no outputs to wait for
        self._report_strangers(owned)
        self._last_record = self._now()
        self._checkpointing.folded(owned)
        if self._checkpointing.is_due:
            await owned.settled()
            self._checkpointing.look(owned)
        await asyncio.sleep(0)  # frames that wait here must delay neither other partitions nor the outputs

    def _answered(self, until: float = inf) -> None:
        """Acknowledge the frames before offset `until`, whose outputs are acknowledged: the transport bounds
        the frames that are not."""
        while self._at_hand and self._at_hand[0].records[-1].offset < until:
            self._at_hand.popleft().ack()

    def _end_serving(self, served: int) -> None:
        """Have the partition taken over again, unless that has happened meanwhile."""
        if served == self._served and self.state == "serving":
            self._frames.put_nowait(served)

    def _report_strangers(self, owned: OwnedPartition) -> None:
        """Report once that the partition gets records which belong in others."""
        reason = owned.processor.last_stranger
        if reason and not self._reported_strangers:
            self._reported_strangers = True
            log.error(
                "partition %s: %s. Such records are dead letters of stage 'partition', and counted as "
                "misplaced by `driftline status`",
                self.name,
                reason,
            )

    async def _set_down(self) -> None:
        """Close the outbox of a partition whose fence is to be renewed; its state is kept."""
        if not self._stopping.is_set() and self._owned is not None:
            if self._owned.knows_store:
                held_back = self._owned.held_back
                letters = () if held_back is None else held_back.letters
                self._held = Held(self._owned.header(), self._owned.processor, letters)
            self._because = "renewed"
            await self._drop()

    async def _retry(self, error: Exception, pause: float) -> None:
        """Drop state and outbox, and take the partition over again after a pause, as after a failed send."""
        self.state = "retrying"
        self._because = type(error).__name__
        self.reason = f"{type(error).__name__}: {error}"
        log.error("partition %s: %s; taking it over again", self.name, error)
        await self._drop()
        await self._pause(pause)

    async def _refuse(self, error: Exception) -> None:
        """Stop serving this partition until it is given back: continuing could lose or repeat something."""
        self.state = "refused"
        is_known = isinstance(error, StreamsError)
        fault = None if is_known and not isinstance(error, FoldFault) else error
        self.reason = str(error) if is_known else f"a fault of driftline: {type(error).__name__}: {error}"
        log.error("partition %s is not served: %s", self.name, self.reason, exc_info=fault)
        await self._drop()
        await self._stopping.wait()

    async def _refuse_for_now(self, error: TopologyRefused) -> None:
        """Stop serving until the topics can be served: a broker that is starting may not know them yet."""
        reason = f"{error}"
        if (self.state, self.reason) != ("refused", reason):
            log.error("partition %s is not served: %s", self.name, reason)
        self.state, self.reason = "refused", reason
        await self._drop()
        await self._pause(LOOK_EVERY)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _drop(self) -> None:
        owned, self._owned = self._owned, None
        if owned is not None:
            gc.unfreeze()  # a state to be collected may have been set apart
            await owned.close()

    def tick(self) -> None:
        """Called regularly. It notices changed topics, records that wait but are not handed over, and, for an
        idle partition, what the next record would else show. An idle partition gets its checkpoint and a
        renewed fence here too."""
        owned, now = self._owned, self._now()
        if self._was_beside and not self._deployment.is_beside and self.state == "serving":
            self._was_beside = False
            self._end_serving(self._served)
            return
        if self._idle:
            if owned is not None:
                self._checkpointing.look(owned)
            if owned is not None and self.idle_seconds > RENEW_AFTER:
                self._last_record = now
                self._end_serving(self._served)
                return
        if owned is not None and self.state == "serving" and owned.owes_rows:
            self._end_serving(self._served)
            return
        if owned is not None and now - self._looked > LOOK_EVERY and not self._is_looking:
            self._looked = now
            # not awaited: the status reports a broker that is away, so it must not wait for it
            self._looking = asyncio.create_task(self._look(owned))

    @property
    def _is_looking(self) -> bool:
        return self._looking is not None and not self._looking.done()

    async def _look(self, owned: OwnedPartition) -> None:
        """Take the partition over again if another owner did, or if its topics have changed."""
        try:
            outdated = await owned.has_other_topics() or await self._is_outdated(owned)
            if self.state != "serving":
                self._standstill.over()
            elif not outdated:
                await self._standstill.look(owned, idle=self._idle)
        except TopologyRefused:
            outdated = True  # a new take-over reports in full
        except Exception as error:
            self._standstill.over()  # a worker that cannot reach the broker gets no records either
            self._outage = self._outage or Outage(f"partition {self.name}: asking the broker", self._now)
            self._outage.failed(error)
            # a lasting cause is reported in full by a new take-over
            outdated = not is_broker_trouble(error)
        else:
            if self._outage is not None:
                self._outage.ended()
                self._outage = None
        if outdated and owned is self._owned:
            self._end_serving(self._served)

    async def _is_outdated(self, owned: OwnedPartition) -> bool:
        """Whether another owner has taken an idle partition over; it stayed idle during the check."""
        if not self._idle:
            return False
        asked = self._last_record
        return await owned.is_outdated() and self._idle and asked == self._last_record

    async def stop(self) -> Held | None:
        """Finish the records at hand, store a last checkpoint, give the partition back. Returns the state for
        a later take-over by this process; None if it is incomplete.
        """
        self._stopping.set()
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)
        task = self._task
        if task is not None and not task.done():
            done, _ = await asyncio.wait([task], timeout=STORED_WITHIN)
            if not done:
                task.cancel()
                await asyncio.wait([task])
        self.state = "given back"
        owned = self._owned  # kept for the last status
        if owned is None:
            return None
        with suppress(TimeoutError, FeaturesError):  # a state without a known store is not kept
            async with asyncio.timeout(STORED_WITHIN):
                await owned.reach_store()
        held = Held(owned.header(), owned.processor) if owned.is_whole else None
        if held is not None:
            await self._checkpointing.last(owned)
        await owned.close()
        return held

    def status(self) -> dict[str, Any]:
        """What `driftline status` shows of the partition."""
        owned = self._owned
        status: dict[str, Any] = {"state": self.state, "reason": self.reason}
        if owned is not None:
            status["next_offset"] = owned.acknowledged
            status["references"] = msgspec.to_builtins(owned.processor.known_references())
            if owned.processor.warming:
                status["warming_up"] = True
            if self.state == "recovering":
                progress = owned.progress
                seconds = max(self._now() - self._recovery_started, 1e-3)
                status["recovery"] = {
                    "from": progress.begin,
                    "at": progress.at,
                    "until": progress.until,
                    "records_per_second": round((progress.at - progress.begin) / seconds, 1),
                }
        return status | self._checkpointing.status()
