"""Code epochs: which code, with which arithmetic, published from which position on. Each is a record on the
models topic, written at a take-over when the code is not that of the previous epoch. No input caused it, so
it carries no source position.
"""

from __future__ import annotations

import hashlib
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from driftline.features.state.event_time import NEVER
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.errors import StreamsError
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import Broker, Place, StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition

if TYPE_CHECKING:
    from driftline.streams.archive.topic_history import Past

EPOCH = "epoch"
"""The header that marks a code epoch."""


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that decides the published bytes: the declaration with its functions, the arithmetic, and
    the version of driftline's own fold (missing in epochs older than fold versions)."""

    spec_hash: str
    fingerprint: Fingerprint
    fold: str = ""

    @property
    def short(self) -> str:
        """Twelve hex digits that identify one code."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    def difference(self, other: Code) -> str | None:
        """Why `other` may publish other bytes, as text; None if it may not."""
        differences = []
        if self.spec_hash != other.spec_hash:
            differences.append(f"other code ({self.spec_hash[:12]} / {other.spec_hash[:12]})")
        if self.fold != other.fold:
            differences.append(
                f"another fold of driftline ({_fold_text(self.fold)} / {_fold_text(other.fold)})"
            )
        arithmetic = self.fingerprint.difference(other.fingerprint)
        if arithmetic is not None:
            differences.append(arithmetic)
        return ", ".join(differences) or None


def _fold_text(fold: str) -> str:
    return fold or "not recorded"


class CodeEpoch(msgspec.Struct, frozen=True, tag="code", tag_field="kind", omit_defaults=True):
    """From beyond `tails` on, the partition's outputs are this code's.

    `tails` holds, by kind of output, the last source position that earlier code published.
    `from_offset` is the first offset of the log that this code had not seen published; in a chain the source
    position from which on this code published. `asks` is the type of the requests that this code answers
    (missing in older epochs).

    In a chain, `number` counts the epochs before this one, and `writers` the partitions that write to this
    one. The code before had published all predictions that it ever will of requests before `settled` (event
    time, in seconds; `NEVER`: unknown), and nothing of what happened after `reached`. `unanswered` are
    the ids of the newest requests that it had refused; the intake forgets them at offset `forgets_at` of the
    log, so that they are new when they are sent again.
    """

    partition: int
    from_offset: int
    code: Code
    tails: dict[str, SourcePosition]
    number: int = 0
    writers: int = 0
    settled: float = NEVER
    reached: float = NEVER
    asks: str = ""
    unanswered: tuple[str, ...] = ()
    forgets_at: int = 0


def stretches_asked(epochs: Sequence[CodeEpoch], asks: str) -> tuple[range, ...]:
    """The log offsets at which the code of these epochs, oldest first, took events of this type for requests:
    to other code they were facts. An epoch that names no type is taken to be of this one."""
    begins = [0, *(epoch.from_offset for epoch in epochs[1:]), sys.maxsize]
    stretches = zip(epochs, pairwise(begins), strict=False)  # without an epoch there is no stretch
    return tuple(range(*ends) for epoch, ends in stretches if epoch.asks in ("", asks))


def asked_before(epochs: Sequence[CodeEpoch], own: CodeEpoch) -> str:
    """The type of the requests that the code before one of these epochs answered; "" if none is recorded."""
    number = epochs.index(own)
    return epochs[number - 1].asks if number else ""


def epoch_output(epoch: CodeEpoch) -> Output:
    """The record to append to the models topic."""
    return Output(-1, -1, None, msgspec.json.encode(epoch), ((EPOCH, b"%d" % epoch.from_offset),))


def is_epoch(record: StoredRecord) -> bool:
    """Whether a record of the models topic is a code epoch."""
    return any(name == EPOCH for name, _ in record.headers)


def decode_epoch(record: StoredRecord) -> CodeEpoch:
    """The code epoch in a record; raises StreamsError when it is none."""
    try:
        return msgspec.json.decode(record.value or b"", type=CodeEpoch)
    except msgspec.MsgspecError as error:
        raise StreamsError(
            f"offset {record.offset} of the models topic is marked as a code epoch, but it is none: {error}"
        ) from error


class Announced(NamedTuple):
    """A code epoch, and the offset of its record on the models topic."""

    offset: int
    epoch: CodeEpoch


async def epochs(broker: Broker, place: Place, begin: int, end: int) -> list[Announced]:
    """The code epochs among offsets [begin, end) of a partition of the models topic, oldest first."""
    announced: list[Announced] = []
    async for records in broker.read(place, begin, end):
        announced.extend(Announced(r.offset, decode_epoch(r)) for r in records if is_epoch(r))
    return announced


def recorded_epochs(history: Past, topic: str, partition: int) -> list[CodeEpoch]:
    """All code epochs on a partition of the models topic, in Kafka or the archive, oldest first."""
    begin, end = history.begin(topic, partition), history.end(topic, partition)
    chunks = history.records(topic, partition, begin, end)
    return [decode_epoch(record) for records in chunks for record in records if is_epoch(record)]


def tails_of(positions: Mapping[str, SourcePosition]) -> dict[str, SourcePosition]:
    """A plain copy, in a fixed order, for the record."""
    return {kind: positions[kind] for kind in sorted(positions)}


UNRECORDED = "no code epoch is recorded"


def _reason(code: Code, number: int, epoch: CodeEpoch) -> str | None:
    difference = code.difference(epoch.code)
    if difference is None and epoch.number != number:
        return f"epoch {epoch.number} of this code, where {number} is compared"
    return difference


class Stretches:
    """Whether outputs of one kind may be compared with what `code` gives for the log, by source position; in
    a chain what it gives in its epoch with this `number`.

    An epoch's stretch begins beyond its tail and ends at the next epoch's.
    """

    def __init__(self, kind: str, epochs: Sequence[CodeEpoch], code: Code, number: int = 0) -> None:
        self._after = [epoch.tails.get(kind, NOTHING) for epoch in epochs]
        self._reasons = [UNRECORDED, *(_reason(code, number, epoch) for epoch in epochs)]

    def reason(self, position: SourcePosition) -> str | None:
        """Why the output at a source position cannot be compared, as text; None if it can."""
        return self._reasons[bisect_left(self._after, position)]

    @property
    def known_tail(self) -> SourcePosition:
        """The last source position that is recorded as published."""
        return self._after[-1] if self._after else NOTHING

    @property
    def any_own(self) -> bool:
        """Whether any stretch is the code's own."""
        return None in self._reasons
