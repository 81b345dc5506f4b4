"""The feature history: rows of the views by key and time, and the requests among them, as Parquet parts.

    <folder>/<dataset>/_partition-<n>.json                        what there is of one partition
    <folder>/<dataset>/<n>-<first offset>-<end offset>.parquet    one part

A dataset is a view, or the requests of the case. A part holds what the records of a fixed range of one
log partition's offsets caused, so a part written twice has the same bytes (under one version of pyarrow).
The manifest is the truth: it is written after its part, and a part that it does not name is none. A folder
of a view is also what a plain Parquet reader takes for one table: names with an underscore are passed over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from pyarrow import parquet

from driftline.arrow_memory import arrow_reader
from driftline.features.declare.declaration import Feature, Lookup, View, Window, kind_in
from driftline.features.declare.field_types import field_types
from driftline.features.declare.notes import Note
from driftline.features.errors import FeaturesError

HISTORY_GROUP_ROWS = 50_000
STAMP_TYPE = pa.timestamp("us", tz="UTC")
ROW_COLUMNS = ("event_timestamp", "created", "offset")
"""The columns of every row apart from its keys and features."""
ARROW_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_PART = re.compile(r"(\d+)-(\d+)-(\d+)\.parquet")


class HistoryError(FeaturesError):
    """The feature history cannot give what was requested; the message says what to do."""


class HistoryPart(msgspec.Struct, frozen=True):
    """What the log's offsets [first, end) caused: so many rows, stamped from `oldest` to `newest`
    (microseconds since the epoch; 0 without rows), and the sha256 of the file in hex."""

    first: int
    end: int
    rows: int
    oldest: int
    newest: int
    sha256: str


class HistoryManifest(msgspec.Struct, frozen=True):
    """The parts of one dataset and partition; `parts` ascend and their ranges are contiguous.

    `code` is a hash of all that decides the rows: declarations with their functions, and the arithmetic.
    """

    dataset: str
    partition: int
    topic: str
    topic_id: str
    part_size: int
    code: str
    parts: tuple[HistoryPart, ...] = ()

    @property
    def begin(self) -> int:
        """First offset of the log whose rows the parts hold; 0 without parts."""
        return self.parts[0].first if self.parts else 0

    @property
    def end(self) -> int:
        """Offset of the log up to which rows are there; 0 without parts."""
        return self.parts[-1].end if self.parts else 0


def requests_name(case: str, stage: str = "") -> str:
    """The dataset of the case's requests, as they came to the log; or to a stage behind it, of this topic."""
    return f"{case}_requests_{stage}" if stage else f"{case}_requests"


def view_schema(view: View) -> pa.Schema:
    """Columns of a view's rows: keys, stamps, features with description and unit."""
    taken = view.features.keys() & {*ROW_COLUMNS, *view.keys}
    if taken:
        raise HistoryError(
            f"features of {view.name} cannot be called {', '.join(sorted(taken))}: rename them"
        )
    features = [_field(name, window_type(window), window.note) for name, window in view.features.items()]
    return pa.schema([*(pa.field(key, pa.string()) for key in view.keys), *_stamps(), *features])


def requests_schema(views: Sequence[View], features: Mapping[str, Feature]) -> pa.Schema:
    """Columns of the requests: the keys by which the views are asked, stamps, their own time, what was
    looked up."""
    keys = dict.fromkeys(key for view in views for key in view.keys)
    columns = [
        *(pa.field(key, pa.string()) for key in keys),
        *_stamps(),
        pa.field("at", STAMP_TYPE, nullable=False),
    ]
    columns += [
        _field(name, kind, feature.note)
        for name, feature in features.items()
        if isinstance(feature, Lookup) and (kind := column_type(feature.event, feature.field)) is not None
    ]
    return pa.schema(columns)


def _stamps() -> list[pa.Field]:
    return [
        pa.field(name, pa.int64() if name == "offset" else STAMP_TYPE, nullable=False) for name in ROW_COLUMNS
    ]


def column_type(event: type, field: str) -> pa.DataType | None:
    """The Arrow type of an event's field; None where it may hold values of several types, or structures."""
    kind = kind_in(field_types(event)[field])
    return None if kind is None else ARROW_TYPES[kind]


def window_type(window: Window) -> pa.DataType:
    """The Arrow type of a windowed feature."""
    return pa.int64() if window.is_whole else pa.float64()


def metadata_of(note: Note) -> dict[str, str]:
    """The metadata of a feature's column."""
    facts = {"description": note.description, "unit": note.unit}
    return {key: text for key, text in facts.items() if text}


def _field(name: str, kind: pa.DataType, note: Note) -> pa.Field:
    return pa.field(name, kind, metadata=metadata_of(note) or None)


def encode_part(
    manifest: HistoryManifest, first: int, end: int, table: pa.Table
) -> tuple[bytes, HistoryPart]:
    """The file of a part, and what the manifest says of it. `table` is in the log's order."""
    metadata = {
        "dataset": manifest.dataset,
        "partition": str(manifest.partition),
        "topic": manifest.topic,
        "topic_id": manifest.topic_id,
        "first": str(first),
        "end": str(end),
    }
    sink = pa.BufferOutputStream()
    parquet.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        row_group_size=HISTORY_GROUP_ROWS,
        compression="zstd",
        # features are mostly distinct numbers, keys are few texts
        use_dictionary=[field.name for field in table.schema if field.type == pa.string()],
        column_encoding=dict.fromkeys(ROW_COLUMNS, "DELTA_BINARY_PACKED"),
        write_statistics=list(ROW_COLUMNS),
    )
    content = sink.getvalue().to_pybytes()
    stamps = table.column("event_timestamp").cast(pa.int64())
    oldest, newest = (stamps[0].as_py(), stamps[-1].as_py()) if len(stamps) else (0, 0)
    return content, HistoryPart(
        first, end, table.num_rows, oldest, newest, hashlib.sha256(content).hexdigest()
    )


def part_name(manifest: HistoryManifest, part: HistoryPart) -> str:
    """The file of a part, below the history's folder."""
    return f"{manifest.dataset}/{manifest.partition}-{part.first:012d}-{part.end:012d}.parquet"


def manifest_name(dataset: str, partition: int) -> str:
    """The file of a manifest, below the history's folder."""
    return f"{dataset}/_partition-{partition}.json"


class Dataset:
    """One dataset of the feature history in a `folder` on this machine, as readers see it.

    They get exactly what was written, part by part: otherwise HistoryError names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    def manifests(self) -> list[HistoryManifest]:
        """The manifests of all partitions, ascending. Raises HistoryError for files that are not theirs."""
        manifests = [
            self._manifest(path)
            for path in sorted(self.folder.glob("_partition-*.json"), key=lambda p: (len(p.name), p.name))
        ]
        self._refuse_foreign({manifest.partition for manifest in manifests})
        return manifests

    def manifest(self, partition: int) -> HistoryManifest | None:
        """The manifest of one partition; None when it has no parts."""
        path = self.folder.parent / manifest_name(self.name, partition)
        return self._manifest(path) if path.exists() else None

    def tables(
        self, columns: Sequence[str], since: int | None = None, until: int | None = None
    ) -> Iterator[pa.Table]:
        """The rows, a table a part, in the log's order within each partition.

        Parts without rows stamped from `since` to `until` (microseconds, both included) are left out.
        """
        for manifest in self.manifests():
            for part in manifest.parts:
                if part.rows == 0 or (since is not None and part.newest < since):
                    continue
                if until is not None and part.oldest > until:
                    continue
                yield self.read(manifest, part, columns)

    def read(
        self, manifest: HistoryManifest, part: HistoryPart, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """One part; raises HistoryError if it is not the one in the manifest."""
        path = self.folder.parent / part_name(manifest, part)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise HistoryError(
                f"{path}: the manifest names this part, but it is not there: {self._remedy}"
            ) from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != part.sha256:
            raise HistoryError(
                f"{path}: the part is torn or was changed: {len(content)} bytes with sha256 {digest}, the "
                f"manifest says {part.sha256}: {self._remedy}"
            )
        return parquet.read_table(arrow_reader(content), columns=None if columns is None else list(columns))

    @property
    def _remedy(self) -> str:
        return f"remove the folder {self.folder}, then `driftline features history` writes it again"

    def _manifest(self, path: Path) -> HistoryManifest:
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=HistoryManifest)
        except msgspec.MsgspecError as error:
            raise HistoryError(
                f"{path} is no manifest of a feature history ({error}): {self._remedy}"
            ) from error
        if manifest_name(manifest.dataset, manifest.partition) != f"{self.name}/{path.name}":
            raise HistoryError(
                f"{path} is the manifest of {manifest.dataset}, partition {manifest.partition}: it was "
                f"moved. {self._remedy}"
            )
        return manifest

    def _refuse_foreign(self, partitions: set[int]) -> None:
        for path in sorted(self.folder.glob("*.parquet")):
            named = _PART.fullmatch(path.name)
            # one that no manifest names is being written, or was left by a process that was killed
            if named is None or int(named[1]) not in partitions:
                raise HistoryError(
                    f"{path} is no part of this history: plain readers of the folder would take its rows for "
                    "the case's. Move it away"
                )
