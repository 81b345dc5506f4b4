"""Feast's offline store over the feature history: point-in-time joins that scale, of parts that are checked.

Feast's own file store joins every request with every row of its key before it picks one: a year of flights
has 110,000 requests and half a million rows an airport. Here both sides are sorted by time and walked along
once. Only the parts that the history's manifests name are read. Feast's own file store does all other work: a
source that is no feature history, a query without entities or by the time when rows were made, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from feast.feature_view import FeatureView
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig, DaskRetrievalJob
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.types import from_feast_to_pyarrow_type
from feast.utils import _get_requested_feature_views_to_features_dict, _get_requested_on_demand_feature_views

from driftline.features.feast.history import Dataset

STAMP_COLUMN = "event_timestamp"
ONE_MICROSECOND = timedelta(microseconds=1)


class HistoryOfflineStoreConfig(DaskOfflineStoreConfig):  # type: ignore[misc]
    """Settings of the store in feature_store.yaml."""

    type: str = "driftline.features.feast.offline_store.HistoryOfflineStore"


class HistoryOfflineStore(DaskOfflineStore):  # type: ignore[misc]
    """Feast's file store, with its own way to join the rows of the feature history to requests."""

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """As Feast says. Rows keep the order of `entity_df`, which needs a column event_timestamp."""
        folders = {view: folder for view in feature_views if (folder := _folder(config, view)) is not None}
        joinable = isinstance(entity_df, pd.DataFrame) and STAMP_COLUMN in entity_df.columns
        if not joinable or len(folders) < len(feature_views) or filter_by_created_timestamp:
            return DaskOfflineStore.get_historical_features(
                config, feature_views, feature_refs, entity_df, registry, project, full_feature_names,
                filter_by_created_timestamp, **kwargs,
            )  # fmt: skip
        on_demand = _get_requested_on_demand_feature_views(feature_refs, project, registry)
        wanted, on_demand_wanted = _get_requested_feature_views_to_features_dict(
            feature_refs, feature_views, on_demand
        )

        def retrieve() -> pa.Table:
            joined = pa.Table.from_pandas(entity_df, preserve_index=False)
            stamps = _microseconds(entity_df[STAMP_COLUMN])
            for view, names in wanted.items():
                prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
                renamed = view.projection.join_key_map
                keys = [_texts(entity_df[renamed.get(key, key)]) for key in _keys(view)]
                for name, values in zip(
                    names, _joined(folders[view], view, names, keys, stamps), strict=True
                ):
                    joined = joined.append_column(f"{prefix}{name}", values)
            return joined

        columns = set(entity_df.columns) - {STAMP_COLUMN}
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=sorted(columns),
            min_event_timestamp=entity_df[STAMP_COLUMN].min(),
            max_event_timestamp=entity_df[STAMP_COLUMN].max(),
        )
        return HistoryRetrievalJob(
            retrieve, full_feature_names, str(config.repo_path), list(on_demand_wanted), metadata
        )


class HistoryRetrievalJob(DaskRetrievalJob):  # type: ignore[misc]
    """A join that runs when its result is requested, and returns Arrow types as they are stored."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self.evaluation_function()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()


def _folder(config: Any, view: FeatureView) -> Path | None:
    """The folder of the view's history; None when its source is something else."""
    source = view.batch_source
    if not isinstance(source, FileSource) or source.field_mapping or not view.entity_columns:
        return None
    folder = Path(FileSource.get_uri_for_file_path(config.repo_path, source.path))
    return folder if folder.is_dir() and any(folder.glob("_partition-*.json")) else None


def _keys(view: FeatureView) -> list[str]:
    return [column.name for column in view.entity_columns]


def _microseconds(stamps: pd.Series) -> Any:
    """Times, in UTC where they name no zone, as microseconds since the epoch."""
    return pd.to_datetime(stamps, utc=True).astype("datetime64[us, UTC]").astype("int64").to_numpy()


def _texts(values: pd.Series) -> pa.Array:
    return pa.array(values, from_pandas=True).cast(pa.string())


def _joined(
    folder: Path, view: FeatureView, names: Sequence[str], keys: Sequence[pa.Array], stamps: Any
) -> list[pa.Array]:
    """The features of one view, an array a name, that requests with these keys and stamps may see."""
    if not len(stamps):
        return [pa.nulls(0, _type(view, name)) for name in names]
    since = int(stamps.min()) - view.ttl // ONE_MICROSECOND if view.ttl else None
    columns = _keys(view)
    tables = list(Dataset(folder).tables([*columns, STAMP_COLUMN, *names], since, int(stamps.max())))
    if not tables:
        return [pa.nulls(len(stamps), _type(view, name)) for name in names]
    rows = pa.concat_tables(tables)
    places = newest_rows(
        [rows.column(column).combine_chunks() for column in columns],
        rows.column(STAMP_COLUMN).cast(pa.int64()).to_numpy(),
        keys,
        stamps,
        view.ttl // ONE_MICROSECOND if view.ttl else None,
    )
    return [rows.column(name).take(places).combine_chunks() for name in names]


def newest_rows(
    keys: Sequence[pa.Array], stamps: Any, asked_keys: Sequence[pa.Array], asked_stamps: Any, ttl: int | None
) -> pa.Array:
    """For every request the place of the newest row of its key that is not after it; null if there is none.
    Stamps and `ttl` are microseconds; a row older than the ttl does not count. A missing part of a key equals
    nothing.
    """
    codes, asked_codes = _codes(keys, asked_keys)
    rows = pd.DataFrame({"code": codes, "stamp": stamps, "place": np.arange(len(stamps))})
    asked = pd.DataFrame({"code": asked_codes, "stamp": asked_stamps, "row": np.arange(len(asked_stamps))})
    joined = pd.merge_asof(
        asked.sort_values("stamp", kind="stable"),
        rows.sort_values("stamp", kind="stable"),
        on="stamp",
        by="code",
        tolerance=ttl,
    ).sort_values("row")
    return pa.array(joined["place"].to_numpy(), pa.int64(), from_pandas=True)


def _codes(keys: Sequence[pa.Array], asked: Sequence[pa.Array]) -> tuple[Any, Any]:
    """One number a key on both sides: equal for equal keys, and of its own for keys with a missing part."""
    count = len(keys[0])
    codes = np.zeros(count + len(asked[0]), np.int64)
    missing = np.zeros(len(codes), np.bool_)
    for ours, theirs in zip(keys, asked, strict=True):
        part = pa.concat_arrays([ours, theirs])
        encoded = part.dictionary_encode()
        numbers = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        # numbered again after each part, so that they stay small
        codes = pd.factorize(codes * max(1, len(encoded.dictionary)) + numbers)[0].astype(np.int64)
        missing |= part.is_null().to_numpy(zero_copy_only=False)
    codes[:count][missing[:count]] = -1
    codes[count:][missing[count:]] = -2
    return codes[:count], codes[count:]


def _type(view: FeatureView, name: str) -> pa.DataType:
    return next(from_feast_to_pyarrow_type(field.dtype) for field in view.features if field.name == name)
