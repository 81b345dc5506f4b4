"""A row as a store holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from features import wire
from features.declaration import View


class Stored(NamedTuple):
    """Event time in microseconds since the epoch, None where there is no row, and encoded values."""

    stamp: int | None
    values: Sequence[bytes | None]


def encoders(view: View) -> list[tuple[str, Callable[[Any], bytearray]]]:
    """What makes bytes of a value, by feature of the view, in their order."""
    return [
        (name, wire.whole_value if window.is_whole else wire.real_value)
        for name, window in view.features.items()
    ]


class RowsReader(Protocol):
    """Reads rows of one Feast project; each method raises `failures` when the store cannot be read."""

    failures: tuple[type[Exception], ...]
    address: str
    """What to call the store in messages."""

    def read(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[Stored]:
        """The rows of entity keys, with the values of those features in their order."""
        ...

    async def read_async(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[Stored]:
        """As `read`."""
        ...

    def close(self) -> None:
        """Let go of the store; of what asyncio opened, `close_async` does."""
        ...

    async def close_async(self) -> None:
        """As `close`, and within the event loop that the store was read in."""
        ...
