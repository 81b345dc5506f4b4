"""Statistics of features as served, by partition and window of event time, out of the predictions topic.

Predictions carry every feature value that was used, once each and in the log's order, so what is counted here
is a pure function of the log, however it is cut. The result for an archived part of the predictions is kept
beside the archive, and counted again when the schema or the part has changed:

    <archive>/<predictions topic>.statistics/partition=<n>/<first offset>.parquet
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet

from driftline.arrow_memory import arrow_reader
from driftline.features.feast.history import STAMP_TYPE
from driftline.features.quality.feature_schema import Schema
from driftline.features.quality.statistics import FeatureStatistics, observed
from driftline.streams.archive.parts import Archive, ArchivedRecord, Manifest, Part
from driftline.streams.archive.storage import Storage
from driftline.streams.archive.topic_history import Past
from driftline.streams.errors import StreamsError
from driftline.streams.records.messages import Prediction
from driftline.streams.records.positions import position_of

COUNTED_AT_ONCE = 4_096
"""Predictions that are held before their values are counted, many at once."""
BEFORE_ANY = float("-inf")

_COUNTS = pa.map_(pa.string(), pa.int64())
_COLUMNS = pa.schema(
    [
        pa.field("window", STAMP_TYPE, nullable=False),
        pa.field("feature", pa.string(), nullable=False),
        pa.field("requests", pa.int64(), nullable=False),
        pa.field("first_offset", pa.int64(), nullable=False),
        pa.field("last_offset", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("missing", pa.int64(), nullable=False),
        pa.field("types", _COUNTS),
        pa.field("total", pa.string(), metadata={"description": "exact sum, a fraction"}),
        pa.field("squares", pa.string(), metadata={"description": "exact sum of squares, a fraction"}),
        pa.field("minimum", pa.float64()),
        pa.field("maximum", pa.float64()),
        pa.field("outside", pa.int64()),
        pa.field("histogram", pa.list_(pa.int64())),
        pa.field("values", _COUNTS),
        pa.field("other", pa.int64()),
        pa.field("sample", _COUNTS),
        pa.field("mean", pa.float64()),
        pa.field("std", pa.float64()),
    ]
)
_FOR_READERS = ("mean", "std")
"""Columns that follow from the others."""


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """One window of one partition: how many requests, at which offsets of the log the first and last of them
    are, and the statistics of each feature."""

    requests: int
    first_offset: int
    last_offset: int
    features: Mapping[str, FeatureStatistics]

    def merged(self, later: WindowStatistics) -> WindowStatistics:
        """Of the requests of both. A feature that one of them never saw is missing in all its requests."""
        names = dict.fromkeys([*self.features, *later.features])
        return WindowStatistics(
            self.requests + later.requests,
            min(self.first_offset, later.first_offset),
            max(self.last_offset, later.last_offset),
            {name: self.of(name).merged(later.of(name)) for name in names},
        )

    def of(self, name: str) -> FeatureStatistics:
        """The statistics of a feature, one that was never seen included."""
        return self.features.get(name) or FeatureStatistics(missing=self.requests)


@dataclass(slots=True)
class Counted:
    """Windows by number, window n beginning at n times the schema's width since the epoch, and the newest
    event time among their requests, in seconds."""

    windows: dict[int, WindowStatistics] = field(default_factory=dict)
    newest: float = BEFORE_ANY

    def add(self, later: Counted) -> None:
        """Count what was counted elsewhere."""
        for number, window in later.windows.items():
            known = self.windows.get(number)
            self.windows[number] = window if known is None else known.merged(window)
        self.newest = max(self.newest, later.newest)

    def closed(self, width: float, lateness: float) -> dict[int, WindowStatistics]:
        """Windows that no request can join any more, ascending: what is before the watermark is refused."""
        bound = self.newest - lateness
        return {n: self.windows[n] for n in sorted(self.windows) if (n + 1) * width <= bound}


def predictions_of(
    records: Iterable[ArchivedRecord], place: str
) -> Iterator[tuple[ArchivedRecord, Prediction]]:
    """The predictions of a topic's records; raises StreamsError, naming the `place`, for another record."""
    decode = msgspec.json.Decoder(Prediction).decode
    for record in records:
        try:
            yield record, decode(record.value or b"")
        except msgspec.MsgspecError as error:
            raise StreamsError(
                f"{place}: the record at offset {record.offset} cannot be read: {error}"
            ) from error


def count_windows(schema: Schema, records: Iterable[ArchivedRecord], place: str) -> Counted:
    """The windows of some records of a predictions topic, as `predictions_of` reads them."""
    counted = Counted()
    batch: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    held = 0
    for record, published in predictions_of(records, place):
        at = published.at.timestamp()
        counted.newest = max(counted.newest, at)
        number = int(at // schema.window)
        batch.setdefault(number, []).append((position_of(record.headers)[0], published.features))
        held += 1
        if held == COUNTED_AT_ONCE:
            counted.add(_batch(schema, batch))
            batch, held = {}, 0
    counted.add(_batch(schema, batch))
    return counted


def _batch(schema: Schema, batch: Mapping[int, list[tuple[int, dict[str, Any]]]]) -> Counted:
    return Counted({number: _window(schema, requests) for number, requests in batch.items()})


def _window(schema: Schema, requests: list[tuple[int, dict[str, Any]]]) -> WindowStatistics:
    offsets = [offset for offset, _ in requests]
    names = dict.fromkeys(schema.features)
    for _, x in requests:
        names.update(dict.fromkeys(x))
    observations = {
        name: observed([x.get(name) for _, x in requests], schema.features.get(name)) for name in names
    }
    return WindowStatistics(len(requests), min(offsets), max(offsets), observations)


class PartitionStatistics:
    """The statistics of one partition of a predictions topic: what its archived parts caused, kept in
    `storage`, and what `tail` has beyond them (None: nothing)."""

    def __init__(
        self,
        schema: Schema,
        archive: Archive,
        storage: Storage,
        topic: str,
        partition: int,
        tail: Past | None,
    ) -> None:
        self._schema = schema
        self._archive = archive
        self._storage = storage
        self._topic = topic
        self._partition = partition
        self._tail = tail
        self._place = f"{topic}-{partition}"
        self._counted = Counted()
        self._through = 0
        self._parts = 0
        self.written = 0

    def counted(self) -> Counted:
        """All statistics so far; records counted by an earlier call are not read again, and results of
        archived parts are kept."""
        manifest = self._archive.manifest(self._topic, self._partition)
        if manifest is not None:
            for part in manifest.parts[self._parts :]:
                part_counts = self._part(manifest, part)
                if part.first >= self._through:
                    self._counted.add(part_counts)
                    self._through = part.end
            self._parts = len(manifest.parts)
        if self._tail is not None:
            begin = max(self._through, self._tail.begin(self._topic, self._partition))
            end = self._tail.end(self._topic, self._partition)
            chunks = self._tail.records(self._topic, self._partition, begin, end)
            self._counted.add(count_windows(self._schema, chain.from_iterable(chunks), self._place))
            self._through = max(begin, end)
        return self._counted

    def _part(self, manifest: Manifest, part: Part) -> Counted:
        name = f"{self._topic}.statistics/partition={self._partition}/{part.first:020d}.parquet"
        of = {"schema": self._schema.digest, "part": part.sha256}
        content = self._storage.read(name)
        known = None if content is None else decode_windows(content, of, self._schema.window)
        if known is not None:
            return known
        chunks = self._archive.read(self._topic, self._partition, part.first, part.end)
        counted = count_windows(self._schema, chain.from_iterable(chunks), self._place)
        self._storage.write(name, encode_windows(counted, of, self._schema.window))
        self.written += 1
        return counted


def encode_windows(counted: Counted, of: Mapping[str, str], width: float) -> bytes:
    """Windows as a Parquet file, a row for each feature and window; `of` says what they were counted of."""
    rows = [
        (
            round(number * width * 1_000_000), name, window.requests, window.first_offset, window.last_offset,
            one.count, one.missing, sorted(one.types.items()), str(one.total), str(one.squares), one.minimum,
            one.maximum, one.outside, list(one.histogram), list(one.values.items()), one.other,
            sorted(one.sample.items()), one.mean, one.std,
        )
        for number, window in sorted(counted.windows.items())
        for name, one in window.features.items()
    ]  # fmt: skip
    columns = [pa.array([row[place] for row in rows], kind.type) for place, kind in enumerate(_COLUMNS)]
    schema = _COLUMNS.with_metadata({**of, "newest": repr(counted.newest)})
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decode_windows(content: bytes, of: Mapping[str, str], width: float) -> Counted | None:
    """What `encode_windows` was given; None for a file that is torn, or of something else."""
    try:
        table = parquet.read_table(arrow_reader(content))
    except (pa.ArrowException, OSError):
        return None
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if not of.items() <= metadata.items() or table.schema.names != _COLUMNS.names:
        return None
    counted = Counted(newest=float(metadata["newest"]))
    stamps = table.column("window").cast(pa.int64()).to_pylist()
    features: dict[int, dict[str, FeatureStatistics]] = {}
    spans: dict[int, tuple[int, int, int]] = {}
    for stamp, row in zip(stamps, table.drop_columns(["window", *_FOR_READERS]).to_pylist(), strict=True):
        number = round(stamp / 1_000_000 / width)
        name = row.pop("feature")
        spans[number] = (row.pop("requests"), row.pop("first_offset"), row.pop("last_offset"))
        for column in ("types", "values", "sample"):
            row[column] = dict(row[column])
        for column in ("total", "squares"):
            row[column] = Fraction(row[column])
        row["histogram"] = tuple(row["histogram"])
        features.setdefault(number, {})[name] = FeatureStatistics(**row)
    counted.windows = {number: WindowStatistics(*spans[number], features[number]) for number in spans}
    return counted
