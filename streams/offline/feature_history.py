"""Folds an archived log into the feature history: one part of each dataset for each part of the log.

The log is folded from its start by the code that serves, without its models. Existing parts are not written
again, unless they are from other code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from inspect import getsource
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from driftline.features.declare.keys import texts_of
from driftline.features.feast.history import (
    Dataset,
    HistoryManifest,
    encode_part,
    manifest_name,
    part_name,
    requests_name,
    requests_schema,
    view_schema,
)
from driftline.features.state import timeline
from driftline.features.state.timeline import TimelineRequest
from driftline.streams.archive.parts import Archive, ArchivedRecord, ArchiveError
from driftline.streams.archive.storage import Storage
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.code.fold_version import fold_version
from driftline.streams.code.specification import described
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.offline import unfolded as folds
from driftline.streams.offline.unfolded import Unfolded, UnfoldedStage, unfolded
from driftline.streams.records.outputs import Target
from driftline.streams.stages.stage_features import views_of

MERGED = 16
"""So many parts that begin at a multiple of their joint range become one part."""


class HistoryProgress(NamedTuple):
    """How far one partition's history has come: offsets folded, rows and parts written."""

    offset: int
    rows: int
    parts: int


def history_code(case: UseCase) -> str:
    """A hash of all that decides a history's rows: declarations with their functions, arithmetic, the fold,
    and the timeline with what folds into it, which are no part of that."""
    decisive: list[Any] = [
        case.name, case.key, case.events, case.features, case.task, case.allowed_lateness, case.max_jump,
        case.clock, case.clock_skew, case.dedup_horizon, case.max_event_bytes, case.refusals,
    ]  # fmt: skip
    if case.plan.is_chain:
        decisive.append([(stage.topic, stage.features) for stage in case.plan.stages])
    return hashlib.sha256(
        f"{described(decisive, case.packages)}\n{numeric_fingerprint()}\n{fold_version()}\n"
        f"{getsource(timeline)}\n{getsource(folds)}".encode()
    ).hexdigest()


def stages_with_history(case: UseCase) -> list[int]:
    """The stages of which there is a history: that of the log, and those that have windows."""
    return [number for number, stage in enumerate(case.plan.stages) if number == 0 or views_of(case, stage)]


def requests_of(case: UseCase, stage: int) -> str:
    """The dataset of the requests as they came to a stage."""
    return requests_name(case.name, case.plan.stages[stage].topic if stage else "")


class _Columns:
    """The rows of one dataset that one part of the log caused, by column."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._rows: list[tuple[tuple[Any, ...], int, int, int, dict[str, Any]]] = []

    def add(self, keys: tuple[Any, ...], stamp: int, record: ArchivedRecord, values: dict[str, Any]) -> None:
        """One row; `created` is when the broker had the record that caused it."""
        self._rows.append((keys, stamp, record.timestamp * 1000, record.offset, values))

    def take(self) -> pa.Table:
        """The rows as a table; none are left."""
        rows, self._rows = self._rows, []
        names = self.schema.names
        fixed = names.index("event_timestamp")
        columns: list[list[Any]] = [[row[0][place] for row in rows] for place in range(fixed)]
        columns += [[row[place] for row in rows] for place in (1, 2, 3)]
        columns += [[row[4].get(name) for row in rows] for name in names[fixed + 3 :]]
        arrays = [pa.array(c, field.type) for c, field in zip(columns, self.schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self.schema)


class HistoryWriter:
    """Writes the feature history of one partition of a case's archived log into a `folder`; or of a stage
    behind the log, whose `topic` holds the order that was folded there."""

    def __init__(
        self, case: UseCase, archive: Archive, topic: str, partition: int, folder: Path, stage: int = 0
    ) -> None:
        self._folder = folder
        self._storage = Storage(str(folder))
        self._archive = archive
        log = archive.manifest(topic, partition)
        if log is None or not log.parts:
            raise ArchiveError(
                f"{topic}-{partition}: the archive at {archive.uri} has nothing of it: run "
                "`driftline archive` first"
            )
        if log.begin > 0:
            raise ArchiveError(
                f"{topic}-{partition}: the archive at {archive.uri} begins at offset {log.begin}; features "
                "are folded from the log's start: name an archive that has it (DRIFTLINE_ARCHIVE)"
            )
        self._log = log
        self._case = case
        self._target = Target(stage, partition)
        planned = case.plan.stages[stage]
        self._views = views_of(case, planned)
        self._keys_of = {view.name: attrgetter(*view.keys) for view in self._views}
        self._requests = requests_of(case, stage)
        self._columns = {view.name: _Columns(view_schema(view)) for view in self._views}
        features = {name: case.features[name] for name in planned.features}
        self._columns[self._requests] = _Columns(requests_schema(self._views, features))
        self._code = history_code(case)

    def write(self, begin: int = 0, end: int | None = None) -> Iterator[HistoryProgress]:
        """Write the parts that hold something of the log's offsets [begin, end), by default all that is
        archived, and those between them and what is there already. Yields after every part of the log that
        was folded: none when all is there.

        Parts are written in ascending order, so where earlier ones are asked for than there are, all are
        written again.
        """
        size = self._log.part_size
        begin = begin // size * size
        end = self._log.end if end is None else min(end, self._log.end)
        manifests = {name: self._continued(name, begin) for name in self._columns}
        nexts = {name: m.end if m.parts else begin for name, m in manifests.items()}
        if min(nexts.values()) >= end:
            return
        fold = unfolded(self._case, self._views, self._target)
        rows = parts = 0
        for first in range(0, end, size):
            missing = [name for name, following in nexts.items() if first >= following]
            self._fold(fold, first, missing)
            for name in missing:
                manifests[name] = self._append(manifests[name], first, self._columns[name].take())
                rows += manifests[name].parts[-1].rows
                parts += 1
                manifests[name] = self._merged(manifests[name])
            yield HistoryProgress(first + size, rows, parts)

    def _fold(self, fold: Unfolded | UnfoldedStage, first: int, wanted: Sequence[str]) -> None:
        columns = {name: self._columns[name] for name in wanted}
        requests = columns.get(self._requests)
        log = self._log
        for chunk in self._archive.read(log.topic, log.partition, first, first + log.part_size):
            for record in chunk:
                fold.fold(record)
                rows, asked = fold.timeline.take()
                for row in rows:
                    if row.view in columns:
                        columns[row.view].add(row.keys, row.stamp, record, row.values)
                if requests is not None:
                    for request in asked:
                        self._add_request(requests, request, record)

    def _add_request(self, columns: _Columns, request: TimelineRequest, record: ArchivedRecord) -> None:
        keys: dict[str, str | None] = {}
        for view in self._views:
            for name in view.keys:
                value = getattr(request.request, name)
                keys[name] = None if value is None else texts_of(value)[0]
        columns.add(tuple(keys.values()), request.stamp, record, {**request.x, "at": request.at})

    def _continued(self, name: str, begin: int) -> HistoryManifest:
        """The manifest to go on with: what is there of this log and this code from `begin` on, else an empty
        one."""
        dataset = Dataset(self._folder / name)
        log = self._log
        manifest = dataset.manifest(log.partition)
        # topics between stages are of one code each
        if manifest is None or (self._target.stage and manifest.topic != log.topic):
            return self._begun(
                HistoryManifest(name, log.partition, log.topic, log.topic_id, log.part_size, self._code)
            )
        if (manifest.topic, manifest.topic_id, manifest.part_size) != (
            log.topic,
            log.topic_id,
            log.part_size,
        ):
            raise StreamsError(
                f"{dataset.folder} is the history of topic {manifest.topic} ({manifest.topic_id}, parts of "
                f"{manifest.part_size}), the archive at {self._archive.uri} holds {log.topic} "
                f"({log.topic_id}, parts of {log.part_size}): remove the folder, and the history is written "
                "again"
            )
        if manifest.end > log.end:
            raise StreamsError(
                f"{dataset.folder} extends to offset {manifest.end} of {log.topic}-{log.partition}, the "
                f"archive at {self._archive.uri} to {log.end} only: restore the archive, or remove the folder"
            )
        if manifest.code != self._code or (manifest.parts and begin < manifest.begin):
            return self._begun(msgspec.structs.replace(manifest, parts=(), code=self._code))
        self._remove_unnamed(manifest)
        return self._merged(manifest)

    def _begun(self, manifest: HistoryManifest) -> HistoryManifest:
        """An empty manifest, written so that readers take the partition's files for ours."""
        self._put(manifest)
        self._remove_unnamed(manifest)
        return manifest

    def _remove_unnamed(self, manifest: HistoryManifest) -> None:
        """Remove the partition's files that a killed writer left, or whose place merged parts took."""
        named = {part_name(manifest, part) for part in manifest.parts}
        for name in self._storage.names(manifest.dataset):
            ours = name.startswith(f"{manifest.dataset}/{manifest.partition}-") and name.endswith(".parquet")
            if ours and name not in named:
                self._storage.remove(name)

    def _put(self, manifest: HistoryManifest) -> None:
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._storage.write(manifest_name(manifest.dataset, manifest.partition), content)

    def _append(self, manifest: HistoryManifest, first: int, table: pa.Table) -> HistoryManifest:
        content, part = encode_part(manifest, first, first + manifest.part_size, table)
        self._storage.write(part_name(manifest, part), content)
        grown = msgspec.structs.replace(manifest, parts=(*manifest.parts, part))
        self._put(grown)
        return grown

    def _merged(self, manifest: HistoryManifest) -> HistoryManifest:
        """The manifest with its last parts as one, where they fill a range of `MERGED` parts."""
        size, last = manifest.part_size, manifest.parts[-MERGED:]
        whole = all(part.end - part.first == size for part in last)
        if len(last) < MERGED or not whole or last[0].first % (size * MERGED):
            return manifest
        dataset = Dataset(self._folder / manifest.dataset)
        table = pa.concat_tables([dataset.read(manifest, part) for part in last])
        content, part = encode_part(manifest, last[0].first, last[-1].end, table)
        self._storage.write(part_name(manifest, part), content)
        merged = msgspec.structs.replace(manifest, parts=(*manifest.parts[:-MERGED], part))
        self._put(merged)
        for small in last:
            self._storage.remove(part_name(manifest, small))
        return merged
