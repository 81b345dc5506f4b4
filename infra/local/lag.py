"""How far a worker is behind the log, and what keeps it waiting there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from driftline.streams.archive.log_reader import SHORT_SILENCE, LogReader


class Lag(NamedTuple):
    """Of one partition of the log: offsets from the first committed record that has no answer yet to the last
    stable offset; offsets beyond that, which are read when an open transaction has ended; its name."""

    offsets: int
    undecided: int
    transaction: str


def lags(bootstrap: str, log: str, answered: Mapping[int, int]) -> dict[int, Lag]:
    """The lag of each partition of which everything before an offset is `answered`; empty without the log."""
    with LogReader(bootstrap, silence=SHORT_SILENCE) as reader:
        topic = reader.topic(log)
        partitions = topic[1] if topic is not None else []
        return {
            number: _lag(reader, log, number, answered[number]) for number in partitions if number in answered
        }


def _lag(reader: LogReader, log: str, partition: int, answered: int) -> Lag:
    # asked before the stable offset: what is appended in between is no offset that waits
    appended = reader.high_watermark(log, partition)
    begin, end = reader.extent(log, partition)
    # control markers and aborted records are in the log too, and get no answer
    first = reader.next_record(log, partition, max(begin, answered), end)
    undecided = max(0, appended - end)
    transaction = reader.open_transaction(log, partition) if undecided else ""
    return Lag(0 if first is None else end - first, undecided, transaction)


def status_fields(lag: Lag) -> dict[str, Any]:
    """As the status document has it."""
    fields: dict[str, Any] = {"lag": lag.offsets}
    if lag.undecided:
        fields["undecided"] = lag.undecided
        fields["transaction"] = lag.transaction
    return fields
