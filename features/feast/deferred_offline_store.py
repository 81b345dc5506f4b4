"""A name in place of the offline store while Feast opens a repository.

Feast imports the settings of the offline store when it checks a repository's, in a worker too, which writes
online rows only. Ours stand on Feast's file store, and dask, which that imports, is a sixth of the CPU of a
worker's start.
"""

from __future__ import annotations

from feast.repo_config import FeastConfigBaseModel


class DeferredOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Settings that stand for those of the store that is imported when it is asked for."""

    type: str
