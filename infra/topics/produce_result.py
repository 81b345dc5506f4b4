"""What became of events that were sent: how many the workers have refused, and why."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from driftline.infra.topics.committed_offsets import folded_offsets, worker_groups
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import REPORT_ONLY
from driftline.streams.records.positions import header_texts, source_of

PATIENCE = 15.0
"""Seconds without any progress of the workers after which they are not waited for any more."""
LAG_READ_EVERY = 0.25


class SentOffsets:
    """The offsets of sent records by partition, as stretches without a gap."""

    def __init__(self) -> None:
        self._begins: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}

    def add(self, partition: int, offset: int) -> None:
        """A record was appended; offsets of a partition come in order."""
        ends = self._ends.setdefault(partition, [])
        if ends and ends[-1] == offset:
            ends[-1] = offset + 1
            return
        ends.append(offset + 1)
        self._begins.setdefault(partition, []).append(offset)

    def __contains__(self, place: tuple[int, int]) -> bool:
        partition, offset = place
        number = bisect_right(self._begins.get(partition, []), offset) - 1
        return number >= 0 and offset < self._ends[partition][number]

    def ends(self) -> dict[int, int]:
        """The offset after the last one of each partition."""
        return {partition: ends[-1] for partition, ends in self._ends.items()}


@dataclass(frozen=True, slots=True)
class SentRefusals:
    """Dead letters of what was sent, by stage, with a reason of each; offsets that no worker has reached, and
    whether one serves at all. `behind_the_log` are letters that stages behind the log have written meanwhile:
    these are not known by the record that was sent, and may be of other events."""

    stages: Counter[str]
    reasons: dict[str, str] = field(default_factory=dict)
    behind: int = 0
    is_served: bool = True
    behind_the_log: int = 0

    @property
    def refused(self) -> int:
        """Events that were not taken in."""
        return sum(count for stage, count in self.stages.items() if stage not in REPORT_ONLY)

    def lines(self, case: str) -> Iterator[str]:
        """Lines for people."""
        for stage, count in sorted(self.stages.items()):
            what = "accepted, but reported" if stage in REPORT_ONLY else "refused"
            yield f"{count:,} {what} ({stage}), such as: {self.reasons[stage]}"
        if self.behind_the_log:
            yield (
                f"{self.behind_the_log:,} dead letters have come meanwhile from stages behind the log, of "
                "these events or others"
            )
        if self.stages or self.behind_the_log:
            yield f"all of them: driftline dead-letters tail {case}"
        if not self.is_served:
            yield "no worker serves the case, so none has checked them: see driftline status later"
        elif self.behind:
            yield (
                f"the workers have stood still for {PATIENCE:g} s, {self.behind:,} offsets before the end: "
                "what they will refuse is not known. See driftline status"
            )


class DeadLetters:
    """The dead letters of a case from here on."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        with LogReader(bootstrap) as reader:
            self._begins = {n: reader.extent(topics.dead_letters, n)[1] for n in self._numbers(reader)}

    def _numbers(self, reader: LogReader) -> list[int]:
        topic = reader.topic(self._topics.dead_letters)
        return [] if topic is None else topic[1]

    def of(self, sent: SentOffsets) -> SentRefusals:
        """Those that the sent records have caused, once the workers have reached their end or stopped
        moving."""
        is_served, behind = self._awaited(sent.ends())
        stages: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        behind_the_log = 0
        for number, letter in self._written():
            position = source_of(letter.headers)
            if number >= self._topics.partitions:
                behind_the_log += 1
            elif position is not None and (number, position[0]) in sent:
                headers = header_texts(letter.headers)
                stages[headers["stage"]] += 1
                reasons.setdefault(headers["stage"], headers["reason"])
        return SentRefusals(stages, reasons, behind, is_served, behind_the_log)

    def _written(self) -> Iterator[tuple[int, ArchivedRecord]]:
        """The dead letters from the beginning of this object on, with their partitions."""
        with LogReader(self._bootstrap) as reader:
            for number, begin in self._begins.items():
                end = reader.extent(self._topics.dead_letters, number)[1]
                for chunk in reader.chunks(self._topics.dead_letters, number, begin, end):
                    yield from ((number, letter) for letter in chunk)

    def _awaited(self, ends: dict[int, int]) -> tuple[bool, int]:
        """Wait for the workers to reach these offsets; whether there are any, and how many are left."""
        from driftline.streams.connection import clients

        with closing(clients.admin(self._bootstrap)) as admin:
            moved, before = time.monotonic(), -1
            while True:
                groups = worker_groups(admin, self._topics.readers)
                behind = self._behind(admin, groups, ends)
                if not behind or not groups:
                    return bool(groups), behind
                if behind != before:
                    moved, before = time.monotonic(), behind
                elif time.monotonic() - moved > PATIENCE:
                    return True, behind
                time.sleep(LAG_READ_EVERY)

    def _behind(self, admin: Any, groups: list[str], ends: dict[int, int]) -> int:
        """Offsets that no group has committed."""
        done = folded_offsets(admin, self._topics.log, groups)
        return sum(max(0, end - done.get(partition, 0)) for partition, end in ends.items())
