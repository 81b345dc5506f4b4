"""A row as a store holds it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from driftline.features.declare.declaration import View
from driftline.features.online.stores import wire


class StoredRow(NamedTuple):
    """Event time in microseconds since the epoch, None where there is no row, and encoded values."""

    stamp: int | None
    values: Sequence[bytes | None]


def row_encoder(view: View) -> Callable[[Mapping[str, Any]], Sequence[bytearray]]:
    """What makes bytes of a row's values, of each feature of the view in their order; a value that is absent
    or None is missing."""
    one_by_one = [
        (name, wire.whole_value if window.is_whole else wire.real_value)
        for name, window in view.features.items()
    ]

    def each(values: Mapping[str, Any]) -> Sequence[bytearray]:
        get = values.get
        return [
            wire.MISSING if (value := get(name)) is None else encode(value) for name, encode in one_by_one
        ]

    reals = [name for name, window in view.features.items() if not window.is_whole]
    if len(reals) < 2:
        return each
    real, encode_reals = itemgetter(*reals), wire.real_values(len(reals))
    wholes = [(place, name) for place, name in enumerate(view.features) if name not in reals]

    def together(values: Mapping[str, Any]) -> Sequence[bytearray]:
        try:
            encoded = [*encode_reals(*real(values))]
            for place, name in wholes:
                encoded.insert(place, wire.whole_value(values[name]))
        except (KeyError, TypeError, struct.error):
            return each(values)
        return encoded

    return together


class RowsReader(Protocol):
    """Reads rows of one Feast project; each method raises `failures` when the store cannot be read."""

    failures: tuple[type[Exception], ...]
    address: str
    """What to call the store in messages."""

    def read(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[StoredRow]:
        """The rows of entity keys, with the values of those features in their order."""
        ...

    async def read_async(
        self, view: str, features: tuple[str, ...], keys: Sequence[bytes]
    ) -> list[StoredRow]:
        """As `read`."""
        ...

    def close(self) -> None:
        """Let go of the store; of what asyncio opened, `close_async` does."""
        ...

    async def close_async(self) -> None:
        """As `close`, and within the event loop that the store was read in."""
        ...
