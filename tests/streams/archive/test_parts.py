"""The archive by itself: what goes in comes out, the same bytes for the same records, nothing torn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from driftline.streams.archive import parts as archive_module
from driftline.streams.archive.parts import Archive, ArchivedRecord, ArchiveError

SIZE = 8
IN_MEMORY = "mock:///bucket/archive"
"""pyarrow's own in-memory filesystem; it stands for the object stores that pyarrow knows."""
some_bytes = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), some_bytes), max_size=3).map(tuple)


def record(offset: int, value: bytes | None = b"{}") -> ArchivedRecord:
    return ArchivedRecord(offset, 1_700_000_000_000 + offset, b"k", value, (("source", b"%d:0" % offset),))


@st.composite
def partitions(draw: st.DrawFn) -> list[ArchivedRecord]:
    """Records of a partition's first 3 ranges; offsets may be missing, whole ranges too."""
    offsets = sorted(draw(st.sets(st.integers(0, 3 * SIZE - 1))))
    return [
        ArchivedRecord(
            offset,
            draw(st.integers(-1, 2**62)),
            draw(some_bytes),
            draw(some_bytes),
            draw(headers),
        )
        for offset in offsets
    ]


def archived(archive: Archive, records: list[ArchivedRecord], ranges: int = 3, start: int = 0) -> Archive:
    """The archive with the parts `start` .. `ranges` of these records."""
    for number in range(start, ranges):
        manifest = archive.continued("log", 0, "id-1")
        first = number * SIZE
        archive.append(manifest, first, [r for r in records if first <= r.offset < first + SIZE])
    return archive


def flat(chunks: Iterator[list[ArchivedRecord]]) -> list[ArchivedRecord]:
    return [record for chunk in chunks for record in chunk]


def part_path(folder: Path, first: int) -> Path:
    return folder / "log" / "partition=0" / f"{first:020d}.parquet"


@given(records=partitions(), begin=st.integers(0, 3 * SIZE), length=st.integers(0, 3 * SIZE))
def test_any_records_come_back_as_they_were(records: list[ArchivedRecord], begin: int, length: int) -> None:
    archive = archived(Archive(IN_MEMORY, SIZE), records)
    end = min(begin + length, 3 * SIZE)
    assert flat(archive.read("log", 0, begin, end)) == [r for r in records if begin <= r.offset < end]
    assert flat(archive.read("log", 0, 0, 3 * SIZE)) == records
    assert (archive.begin("log", 0), archive.end("log", 0)) == (0, 3 * SIZE)


@given(records=partitions())
def test_a_part_written_twice_has_the_same_bytes(records: list[ArchivedRecord]) -> None:
    first, second = (archived(Archive(IN_MEMORY, SIZE), records) for _ in range(2))
    assert first.manifest("log", 0) == second.manifest("log", 0)  # with the sha256 of each part


def test_row_groups_are_cut_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "ARCHIVE_GROUP_ROWS", 3)
    monkeypatch.setattr(archive_module, "ARCHIVE_GROUP_BYTES", 1_000)
    records = [record(n, b"x" * (2_000 if n == 1 else 1)) for n in range(SIZE)]
    archive = archived(Archive(str(tmp_path), SIZE), records, ranges=1)
    file = parquet.ParquetFile(part_path(tmp_path, 0))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [2, 3, 3]
    assert flat(archive.read("log", 0, 0, SIZE)) == records


def test_a_part_says_what_it_holds(tmp_path: Path) -> None:
    archived(Archive(str(tmp_path), SIZE), [record(9)], ranges=2)
    metadata = parquet.read_schema(part_path(tmp_path, 8)).metadata
    assert metadata == {
        b"topic": b"log", b"partition": b"0", b"topic_id": b"id-1", b"first": b"8", b"end": b"16",
    }  # fmt: skip
    manifest = Archive(str(tmp_path)).manifest("log", 0)
    assert manifest is not None
    assert [(p.first, p.end, p.rows) for p in manifest.parts] == [(0, 8, 0), (8, 16, 1)]
    assert manifest.parts[1].sha256 == hashlib.sha256(part_path(tmp_path, 8).read_bytes()).hexdigest()


def test_an_archive_may_begin_after_the_topics_start(tmp_path: Path) -> None:
    archive = archived(Archive(str(tmp_path), SIZE), [record(n) for n in range(8, 24)], start=1)
    assert (archive.begin("log", 0), archive.end("log", 0)) == (8, 24)
    with pytest.raises(ArchiveError, match=r"log-0: offsets \[7, 10\) .* has \[8, 24\)"):
        flat(archive.read("log", 0, 7, 10))


def test_after_a_crash_between_part_and_manifest_the_part_is_written_again(tmp_path: Path) -> None:
    records = [record(n) for n in range(2 * SIZE)]
    archived(Archive(str(tmp_path), SIZE), records, ranges=1)
    manifest = tmp_path / "log" / "partition=0" / "_manifest.json"
    before = manifest.read_bytes()
    archived(Archive(str(tmp_path), SIZE), records, ranges=2, start=1)
    whole = part_path(tmp_path, SIZE).read_bytes()
    manifest.write_bytes(before)
    part_path(tmp_path, SIZE).write_bytes(whole[:50])

    archive = Archive(str(tmp_path))
    assert archive.end("log", 0) == SIZE
    archived(Archive(str(tmp_path), SIZE), records, ranges=2, start=1)
    assert part_path(tmp_path, SIZE).read_bytes() == whole
    assert flat(archive.read("log", 0, 0, 2 * SIZE)) == records


def test_a_failed_write_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record(n) for n in range(2 * SIZE)]
    archive = archived(Archive(str(tmp_path), SIZE), records, ranges=1)
    files = sorted(tmp_path.rglob("*"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            archived(Archive(str(tmp_path), SIZE), records, ranges=2, start=1)
    assert sorted(tmp_path.rglob("*")) == files
    assert flat(archive.read("log", 0, 0, SIZE)) == records[:SIZE]


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b"", lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:]]
)
def test_a_torn_or_changed_part_is_refused_by_name(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    archive = archived(Archive(str(tmp_path), SIZE), [record(n) for n in range(3 * SIZE)])
    path = part_path(tmp_path, SIZE)
    path.write_bytes(spoil(path.read_bytes()))
    chunks = archive.read("log", 0, 0, 3 * SIZE)
    assert next(chunks)[-1].offset == SIZE - 1
    with pytest.raises(ArchiveError, match=rf"{path}: the part is torn or was changed"):
        next(chunks)


def test_a_part_that_is_gone_is_named(tmp_path: Path) -> None:
    archive = archived(Archive(str(tmp_path), SIZE), [record(0)])
    part_path(tmp_path, 0).unlink()
    with pytest.raises(ArchiveError, match=r"0\.parquet: the manifest names this part"):
        flat(archive.read("log", 0, 0, 1))


def test_a_torn_manifest_is_named(tmp_path: Path) -> None:
    archive = archived(Archive(str(tmp_path), SIZE), [])
    path = tmp_path / "log" / "partition=0" / "_manifest.json"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ArchiveError, match=rf"{path} is no manifest"):
        archive.end("log", 0)


def test_another_topic_under_the_name_is_refused(tmp_path: Path) -> None:
    archive = archived(Archive(str(tmp_path), SIZE), [])
    with pytest.raises(ArchiveError, match=r"topic log was recreated: its id is id-2, .* id-1: name another"):
        archive.continued("log", 0, "id-2")


def test_the_size_of_parts_never_changes(tmp_path: Path) -> None:
    archived(Archive(str(tmp_path), SIZE), [])
    assert Archive(str(tmp_path)).continued("log", 0, "id-1").part_size == SIZE
    with pytest.raises(ArchiveError, match="parts of 8 offsets, not 9"):
        Archive(str(tmp_path), SIZE + 1).continued("log", 0, "id-1")


@pytest.mark.parametrize("offsets", [[8], [0, 0], [1, 0], [-1]])
def test_records_out_of_range_or_order_make_no_part(tmp_path: Path, offsets: list[int]) -> None:
    archive = Archive(str(tmp_path), SIZE)
    with pytest.raises(ArchiveError, match="does not belong into the part"):
        archive.append(archive.continued("log", 0, "id-1"), 0, [record(n) for n in offsets])
    assert archive.manifest("log", 0) is None
    assert not list(tmp_path.rglob("*.parquet"))


def test_parts_leave_no_range_out(tmp_path: Path) -> None:
    archive = archived(Archive(str(tmp_path), SIZE), [], ranges=1)
    manifest = archive.continued("log", 0, "id-1")
    with pytest.raises(ArchiveError, match="a part cannot begin at 16"):
        archive.append(manifest, 2 * SIZE, [])


def test_topics_and_partitions_do_not_mix(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path), SIZE)
    for topic in ("a", "b"):
        for partition in (0, 1):
            value = f"{topic}{partition}".encode()
            archive.append(archive.continued(topic, partition, topic), 0, [record(0, value)])
    assert [r.value for r in flat(archive.read("b", 1, 0, SIZE))] == [b"b1"]
    assert archive.manifest("c", 0) is None
    assert (archive.begin("c", 0), archive.end("c", 0)) == (0, 0)
    assert flat(archive.read("c", 0, 0, 0)) == []


def test_a_uri_and_a_path_name_the_same_archive(tmp_path: Path) -> None:
    records = [record(n) for n in range(3 * SIZE)]
    archived(Archive(f"file://{tmp_path}/archive", SIZE), records)
    assert flat(Archive(f"{tmp_path}/archive").read("log", 0, 0, 3 * SIZE)) == records


def test_a_filesystem_that_is_no_folder_holds_an_archive() -> None:
    records = [record(n) for n in range(3 * SIZE)]
    archive = archived(Archive(IN_MEMORY, SIZE), records)
    assert archive.end("log", 0) == 3 * SIZE
    assert flat(archive.read("log", 0, 3, 20)) == records[3:20]
    assert archive.manifest("log", 1) is None
