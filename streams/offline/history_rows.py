"""Rows of the feature history that hold for requests: their own, and those of the views, joined by Feast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from driftline.features.declare.declaration import Lookup, View
from driftline.features.feast.history import Dataset
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.offline.feature_history import requests_of, stages_with_history
from driftline.streams.offline.request_places import RequestPlace
from driftline.streams.stages.stage_features import views_of


class _Requests:
    """The requests of the feature history as they came to a stage: `table`, and `rows` in it by place."""

    def __init__(self, case: UseCase, repo: OnlineStoreRepo, stage: int) -> None:
        dataset = Dataset(repo.history / requests_of(case, stage))
        manifests = [manifest for manifest in dataset.manifests() if manifest.parts]
        if not manifests:
            raise StreamsError(
                f"there is no feature history in {repo.history}: run `driftline features history` first"
            )
        tables: list[pa.Table] = []
        self.rows: dict[RequestPlace, int] = {}
        for manifest in manifests:
            for part in manifest.parts:
                table = dataset.read(manifest, part)
                begin = len(self.rows)
                for row, offset in enumerate(table.column("offset").to_pylist(), begin):
                    self.rows[RequestPlace(manifest.partition, offset)] = row
                tables.append(table)
        self.table = pa.concat_tables(tables)


class HistoryRows:
    """The requests of predictions in the feature history, by stage; `reached` says which are in all of it."""

    def __init__(
        self, case: UseCase, repo: OnlineStoreRepo, places: Sequence[Sequence[RequestPlace | None]]
    ) -> None:
        self._tables = {}
        self._rows = {}
        for stage in stages_with_history(case):
            requests = _Requests(case, repo, stage)
            self._tables[stage] = requests.table
            self._rows[stage] = [None if one is None else requests.rows.get(one) for one in places[stage]]
        self.reached = [None not in rows for rows in zip(*self._rows.values(), strict=True)]

    def asked(self) -> dict[int, pa.Table]:
        """Of each stage the rows of the requests that are reached, in their order."""
        return {
            stage: self._tables[stage].take(
                [row for row, is_in in zip(rows, self.reached, strict=True) if is_in]
            )
            for stage, rows in self._rows.items()
        }


def history_columns(
    case: UseCase, repo: OnlineStoreRepo, asked: Mapping[int, pa.Table]
) -> dict[str, pa.ChunkedArray]:
    """Windows and lookups of requests: those joined by Feast, each stage's by its own stamps of the requests;
    these as they stand in the requests of the log."""
    columns: dict[str, pa.ChunkedArray] = {}
    for stage, requests in asked.items():
        columns |= _joined_views(repo, views_of(case, case.plan.stages[stage]), requests)
    looked_up = [name for name, f in case.features.items() if isinstance(f, Lookup)]
    return columns | {name: asked[0].column(name) for name in looked_up if name in asked[0].column_names}


def _joined_views(
    repo: OnlineStoreRepo, views: Sequence[View], asked: pa.Table
) -> dict[str, pa.ChunkedArray]:
    wanted = [f"{view.name}:{name}" for view in views for name in view.features]
    if not wanted:
        return {}
    keys = dict.fromkeys(key for view in views for key in view.keys)
    entities = asked.select([*keys, "event_timestamp"]).to_pandas()
    entities["row"] = range(len(entities))
    found = repo.store.get_historical_features(entities, wanted).to_arrow().sort_by("row")
    columns = {}
    for view in views:
        for name, window in view.features.items():
            values, unseen = found.column(name), window.empty
            columns[name] = values if unseen is None else values.fill_null(unseen)
    return columns
