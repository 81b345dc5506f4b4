"""One record of the log, as the fold reads it."""

from __future__ import annotations

from typing import Protocol


class Record(Protocol):
    """A record of one partition; `timestamp` is the broker's append time in ms, negative without."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...
