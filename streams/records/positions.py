"""Source positions: which input record caused an output, written in the output's header."""

from __future__ import annotations

from collections.abc import Sequence

from driftline.streams.errors import StreamsError
from driftline.streams.records.outputs import Output

SourcePosition = tuple[int, int]
"""(offset of the input record, ordinal among the outputs it caused in one topic)."""
POSITIONS_OF_AN_EPOCH = 10**12
"""Behind the log, a code epoch has topics of its own, whose offsets begin at 0. So that source positions go
on ascending, those of the nth epoch after the first begin at n times this."""
NOTHING: SourcePosition = (-1, -1)
"""Before every source position."""
SOURCE_HEADER = "source"


def headers_of(output: Output) -> list[tuple[str, bytes]]:
    """All headers of an output record: its source position, if an input caused it, then its own."""
    if output.offset < 0:
        return list(output.headers)
    return [(SOURCE_HEADER, b"%d:%d" % (output.offset, output.ordinal)), *output.headers]


def parse_position(text: str) -> SourcePosition:
    """The position written as offset:ordinal."""
    offset, _, ordinal = text.partition(":")
    return int(offset), int(ordinal)


def header_texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """A record's headers as text, by name; what is no UTF-8 is replaced."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in headers}


def source_of(headers: Sequence[tuple[str, bytes | None]]) -> SourcePosition | None:
    """The source position in a record's headers; None when there is none."""
    for name, value in headers:
        if name == SOURCE_HEADER:
            try:
                return parse_position((value or b"").decode())
            except ValueError:
                raise StreamsError(f"the header {SOURCE_HEADER!r} is {value!r}, not offset:ordinal") from None
    return None


def position_of(headers: Sequence[tuple[str, bytes | None]]) -> SourcePosition:
    """The source position in an output's headers; raises StreamsError when there is none."""
    position = source_of(headers)
    if position is None:
        raise StreamsError(
            f"a record without the header {SOURCE_HEADER!r}: somebody else writes to an output topic"
        )
    return position
