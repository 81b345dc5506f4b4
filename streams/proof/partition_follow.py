"""The audit of one partition beside its workers: it goes on as the partition's topic does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from driftline.streams.archive.epochs import Code, is_epoch, recorded_epochs
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.proof.audit import AuditedRange, PartitionAuditor, PublishedTopic
from driftline.streams.proof.refold import Refold
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import Place

OFFSETS_AT_ONCE = 20_000
"""Offsets of one partition that are folded before the others have their turn."""


class EpochAdded(Exception):
    """Other code has taken over, or this one: what may be compared is another stretch now."""


class PartitionFollower(ABC):
    """The audit of one partition: `name` is that of `driftline status`, `place` the topic that is folded, and
    `outputs` are the places of what is published, by kind."""

    def __init__(self, past: Past, name: str, place: Place, outputs: Mapping[str, Place]) -> None:
        self._past = past
        self.name = name
        self.place = place
        self._outputs = outputs
        self._begin()

    def _begin(self) -> None:
        """From the start of the topic, with the code epochs that there are by now."""
        past, outputs = self._past, self._outputs
        begins = {kind: past.begin(*place) for kind, place in outputs.items()}
        # what they hold by now is read with its epochs; those that come later are noticed
        self._read = {kind: past.end(*place) for kind, place in outputs.items()}
        self._auditor = self._new_auditor(
            {
                kind: PublishedTopic(
                    place.topic,
                    begins[kind],
                    past.records(*place, begins[kind], self._read[kind]),
                    place.partition,
                )
                for kind, place in outputs.items()
            }
        )
        self.next_offset = 0

    @abstractmethod
    def _new_auditor(self, published: Mapping[str, PublishedTopic]) -> PartitionAuditor:
        """The audit of the partition before its first record, with the code epochs that there are by now."""

    @property
    def verified(self) -> int:
        """The offset before which all that was published and sent is proved, or is of other code."""
        found = self.difference
        return self.next_offset if found is None else found.log_offset

    @property
    def difference(self) -> Difference | None:
        """The first one."""
        return self._auditor.audit.first_difference

    @property
    def counts(self) -> tuple[int, int, int]:
        """Records compared, those of them that differ, and those that are not compared."""
        found = self._auditor.audit
        return found.checked, found.checked - found.equal, sum(found.unchecked.values())

    def look(self, folded: int) -> bool:
        """Compare what the topic gives before the offset `folded`, a piece of it at most; whether all is
        done. Raises EpochAdded."""
        until = min(folded, self.next_offset + OFFSETS_AT_ONCE)
        if until <= self.next_offset:
            return True
        for kind, place in self._outputs.items():
            self._auditor.published(kind, self._published_since(kind, place))
        for records in self._past.records(*self.place, self.next_offset, until):
            self._auditor.folded(records)
        self.next_offset = until
        return until == folded

    def _published_since(self, kind: str, place: Place) -> list[list[ArchivedRecord]]:
        begin = self._read[kind]
        self._read[kind] = end = self._past.end(*place)
        # read at once: a reader that is left open keeps the process from ending
        chunks = list(self._past.records(*place, begin, end))
        if any(is_epoch(record) for chunk in chunks for record in chunk):
            raise EpochAdded
        return chunks


class LogFollower(PartitionFollower):
    """The audit of one partition of a case that is one fold."""

    def __init__(self, case: UseCase, topics: Topics, code: Code, past: Past, partition: int) -> None:
        self._case, self._topics, self._code = case, topics, code
        outputs = {kind: Place(getattr(topics, kind), partition) for kind in KINDS}
        super().__init__(past, str(partition), Place(topics.log, partition), outputs)

    def _new_auditor(self, published: Mapping[str, PublishedTopic]) -> PartitionAuditor:
        code, number = self._code, self.place.partition
        epochs = recorded_epochs(self._past, self._topics.models, number)
        refold = Refold(self._case, self._past, self._topics, number, code, epochs)
        return PartitionAuditor(
            number, code, epochs, published, refold.step, AuditedRange(), is_complete=True
        )

    def look(self, folded: int) -> bool:
        """As of any partition. It starts again when a code epoch has been added, which may say that this code
        took over from other code; no other partition depends on it."""
        try:
            return super().look(folded)
        except EpochAdded:
            self._begin()
            return False
