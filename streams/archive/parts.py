"""The archive: Kafka topics as Parquet parts by fixed offset ranges, kept longer than Kafka keeps them.

A part holds the records of one topic partition in [k * size, (k + 1) * size), so where parts begin and
end never depends on when or by whom they were written, and a part written twice has the same bytes
(under one version of pyarrow, whose name Parquet files carry). Offsets may have gaps: control markers,
aborted transactions.

    <uri>/<topic>/partition=<n>/_manifest.json          what is in the archive
    <uri>/<topic>/partition=<n>/<first offset>.parquet  one part

The manifest is the truth: it is written after its part, and a part that it does not name does not
exist. Knows nothing of Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import pyarrow as pa
from pyarrow import parquet

from driftline.arrow_memory import arrow_reader
from driftline.streams.archive.storage import Storage
from driftline.streams.errors import StreamsError

PART_SIZE = 50_000
"""Offsets of a part, unless the archive was begun with another size."""
ARCHIVE_GROUP_ROWS = 10_000
ARCHIVE_GROUP_BYTES = 32 << 20
"""A row group ends at so many rows, or at the row that reaches so many bytes: both bound the memory,
and both depend on the records alone."""

_COLUMNS = (
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp", pa.int64(), nullable=False),
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),
    pa.field(
        "headers",
        pa.list_(pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.binary())])),
        nullable=False,
    ),
)


class ArchiveError(StreamsError):
    """The archive cannot store or read what was requested; the message says what to do."""


class ArchivedRecord(NamedTuple):
    """One record as it was in the topic; `timestamp` is the broker's, in ms since the epoch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Part(msgspec.Struct, frozen=True):
    """One part: the offset range [first, end), how many records it has, sha256 of the file in hex."""

    first: int
    end: int
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What the archive has of one topic partition; `parts` ascend and their ranges are contiguous."""

    topic: str
    partition: int
    topic_id: str
    part_size: int
    parts: tuple[Part, ...] = ()

    @property
    def begin(self) -> int:
        """First offset archived; 0 without parts."""
        return self.parts[0].first if self.parts else 0

    @property
    def end(self) -> int:
        """Offset up to which everything since `begin` is archived; 0 without parts."""
        return self.parts[-1].end if self.parts else 0


class Archive:
    """The archive at `uri`, a folder or any URI of pyarrow.fs; one archive can hold many topics.

    `part_size` is for topic partitions not archived before; one that contradicts a manifest is refused. A
    partition has one writer at a time; two of them would only repeat each other's work, with the same bytes.
    """

    def __init__(self, uri: str, part_size: int | None = None) -> None:
        if part_size is not None and part_size < 1:
            raise ArchiveError(f"a part has at least 1 offset, not {part_size}")
        self._storage = Storage(uri)
        self._part_size = part_size

    @property
    def uri(self) -> str:
        return self._storage.uri

    def topics(self) -> list[str]:
        """Names of the topics that may have something here, by one listing."""
        return self._storage.folders()

    def manifest(self, topic: str, partition: int) -> Manifest | None:
        """What is archived of a topic partition; None when nothing is."""
        name = f"{_folder(topic, partition)}/_manifest.json"
        content = self._storage.read(name)
        if content is None:
            return None
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except msgspec.MsgspecError as error:
            raise ArchiveError(
                f"{self._storage.path(name)} is no manifest ({error}): restore it from a copy of the archive"
            ) from error
        if (manifest.topic, manifest.partition) != (topic, partition):
            raise ArchiveError(
                f"{self._storage.path(name)} is the manifest of {manifest.topic}-{manifest.partition}: "
                "it was moved"
            )
        return manifest

    def begin(self, topic: str, partition: int) -> int:
        """First offset archived; 0 when nothing is."""
        manifest = self.manifest(topic, partition)
        return 0 if manifest is None else manifest.begin

    def end(self, topic: str, partition: int) -> int:
        """Offset up to which the archive is complete, from `begin` on; 0 when nothing is archived."""
        manifest = self.manifest(topic, partition)
        return 0 if manifest is None else manifest.end

    def continued(self, topic: str, partition: int, topic_id: str) -> Manifest:
        """The manifest to append to: the existing one, else an empty one. Raises ArchiveError if it belongs
        to another topic of this name, or to another part size.
        """
        manifest = self.manifest(topic, partition)
        if manifest is None:
            return Manifest(topic, partition, topic_id, self._part_size or PART_SIZE)
        refuse_other_topic(manifest, topic_id, self.uri)
        if self._part_size not in (None, manifest.part_size):
            raise ArchiveError(
                f"{topic}-{partition}: the archive at {self.uri} has parts of {manifest.part_size} offsets, "
                f"not {self._part_size}: the size of an archive's parts never changes; leave it out, or name "
                "another archive"
            )
        return manifest

    def append(self, manifest: Manifest, first: int, records: Iterable[ArchivedRecord]) -> Manifest:
        """Write the part of [first, first + part size) and then the manifest that names it.

        `records` are all of that range, in offset order, of the topic whose id the manifest has; the
        caller knows that the range is complete. Returns the new manifest.
        """
        return self._append(manifest, first, first + manifest.part_size, records)

    def append_last(
        self, manifest: Manifest, first: int, end: int, records: Iterable[ArchivedRecord]
    ) -> Manifest:
        """As `append`, for a topic that ends at `end`, within the part: nothing can be appended after it."""
        return self._append(manifest, first, end, records)

    def _append(
        self, manifest: Manifest, first: int, end: int, records: Iterable[ArchivedRecord]
    ) -> Manifest:
        size = manifest.part_size
        if first % size or (manifest.parts and first != manifest.end):
            raise ArchiveError(
                f"{manifest.topic}-{manifest.partition}: a part cannot begin at {first}: parts are of {size} "
                f"offsets and the archive ends at {manifest.end}"
            )
        content, rows = _encode(manifest, first, end, records)
        self._storage.write(_part_name(manifest, first), content)
        part = Part(first, end, rows, hashlib.sha256(content).hexdigest())
        grown = msgspec.structs.replace(manifest, parts=(*manifest.parts, part))
        self._storage.write(
            f"{_folder(manifest.topic, manifest.partition)}/_manifest.json",
            msgspec.json.format(msgspec.json.encode(grown), indent=1),
        )
        return grown

    def read(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]:
        """The records of [begin, end) in offset order, in chunks, none of them empty.

        Raises ArchiveError if the archive lacks a piece of the range, and for a part whose bytes have
        changed: nothing of such a part is returned.
        """
        manifest = self.manifest(topic, partition)
        if begin >= end:
            return
        if manifest is None or begin < manifest.begin or end > manifest.end:
            has = "nothing" if manifest is None else f"[{manifest.begin}, {manifest.end})"
            raise ArchiveError(
                f"{topic}-{partition}: offsets [{begin}, {end}) are asked of the archive at {self.uri}, "
                f"which has {has}"
            )
        for part in manifest.parts:
            if part.first < end and begin < part.end:
                yield from self._read_part(manifest, part, begin, end)

    def _read_part(
        self, manifest: Manifest, part: Part, begin: int, end: int
    ) -> Iterator[list[ArchivedRecord]]:
        name = _part_name(manifest, part.first)
        content = self._storage.read(name)
        if content is None:
            raise ArchiveError(
                f"{self._storage.path(name)}: the manifest names this part, but it is not there: restore it "
                "from a copy of the archive"
            )
        digest = hashlib.sha256(content).hexdigest()
        if digest != part.sha256:
            raise ArchiveError(
                f"{self._storage.path(name)}: the part is torn or was changed: {len(content)} bytes with "
                f"sha256 {digest}, the manifest says {part.sha256}: restore it from a copy of the archive"
            )
        with parquet.ParquetFile(arrow_reader(content)) as file:
            for number in range(file.num_row_groups):
                records = _records(file.read_row_group(number))
                if begin > records[0].offset or end <= records[-1].offset:
                    records = [r for r in records if begin <= r.offset < end]
                if records:
                    yield records


def refuse_other_topic(manifest: Manifest, topic_id: str, uri: str) -> None:
    """Raise ArchiveError if the manifest belongs to an earlier topic of this name."""
    if manifest.topic_id != topic_id:
        raise ArchiveError(
            f"topic {manifest.topic} was recreated: its id is {topic_id}, the archive at {uri} holds "
            f"{manifest.topic_id}: name another archive (DRIFTLINE_ARCHIVE), or move the folder "
            f"{manifest.topic} of this one away"
        )


def _folder(topic: str, partition: int) -> str:
    return f"{topic}/partition={partition}"


def _part_name(manifest: Manifest, first: int) -> str:
    return f"{_folder(manifest.topic, manifest.partition)}/{first:020d}.parquet"


def _encode(manifest: Manifest, first: int, end: int, records: Iterable[ArchivedRecord]) -> tuple[bytes, int]:
    """The Parquet file of a part, and its number of rows."""
    place = f"{manifest.topic}-{manifest.partition}"
    schema = pa.schema(
        _COLUMNS,
        metadata={
            "topic": manifest.topic,
            "partition": str(manifest.partition),
            "topic_id": manifest.topic_id,
            "first": str(first),
            "end": str(end),
        },
    )
    sink = pa.BufferOutputStream()
    rows = 0
    before = first - 1
    with parquet.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=["key", "headers.list.element.name"],
        column_encoding={"offset": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"},
        write_statistics=["offset", "timestamp"],
    ) as writer:
        for group in _groups(records):
            for record in group:
                if not before < record.offset < end:
                    raise ArchiveError(
                        f"{place}: offset {record.offset} after {before} does not belong into the part "
                        f"[{first}, {end})"
                    )
                before = record.offset
            rows += len(group)
            writer.write_table(_table(group, schema), row_group_size=len(group))
    return sink.getvalue().to_pybytes(), rows


def _groups(records: Iterable[ArchivedRecord]) -> Iterator[list[ArchivedRecord]]:
    """The records cut into row groups."""
    group: list[ArchivedRecord] = []
    size = 0
    for record in records:
        group.append(record)
        size += len(record.value or b"") + len(record.key or b"")
        size += sum(len(name) + len(value or b"") for name, value in record.headers)
        if len(group) == ARCHIVE_GROUP_ROWS or size >= ARCHIVE_GROUP_BYTES:
            yield group
            group = []
            size = 0
    if group:
        yield group


def _table(group: list[ArchivedRecord], schema: pa.Schema) -> pa.Table:
    headers = [[{"name": name, "value": value} for name, value in record.headers] for record in group]
    return pa.Table.from_arrays(
        [
            pa.array([r.offset for r in group], pa.int64()),
            pa.array([r.timestamp for r in group], pa.int64()),
            pa.array([r.key for r in group], pa.binary()),
            pa.array([r.value for r in group], pa.binary()),
            pa.array(headers, schema.field("headers").type),
        ],
        schema=schema,
    )


def _records(table: pa.Table) -> list[ArchivedRecord]:
    return [
        ArchivedRecord(offset, timestamp, key, value, tuple((h["name"], h["value"]) for h in headers))
        for offset, timestamp, key, value, headers in zip(
            *(table.column(field.name).to_pylist() for field in _COLUMNS), strict=True
        )
    ]
