"""Online rows of code that does not serve yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.features.online.writer import OnlineWriter


class LateRows:
    """A writer that is made by `open`: views are not put in place of those served before their code serves.

    Until then the store is not known, and no rows may be offered.
    """

    def __init__(self, make: Callable[[], OnlineWriter]) -> None:
        self._make = make
        self._writer: OnlineWriter | None = None

    def open_now(self) -> None:
        """From now on, rows may be offered."""
        if self._writer is None:
            self._writer = self._make()

    async def open(self) -> None:
        """The same, beside what goes on."""
        await asyncio.to_thread(self.open_now)

    @property
    def incarnation(self) -> str:
        """See `RowWriter`."""
        return "" if self._writer is None else self._writer.incarnation

    @property
    def first_incarnation(self) -> str:
        """See `RowWriter`."""
        return "" if self._writer is None else self._writer.first_incarnation

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        """See `RowWriter`."""
        assert self._writer is not None
        await self._writer.offer(rows)

    def offered(self) -> int:
        """See `RowWriter`."""
        return 0 if self._writer is None else self._writer.offered()

    async def written(self, ticket: int) -> None:
        """See `RowWriter`."""
        if self._writer is not None:
            await self._writer.written(ticket)

    @property
    def rows_written(self) -> int:
        """See `RowWriter`."""
        return 0 if self._writer is None else self._writer.rows_written

    @property
    def rows_waiting(self) -> int:
        """See `RowWriter`."""
        return 0 if self._writer is None else self._writer.rows_waiting

    @property
    def failing_seconds(self) -> float:
        """See `RowWriter`."""
        return 0.0 if self._writer is None else self._writer.failing_seconds

    async def close(self) -> None:
        """End the writer."""
        if self._writer is not None:
            await self._writer.close()
