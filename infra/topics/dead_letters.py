"""The dead letters of a case: read, selected, grouped by stage and reason."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from driftline.infra.errors import InfraError
from driftline.infra.topics.tail import partitions_of
from driftline.streams.archive.epochs import is_epoch
from driftline.streams.archive.log_reader import SHORT_SILENCE, LogReader
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import REPORT_ONLY
from driftline.streams.records.positions import header_texts, position_of

FINAL_STAGES = {
    "late": "event time has passed it, and only moves on: an event of that time is refused again",
    "id": "another event came with its id before: send it under an id of its own",
    "command": "the nonce of a command counts once: sign a new one",
    "warm-up": "a warm-up begins with the first record of a log and ends once: see `driftline produce`",
} | dict.fromkeys(REPORT_ONLY, "the event was accepted: the letter only reports something about it")
"""Stages whose events the fold would refuse again, or has accepted, with the reason."""
BEHIND_THE_LOG = (
    "a stage behind the log refused it, whose events the log's stage had accepted: a repeat is dropped. Send "
    "it under an id of its own"
)
_VARIABLE = re.compile(
    r"(?<!\w)b?(?:'[^']*'|\"[^\"]*\")(?!\w)|\d{4}-\d\d-\d\dT[\d:.]+(?:[+-][\d:]+|Z)?"
    r"|(?<!\w)[-+]?\d[\d_,.]*(?:e[-+]?\d+)?(?!\w)"
)


class LetterId(NamedTuple):
    """Where a dead letter is: partition and offset in the dead-letters topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """The id written as partition:offset; raises InfraError."""
        partition, colon, offset = text.partition(":")
        if not colon or not (partition.isdecimal() and offset.isdecimal()):
            raise InfraError(f"{text!r} is no dead letter: write partition:offset, such as 0:17")
        return cls(int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record. `source` is its offset in the log's partition of the same number, None where a
    stage behind the log refused it, as the topic's further partitions say; `at` is when the letter was
    written."""

    id: LetterId
    source: int | None
    at: datetime
    stage: str
    reason: str
    key: bytes | None
    value: bytes
    whole_length: int
    whole_sha256: str | None

    @classmethod
    def of(cls, partition: int, record: ArchivedRecord, log_partitions: int) -> DeadLetter:
        """The letter in a record of the dead-letters topic of a log with so many partitions."""
        headers = header_texts(record.headers)
        value = record.value or b""
        return cls(
            id=LetterId(partition, record.offset),
            source=position_of(record.headers)[0] if partition < log_partitions else None,
            at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
            stage=headers["stage"],
            reason=headers["reason"],
            key=record.key,
            value=value,
            whole_length=int(headers.get("value-length", len(value))),
            whole_sha256=headers.get("value-sha256"),
        )

    @property
    def is_cut(self) -> bool:
        """Whether it holds only the beginning of the record's value."""
        return self.whole_sha256 is not None

    @property
    def final(self) -> str:
        """Why a retry cannot help; empty if it may."""
        return FINAL_STAGES.get(self.stage, BEHIND_THE_LOG if self.source is None else "")

    def as_object(self) -> dict[str, Any]:
        """For JSON. Bytes that are not UTF-8 are given in base64, under `key_base64` and `value_base64`."""
        shown: dict[str, Any] = {
            "id": str(self.id),
            "source": None if self.source is None else f"{self.id.partition}:{self.source}",
            "at": self.at.isoformat(),
            "stage": self.stage,
            "reason": self.reason,
        }
        shown |= _text("key", self.key) | _text("value", self.value)
        if self.is_cut:
            shown |= {"value_length": self.whole_length, "value_sha256": self.whole_sha256}
        return shown


def _text(name: str, raw: bytes | None) -> dict[str, str | None]:
    if raw is None:
        return {name: None}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}


@dataclass(frozen=True, slots=True)
class LetterSelection:
    """Which letters a command is about: those with one of the `ids`, of the `stage`, whose reason contains
    `reason`. A criterion that is not given selects everything."""

    ids: frozenset[LetterId] = frozenset()
    stage: str | None = None
    reason: str | None = None

    def includes(self, letter: DeadLetter) -> bool:
        """Whether the letter is selected."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.stage in (None, letter.stage)
            and (self.reason is None or self.reason in letter.reason)
        )


def selected_letters(bootstrap: str, topics: Topics, selection: LetterSelection) -> Iterator[DeadLetter]:
    """The selected letters that the topic still has, by partition and offset; raises InfraError for an id
    that it does not have."""
    missing = set(selection.ids)
    with LogReader(bootstrap, silence=SHORT_SILENCE) as reader:
        for partition in partitions_of(reader, bootstrap, topics.dead_letters):
            begin, end = reader.extent(topics.dead_letters, partition)
            if selection.ids:
                asked = [each.offset for each in selection.ids if each.partition == partition]
                begin, end = max(begin, min(asked, default=end)), min(end, max(asked, default=begin - 1) + 1)
            for chunk in reader.chunks(topics.dead_letters, partition, begin, end):
                for record in chunk:
                    if is_epoch(record):
                        continue
                    letter = DeadLetter.of(partition, record, topics.partitions)
                    if selection.includes(letter):
                        missing.discard(letter.id)
                        yield letter
    # one that is there but of another stage or reason was asked for in vain, too
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        raise InfraError(f"{topics.dead_letters} has no such dead letter: {names}")


@dataclass(slots=True)
class LetterGroup:
    """Letters of one stage whose reasons differ in values alone, and that may all be retried or not;
    `example` is the newest."""

    stage: str
    pattern: str
    count: int
    first: datetime
    example: DeadLetter

    @property
    def can_be_retried(self) -> bool:
        """Whether its events may be accepted when they are sent again."""
        return not self.example.final

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage": self.stage,
            "reason": self.pattern,
            "count": self.count,
            "first": self.first.isoformat(),
            "last": self.example.at.isoformat(),
            "can_be_retried": self.can_be_retried,
            "example": {"id": str(self.example.id), "reason": self.example.reason},
        }


def grouped(letters: Iterable[DeadLetter]) -> list[LetterGroup]:
    """Letters by stage and reason, the most frequent first."""
    groups: dict[tuple[str, str, str], LetterGroup] = {}
    for letter in letters:
        pattern = _VARIABLE.sub("…", letter.reason)
        group = groups.get((letter.stage, pattern, letter.final))
        if group is None:
            groups[letter.stage, pattern, letter.final] = LetterGroup(
                letter.stage, pattern, 1, letter.at, letter
            )
            continue
        group.count += 1
        group.first = min(group.first, letter.at)
        if letter.at >= group.example.at:
            group.example = letter
    return sorted(groups.values(), key=lambda group: (-group.count, group.stage, group.pattern))
