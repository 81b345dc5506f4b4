"""The pools that a learner publishes to its replicas, compared by what they answer by.

Their bytes are those of one owner, while another one publishes the same pool in others. Replicas and their
learner send to each other, so neither can be audited with what the other received at hand: pools are compared
when both are audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from driftline.streams.between.activations import Activations, Sealing
from driftline.streams.between.stage_record import decode_model_record
from driftline.streams.code.state_hash import state_hash
from driftline.streams.proof.audit import PartitionAudit
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import Send, Target
from driftline.streams.stages.places import StagePlaces


class PoolsSent:
    """The pools that one replica is sent: `content` has a text of each, which is equal for equal pools."""

    def __init__(self, case: str, seal: Sealing) -> None:
        self._activations = Activations(case, seal)
        self.content: list[str] = []

    def take(self, value: bytes | None) -> bool:
        """Whether a record is a part of a pool, which is taken in."""
        told = decode_model_record(value)
        if told.part is None:
            return False
        snapshot = self._activations.take(told)
        if snapshot is not None:
            self.content.append(f"{told.number}:{told.offset}:{told.watermark}:{state_hash(snapshot)}")
        return True


class Publications:
    """The pools that a learner sends to each of its replicas, as its topic gives them."""

    def __init__(self, case: str, seal: Sealing) -> None:
        self._case = case
        self._seal = seal
        self._sent: dict[Target, PoolsSent] = {}

    def take(self, sends: Iterable[Send]) -> None:
        """The next records that the learner's topic gives."""
        for reader, value in sends:
            self._sent.setdefault(reader, PoolsSent(self._case, self._seal)).take(value)

    def content(self) -> dict[Target, list[str]]:
        """By replica."""
        return {reader: pools.content for reader, pools in self._sent.items()}


def compare_pools(
    places: StagePlaces,
    learner: Target,
    made: Mapping[Target, Sequence[str]],
    received: Mapping[Target, Sequence[str]],
    audit: PartitionAudit,
) -> None:
    """Compare the pools that a learner's topic gives with those that its replicas received. Either may know
    more than the other, which was read at another time."""
    for reader, there in received.items():
        for number, (own, known) in enumerate(zip(made.get(reader, ()), there, strict=False), 1):
            if own == known:
                audit.checked += 1
                audit.equal += 1
                continue
            field = f"pool {number} from {places.name(learner)}"
            source, behind_all = f"{audit.folded}:{number}", audit.folded
            place = places.input(reader)
            audit.differs(Difference("different", *place, None, source, behind_all, field, known, own, None))
