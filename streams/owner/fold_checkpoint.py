"""The checkpoint of a fold while it is written: it packs the windows that have changed, and when it is there,
the fold uses what it has packed."""

from __future__ import annotations

from driftline.streams.checkpoints.checkpoint import CheckpointHeader, Written
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.partition_fold import PartitionFold


class FoldCheckpoint:
    """An `Unfinished` checkpoint of a fold, as of now. Raises OSError when there is nowhere to write it."""

    def __init__(
        self, deployment: Deployment, name: str, header: CheckpointHeader, fold: PartitionFold
    ) -> None:
        self._windows = fold.paged
        self._packs = self._windows.set_aside()
        try:
            content = deployment.content
            self._written = deployment.checkpoints.begin(name, lambda: content(header, fold))
        except OSError:
            self._put_back()
            raise

    def _put_back(self) -> None:
        if self._packs:
            self._windows.put_back()

    async def finish(self) -> Written:
        """See `Unfinished`."""
        try:
            written = await self._written.finish()
        except BaseException:
            self._put_back()
            raise
        if self._packs:
            self._windows.packed(written.packed)
        return written

    async def discard(self) -> None:
        """See `Unfinished`."""
        self._put_back()
        await self._written.discard()
