"""What was published after a take-over from other code is recomputed as the code that took over folded it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import shop

from driftline import Member, PerKey, derive
from driftline.streams.archive.epochs import Code, CodeEpoch, stretches_asked
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.checkpoints.tails import Tail
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.errors import StreamsError
from driftline.streams.fold.inheritance import Bequest
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.proof.audit import AuditedRange, PartitionAudit, PublishedTopic, audit_partition
from driftline.streams.proof.refold import Refold
from driftline.streams.records.outputs import KINDS, Output
from driftline.streams.records.ports import Extent, Place, StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition, headers_of, position_of
from driftline.streams.simulation.sources import layout
from tests.streams.proof.in_memory import InMemory

CASE = shop.orders


def refuses_some(event: Any) -> float:
    return 1 / 0 if int(event.order[1:]) % 5 == 1 else 1.0


OTHER_CASE = replace(
    CASE,
    models=PerKey(champion=Member("constant", shop.TurnsNaN), frozen_after=20),
    features=CASE.features | {"picky": derive(refuses_some)},
)
TOPICS = CASE.topics()
ARITHMETIC = Fingerprint("3.11", "b" * 64, "c" * 64)
OWN, OTHER = Code("a" * 64, ARITHMETIC), Code("e" * 64, ARITHMETIC)
CASES = {OWN: CASE, OTHER: OTHER_CASE}


def as_record(offset: int, output: Output) -> ArchivedRecord:
    return ArchivedRecord(offset, 0, output.key, output.value, tuple(headers_of(output)))


class Held(InMemory):
    """One partition of each topic, in memory."""

    def __init__(self) -> None:
        placed = [r for p, r in layout(CASE, shop.trade(150), CASE.partitions) if p == 0]
        super().__init__({getattr(TOPICS, kind): [] for kind in KINDS}, chunk=5)
        self.topics[TOPICS.log] = [ArchivedRecord(r.offset, 0, r.key, r.value, ()) for r in placed]
        self.epochs: list[CodeEpoch] = []

    @property
    def log(self) -> list[ArchivedRecord]:
        return self.topics[TOPICS.log]

    def tails(self) -> dict[str, SourcePosition]:
        ends = {kind: self.topics[getattr(TOPICS, kind)][-1:] for kind in KINDS}
        return {kind: position_of(last[0].headers) if last else NOTHING for kind, last in ends.items()}

    async def serve(self, code: Code, until: int) -> None:
        """Take over, as an owner with this code does, and publish up to an offset of the log."""
        tails = self.tails()
        inherits = any(epoch.code != code for epoch in self.epochs)
        furthest = max(position[0] for position in tails.values())
        self.epochs.append(CodeEpoch(0, furthest + 1, code, tails))
        processor = PartitionProcessor(CASES[code], 0)
        standby = Standby(Deployment(CASES[code], code, TOPICS, Broker(self), None, None), 0, rows=False)  # type: ignore[arg-type]
        standby.see(
            {kind: Tail(at, self.end(getattr(TOPICS, kind), 0) - 1, None) for kind, at in tails.items()}
        )
        bequest = Bequest.up_to(tails, stretches_asked(self.epochs, "asked"))
        for records in self.records(TOPICS.log, 0, 0, until):
            out = await standby.fold(records, bequest) if inherits else processor.step(records)
            for kind in KINDS:
                topic = self.topics[getattr(TOPICS, kind)]
                for output in getattr(out, kind):
                    if (output.offset, output.ordinal) > tails[kind]:
                        topic.append(as_record(self.end(getattr(TOPICS, kind), 0), output))


class Broker:
    """The same topics, as an owner reads them."""

    def __init__(self, held: Held) -> None:
        self._held = held

    async def extents(self, places: Sequence[Place]) -> Mapping[Place, Extent]:
        return {place: Extent("id", self._held.begin(*place), self._held.end(*place)) for place in places}

    async def read(self, place: Place, begin: int, end: int) -> AsyncIterator[Sequence[StoredRecord]]:
        for records in self._held.records(*place, begin, end):
            yield records


def audit(held: Held, code: Code, *, chunk: int = 7, plain: bool = False) -> PartitionAudit:
    published = {
        kind: PublishedTopic(topic, held.begin(topic, 0), held.records(topic, 0, 0, held.end(topic, 0)))
        for kind in KINDS
        for topic in (getattr(TOPICS, kind),)
    }
    case = CASES[code]
    refold = PartitionProcessor(case, 0) if plain else Refold(case, held, TOPICS, 0, code, held.epochs)
    log = (held.log[i : i + chunk] for i in range(0, len(held.log), chunk))
    *_, found = audit_partition(0, code, held.epochs, log, published, refold.step, AuditedRange())
    return found


@pytest.fixture(params=[0, 1, 4])
def held(request: pytest.FixtureRequest) -> Held:
    """Other code and this code by turns; each left off with some outcomes and predictions unpublished."""
    held = Held()
    missing = request.param

    async def turns() -> None:
        end = len(held.log)
        for code, until in ((OTHER, end // 4), (OWN, end // 2), (OTHER, 3 * end // 4), (OWN, end)):
            await held.serve(code, until)
            if missing and until < end:
                del held.topics[TOPICS.outcomes][-missing:]
                del held.topics[TOPICS.predictions][-1:]

    asyncio.run(turns())
    return held


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("code", [OWN, OTHER])
def test_each_code_finds_its_own_stretches_equal(held: Held, code: Code, chunk: int) -> None:
    found = audit(held, code, chunk=chunk)
    assert found.first_difference is None
    assert found.checked == found.equal > 40
    ((reason, count),) = found.unchecked.items()
    assert reason.startswith("other code")
    assert found.checked + count == sum(len(held.topics[getattr(TOPICS, kind)]) for kind in KINDS)


def test_without_what_stood_it_would_be_other_bytes(held: Held) -> None:
    assert audit(held, OWN, plain=True).first_difference is not None


def test_a_flipped_byte_after_a_take_over_is_detected(held: Held) -> None:
    predictions = held.topics[TOPICS.predictions]
    predictions[-3] = predictions[-3]._replace(value=(predictions[-3].value or b"").replace(b"0.", b"1.", 1))
    found = audit(held, OWN)
    assert (found.checked - found.equal, found.first_difference is not None) == (1, True)


def test_what_other_code_published_and_cannot_be_read_is_reported(held: Held) -> None:
    predictions = held.topics[TOPICS.predictions]
    predictions[2] = predictions[2]._replace(value=b"{")
    with pytest.raises(StreamsError, match="took over from other code cannot be read"):
        audit(held, OWN)


def test_deleted_predictions_of_other_code_are_asked_for(held: Held) -> None:
    del held.topics[TOPICS.predictions][:5]
    with pytest.raises(StreamsError, match=r"offsets \[0, 5\) are missing.*took over from other code"):
        Refold(CASE, held, TOPICS, 0, OWN, held.epochs)
