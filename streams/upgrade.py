"""New code takes over from other code, without an outage.

Beside the code that serves, the new one folds each partition from its start as far as outputs are
published, taking published predictions as they are. When it is close behind, it fences the other code
out, folds the rest, and serves on from there. A code epoch on the models topic says from where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.broker import StoredRecord
from streams.checkpoint import CheckpointHeader, Refusal, input_hash, load
from streams.deployment import Deployment
from streams.errors import StreamsError
from streams.outputs import Outputs
from streams.positions import Position
from streams.processor import PartitionProcessor
from streams.published import PublishedOutputs
from streams.tails import OutputMark, read_tail


class LogRemade(StreamsError):
    """The log is another one than at the beginning of the upgrade."""


HELD_BACK = 1_000
"""Records that stay unfolded before the newest published prediction. The outputs of one step may be
published in part; every step before it is published whole, and none has half as many records."""
CLOSE_BEHIND = 3_000
"""Records behind the log's end at which a partition can change hands."""


class Standby:
    """One partition under new code, silent, beside the code that serves it."""

    def __init__(self, deployment: Deployment, partition: int) -> None:
        self._deployment = deployment
        self.partition = partition
        self.processor = PartitionProcessor(deployment.case, partition, rows=deployment.rows is not None)
        places = deployment.outputs(partition)
        self._published = PublishedOutputs(deployment.broker, places["predictions"], places["outcomes"])
        self._last: StoredRecord | None = None
        self._log_id = ""

    async def approach(self) -> int:
        """Fold as far as predictions are published; returns how many records are left behind.

        Raises RecordsMissing when the log's start is gone, and LogRemade when it was made anew.
        """
        deployment = self._deployment
        log_place = deployment.log(self.partition)
        place = deployment.outputs(self.partition)["predictions"]
        extents = await deployment.broker.extents([log_place, place])
        log = extents[log_place]
        if self._log_id and self._log_id != log.topic_id:
            raise LogRemade(f"{log_place} was made anew during the upgrade: start it again")
        self._log_id = log.topic_id
        mark = (await self.marks()).get("predictions")
        through = (await read_tail(deployment.broker, place, extents[place], mark)).position
        async for records in deployment.broker.read(
            log_place, self.processor.next_offset, min(through[0] + 1 - HELD_BACK, log.end)
        ):
            await self.fold(records, through)
        return log.end - self.processor.next_offset

    async def fold(self, records: Sequence[StoredRecord], through: Position) -> Outputs:
        """Fold records, of which predictions up to `through` are published."""
        last = records[-1].offset
        published = await self._published.predictions(min(through, (last + 1, -1)))
        self._last = records[-1]
        return self.processor.step(records, published)

    async def reconcile(self, through: Position, own: Outputs) -> None:
        """Outcomes up to `through` are published, by other code, and those in `own` after them."""
        waiting = self.processor.scorer.waiting()
        await self._published.outcomes(through, waiting)
        for output in own.outcomes:
            if (output.offset, output.ordinal) > through:
                self._published.note(output.value)
        self.processor.scorer.reconcile(self._published.revisions)

    async def marks(self) -> Mapping[str, OutputMark]:
        """What the newest checkpoint of any code remembers of the outputs."""
        deployment = self._deployment
        for name in reversed(list(await deployment.checkpoints.names(self.partition))):
            try:
                found = await load(
                    deployment.checkpoints, name, deployment.topics.log, self.partition, deployment.seal
                )
            except Refusal:
                continue  # whoever takes over tells of it
            return found.header.outputs
        return {}

    async def header(self) -> CheckpointHeader:
        """What the state is of."""
        return CheckpointHeader(
            self._deployment.topics.log,
            self._log_id,
            self.partition,
            self._deployment.case.partitions,
            self.processor.next_offset,
            input_hash(self._last) if self._last is not None else "",
            self._deployment.code,
            dict(await self.marks()),
        )


class Inheritance:
    """The steps of a partition just taken over from other code, while its outputs are still that code's.

    `tails` are how far the other code published, by kind of output.
    """

    def __init__(self, standby: Standby, tails: Mapping[str, Position]) -> None:
        self._standby = standby
        self._predictions = tails["predictions"]
        self._outcomes = tails["outcomes"]
        self._reconciled = False

    @property
    def is_over(self) -> bool:
        """Whether everything from here on is this code's own."""
        return self._reconciled and self._standby.processor.next_offset > self._predictions[0]

    async def step(self, records: Sequence[StoredRecord]) -> Outputs:
        """As `PartitionProcessor.step`."""
        out = Outputs()
        before = [record for record in records if record.offset <= self._outcomes[0]]
        if before:
            out = await self._standby.fold(before, self._predictions)
        after = records[len(before) :]
        if after:
            if not self._reconciled:
                await self._standby.reconcile(self._outcomes, out)
                self._reconciled = True
            out.extend(await self._standby.fold(after, self._predictions))
        return out
