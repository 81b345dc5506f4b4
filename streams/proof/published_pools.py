"""The pools that a learner publishes to its replicas, compared by what they answer by.

Their bytes are those of one owner, while another one publishes the same pool in others. Replicas and their
learner send to each other, so neither can be audited with what the other received at hand: pools are compared
when both are audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from driftline.online_models.pool.replica import PoolSnapshot
from driftline.streams.between.activations import Activations, Sealing
from driftline.streams.between.stage_record import decode_model_record
from driftline.streams.code.state_hash import state_hash
from driftline.streams.proof.audit import PartitionAudit
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import Send, Target
from driftline.streams.stages.places import StagePlaces

HASHES_KEPT = 8
"""Pools whose hash is not computed again when the same bytes come to another replica."""


class SentPool(NamedTuple):
    """A pool that one replica is sent: its number, the offset of the record that caused it, the watermark
    there, and the canonical hash of what answers depend on."""

    number: int
    offset: int
    watermark: float
    hash: str


class PoolHashes:
    """The hashes of the newest pools, by the sha256 of their bytes: each replica is sent the same."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def of(self, whole: bytes, snapshot: PoolSnapshot) -> str:
        """The canonical hash of the pool whose bytes have this sha256."""
        found = self._known.get(whole)
        if found is None:
            found = self._known[whole] = state_hash(snapshot)
            for oldest in list(self._known)[:-HASHES_KEPT]:
                del self._known[oldest]
        return found


class PoolsSent:
    """The pools that one replica is sent, in `content`: equal ones whichever owner has sent them. The newest
    `hashes` may be shared."""

    def __init__(self, case: str, seal: Sealing, hashes: PoolHashes | None = None) -> None:
        self._activations = Activations(case, seal)
        self._hashes = PoolHashes() if hashes is None else hashes
        self.content: list[SentPool] = []

    def take(self, value: bytes | None) -> bool:
        """Whether a record is a part of a pool, which is taken in."""
        model_record = decode_model_record(value)
        if model_record.part is None:
            return False
        snapshot = self._activations.take(model_record)
        if snapshot is not None:
            found = self._hashes.of(model_record.part.whole, snapshot)
            self.content.append(
                SentPool(model_record.number, model_record.offset, model_record.watermark, found)
            )
        return True


class Publications:
    """The pools that a learner sends to each of its replicas, as its topic gives them."""

    def __init__(self, case: str, seal: Sealing) -> None:
        self._case = case
        self._seal = seal
        self._hashes = PoolHashes()
        self._sent: dict[Target, PoolsSent] = {}

    def take(self, sends: Iterable[Send]) -> None:
        """The next records that the learner's topic gives."""
        for reader, value in sends:
            if reader not in self._sent:
                self._sent[reader] = PoolsSent(self._case, self._seal, self._hashes)
            self._sent[reader].take(value)

    def content(self) -> dict[Target, list[SentPool]]:
        """By replica."""
        return {reader: pools.content for reader, pools in self._sent.items()}


def pool_difference(
    places: StagePlaces, learner: Target, reader: Target, made: SentPool, received: SentPool
) -> Difference | None:
    """How a pool that a replica received differs from the one that its learner's topic gives; None if it does
    not."""
    if made == received:
        return None
    field = f"pool {received.number} from {places.name(learner)}"
    there, given = (f"offset {one.offset}, watermark {one.watermark}, {one.hash}" for one in (received, made))
    place, source = places.input(reader), f"{made.offset}:0"
    return Difference("different", *place, None, source, made.offset, field, there, given, None)


def compare_pools(
    places: StagePlaces,
    learner: Target,
    made: Mapping[Target, Sequence[SentPool]],
    received: Mapping[Target, Sequence[SentPool]],
    audit: PartitionAudit,
) -> None:
    """Compare the pools that a learner's topic gives with those that its replicas received. Either may know
    more than the other, which was read at another time."""
    for reader, there in received.items():
        for own, known in zip(made.get(reader, ()), there, strict=False):
            difference = pool_difference(places, learner, reader, own, known)
            if difference is not None:
                audit.differs(difference)
                continue
            audit.checked += 1
            audit.equal += 1
