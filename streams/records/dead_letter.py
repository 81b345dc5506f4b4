"""The record of a dead letter: the refused record, cut if too large, with stage and reason as headers."""

from __future__ import annotations

import hashlib

from driftline.streams.declare.topics import INPUT_LIMIT
from driftline.streams.errors import Refused
from driftline.streams.records.outputs import Output
from driftline.streams.records.record import Record

CUT_VALUE = 65_536
CUT_KEY = 1_024
"""Bytes that a dead letter holds of a value and of a key that together fit no topic."""


def dead_letter(record: Record, refused: Refused, ordinal: int = 0) -> Output:
    """The record unchanged, with the reason; cut if it is larger than any topic takes. `ordinal` is the
    number of outputs that the record caused in this topic before."""
    key, value = record.key, record.value or b""
    headers: tuple[tuple[str, bytes], ...] = refused.headers
    if len(value) + len(key or b"") > INPUT_LIMIT:
        headers += _original("value", value)
        if key is not None and len(key) > CUT_KEY:
            headers += _original("key", key)
            key = key[:CUT_KEY]
        where = f"; cut: the whole record is at offset {record.offset} of this partition of the log"
        headers = (headers[0], ("reason", headers[1][1] + where.encode()), *headers[2:])
        value = value[:CUT_VALUE]
    return Output(record.offset, ordinal, key, value, headers)


def _original(what: str, whole: bytes) -> tuple[tuple[str, bytes], ...]:
    """Headers that say what was cut."""
    return (
        (f"{what}-length", b"%d" % len(whole)),
        (f"{what}-sha256", hashlib.sha256(whole).hexdigest().encode()),
    )
