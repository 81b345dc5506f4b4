"""Packed predictions in files: the same fold, and a state on disk that is the checkpoint's alone."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from driftline.bench.drift.fraud import chargebacks, fraud
from driftline.bench.speed.scale import Size, chunks, scaled
from driftline.errors import StateUnreadable
from driftline.features.state.segment_store import IN_MEMORY, KNOWN_OF_PIECE, SegmentStore, Share
from driftline.features.state.windows import paged_table, window_pages, window_paging
from driftline.streams.archive.storage import STALE, Storage
from driftline.streams.checkpoints.checkpoint import Checkpoint, CheckpointContent, CheckpointHeader, encode
from driftline.streams.checkpoints.folder import CheckpointFolder
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.checkpoints.segment_collection import SegmentCollection
from driftline.streams.checkpoints.segment_files import SegmentFiles, SegmentFolders, SegmentLost
from driftline.streams.code.state_hash import state_hash
from driftline.streams.fold import deduplication, intake
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import code_of
from driftline.streams.owner.retry_pause import RETRY_AFTER, pause_after
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.sources import LogRecord, layout, with_closing_clock
from driftline.streams.waiting import queue
from tests.streams.checkpoints.comparable_state import comparable

CASE = fraud()
FOLDER = "00000"
CHUNK = 50


@pytest.fixture(autouse=True)
def _packs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "UNPACKED", 10)
    monkeypatch.setattr(queue, "SEGMENT", 20)
    for module in (paged_table, window_pages, window_paging):
        monkeypatch.setattr(module, "PAGE", 8)
    monkeypatch.setattr(intake, "RETAIN_EVERY", 10)
    monkeypatch.setattr(deduplication, "MOST_IN_DICTS", 20)


@pytest.fixture(scope="module")
def log() -> list[LogRecord]:
    events = with_closing_clock(CASE, chargebacks(1_000, 1))
    return [record for partition, record in layout(CASE, events, CASE.partitions) if partition == 0]


def processor(store: SegmentStore) -> PartitionProcessor:
    return PartitionProcessor(CASE, 0, store=store)


def fold(through: PartitionProcessor, log: Sequence[LogRecord]) -> list[tuple[str, int, int, bytes]]:
    out = Outputs()
    for begin in range(0, len(log), CHUNK):
        out.extend(through.step(log[begin : begin + CHUNK]))
    return [(kind, o.offset, o.ordinal, o.value) for kind in KINDS for o in getattr(out, kind)]


@pytest.mark.parametrize("memory", [0, 10_000, 10**9])
def test_a_fold_is_the_same_with_its_predictions_on_disk(
    memory: int, log: list[LogRecord], tmp_path: Path
) -> None:
    on_disk, in_memory = processor(SegmentFolders(tmp_path, memory).store(FOLDER)), processor(IN_MEMORY)
    middle = len(log) // 2
    assert fold(on_disk, log[:middle]) == fold(in_memory, log[:middle])
    assert len(on_disk.segments()) > 3
    assert state_hash(on_disk.state()) == state_hash(in_memory.state())
    assert fold(on_disk, log[middle:]) == fold(in_memory, log[middle:])


@pytest.mark.parametrize("memory", [0, None])
def test_what_was_written_after_a_checkpoint_changes_nothing_of_it(
    memory: int | None, log: list[LogRecord], tmp_path: Path
) -> None:
    middle = len(log) // 2
    killed = processor(SegmentFolders(tmp_path, 0).store(FOLDER))
    fold(killed, log[:middle])
    snapshot, expected = killed.snapshot(), state_hash(killed.state())
    rest = fold(killed, log[middle:])
    restored = processor(SegmentFolders(tmp_path, memory).store(FOLDER))
    restored.restore(pickle.loads(snapshot))
    assert state_hash(restored.state()) == expected
    assert fold(restored, log[middle:]) == rest
    assert state_hash(restored.state()) == state_hash(killed.state())


def test_a_state_of_memory_is_gone_on_from_on_disk(log: list[LogRecord], tmp_path: Path) -> None:
    before = processor(IN_MEMORY)
    fold(before, log[: len(log) // 2])
    restored = processor(SegmentFolders(tmp_path, 0).store(FOLDER))
    restored.restore(pickle.loads(before.snapshot()))
    assert restored.segments()
    assert state_hash(restored.state()) == state_hash(before.state())


def test_what_cannot_be_written_stays_in_memory_and_in_the_checkpoint(
    log: list[LogRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("a file, where the folder of the segments should be")
    stored = processor(SegmentFolders(tmp_path, 0).store(FOLDER))
    fold(stored, log[: len(log) // 2])
    assert "stay in memory" in caplog.text
    assert stored.segments() == []
    restored = processor(IN_MEMORY)
    restored.restore(pickle.loads(stored.snapshot()))
    assert state_hash(restored.state()) == state_hash(stored.state())


@pytest.mark.parametrize("harm", ["removed", "altered", "torn"])
def test_a_segment_that_is_not_what_the_checkpoint_named_is_refused(
    harm: str, log: list[LogRecord], tmp_path: Path
) -> None:
    folders = SegmentFolders(tmp_path, 0)
    stored = processor(folders.store(FOLDER))
    fold(stored, log[: len(log) // 2])
    path = next(tmp_path.rglob(stored.segments()[0]))
    content = path.read_bytes()
    if harm == "removed":
        path.unlink()
        with pytest.raises(SegmentLost, match="not there"):
            folders.files(FOLDER).check(stored.segments())
    else:
        path.write_bytes(content[:-1] if harm == "torn" else content[:-1] + b"?")
    with pytest.raises(SegmentLost, match=path.name):
        processor(folders.store(FOLDER)).restore(pickle.loads(stored.snapshot()))


@pytest.fixture(scope="module")
def payments_log() -> list[LogRecord]:
    return [record for chunk in chunks(scaled(), Size(60, 2_000, 3_600.0)) for record in chunk]


def checkpointed(of: PartitionProcessor) -> tuple[bytes, list[str]]:
    """The state in a checkpoint, and the files into which it packs the windows that have changed."""
    packed: list[list[str]] = []
    of.paged.set_aside()
    content = of.snapshot(packed)
    of.paged.packed(packed)
    return content, [name for names in packed for name in names]


@pytest.mark.parametrize("windows", [0, 40_000, 10**9])
def test_a_fold_is_the_same_with_its_windows_on_disk(
    windows: int, payments_log: list[LogRecord], tmp_path: Path
) -> None:
    def one(store: SegmentStore) -> PartitionProcessor:
        return PartitionProcessor(scaled(), 0, rows=True, store=store)

    middle = len(payments_log) // 2
    store = SegmentFolders(tmp_path, 0, windows).store(FOLDER)
    in_memory, killed = one(IN_MEMORY), one(store)
    for begin in range(0, middle, 250):
        some = payments_log[begin : min(begin + 250, middle)]
        assert fold(killed, some) == fold(in_memory, some)
        snapshot, packed = checkpointed(killed)
        assert packed
    assert killed.next_offset == in_memory.next_offset == payments_log[middle].offset
    assert dict(killed.every_row()) == dict(in_memory.every_row())
    assert state_hash(comparable(killed.state())) == state_hash(comparable(in_memory.state()))
    rest = fold(in_memory, payments_log[middle:])
    assert fold(killed, payments_log[middle:]) == rest
    # the killed one's last pages are named by no checkpoint, and change nothing of this one
    restored, back_in_memory = one(store), one(SegmentFolders(tmp_path, None).store(FOLDER))
    for again in (restored, back_in_memory):
        again.restore(pickle.loads(snapshot))
        assert fold(again, payments_log[middle:]) == rest
        assert state_hash(comparable(again.state())) == state_hash(comparable(in_memory.state()))


def test_what_finds_segments_leaves_less_memory_for_their_bytes(tmp_path: Path) -> None:
    store = SegmentFolders(tmp_path, 1_000).store(FOLDER)
    kept = [store.keep(bytes([number]) * 300) for number in range(3)]
    assert [one.memory for one in kept] == [300, 300, 300]
    index, other = store.share(), store.share()
    index.bytes, other.bytes = 300, 100
    kept.append(store.keep(b"x" * 300))
    assert [one.memory for one in kept] == [0, 0, 300, 300]
    index.bytes = 2_000
    kept.append(store.keep(b"y" * 300))
    assert [one.memory for one in kept] == [0] * 5
    assert [one.read(0, 300)[:1] for one in kept] == [b"\0", b"\1", b"\2", b"x", b"y"]
    del index, other  # of folds that are gone
    kept.append(store.keep(b"z" * 300))
    assert kept[-1].memory == 300


def test_a_fold_says_what_finds_its_packed_predictions_and_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[Share] = []
    share = SegmentFiles.share

    def noted(files: SegmentFiles) -> Share:
        shares.append(share(files))
        return shares[-1]

    monkeypatch.setattr(SegmentFiles, "share", noted)

    def told(of: PartitionProcessor) -> None:
        sizes = of.sizes()
        ids, waiting = sizes[f"{intake.IDS}, packed"].held, sizes["predictions that wait, packed"].held
        assert min(ids, waiting) > 50
        least = 9 * ids + (9 + KNOWN_OF_PIECE) * waiting
        assert least <= sum(one.bytes for one in shares) <= 2 * least

    folded, restored = (
        PartitionProcessor(scaled(), 0, store=SegmentFolders(tmp_path, 0).store(FOLDER)) for _ in range(2)
    )
    for chunk in chunks(scaled(), Size(60, 1_000, 60.0)):
        fold(folded, chunk)
    told(folded)
    for one in shares:
        one.bytes = 0.0
    restored.restore(pickle.loads(folded.snapshot()))
    told(restored)


def test_a_page_that_changed_ends_the_fold_and_is_no_fault_of_a_record(
    payments_log: list[LogRecord], tmp_path: Path
) -> None:
    stored = PartitionProcessor(scaled(), 0, store=SegmentFolders(tmp_path, 0, 0).store(FOLDER))
    fold(stored, payments_log[:1_000])
    for path in tmp_path.rglob("segments/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StateUnreadable, match="changed while it was in use"):
        fold(stored, payments_log[1_000:])


def test_a_page_that_is_lost_before_the_fold_takes_it_over_has_the_partition_taken_over_again(
    payments_log: list[LogRecord], tmp_path: Path
) -> None:
    stored = PartitionProcessor(scaled(), 0, store=SegmentFolders(tmp_path, 0, 10**9).store(FOLDER))
    fold(stored, payments_log[:500])
    _, pages = checkpointed(stored)
    for page in pages:
        next(tmp_path.rglob(page)).unlink()
    with pytest.raises(StateUnreadable, match="cannot be read") as raised:
        fold(stored, payments_log[500:])
    assert pause_after(raised.value) == RETRY_AFTER


def test_windows_that_cannot_be_written_stay_in_memory_and_in_the_checkpoint(
    payments_log: list[LogRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("a file, where the folder of the segments should be")
    stored, in_memory = (
        PartitionProcessor(scaled(), 0, store=store)
        for store in (SegmentFolders(tmp_path, 0, 0).store(FOLDER), IN_MEMORY)
    )
    fold(stored, payments_log[:1_000])
    assert "stay in memory" in caplog.text
    assert stored.segments() == []
    restored = PartitionProcessor(scaled(), 0)
    restored.restore(pickle.loads(stored.snapshot()))
    fold(in_memory, payments_log[:1_000])
    assert fold(restored, payments_log[1_000:]) == fold(in_memory, payments_log[1_000:])


def test_segments_go_when_no_checkpoint_names_them_and_they_are_not_new(tmp_path: Path) -> None:
    seal, code = Seal(bytes(32)), code_of(CASE)
    store, files = CheckpointFolder(Storage(str(tmp_path))), SegmentFolders(tmp_path, 0).files(FOLDER)
    old, new, unnamed, recent = (files.keep(name).name for name in (b"old", b"new", b"unnamed", b"recent"))
    segments = tmp_path / FOLDER / "segments"
    for name in (old, new, unnamed):
        os.utime(segments / name, (0.0, time.time() - 2 * STALE))

    async def stored(offset: int, *named: str) -> str:
        header = CheckpointHeader("log", "id", 0, 1, offset, "", code, {}, segments=named)
        name = f"{FOLDER}/{offset:020d}-{code.short}.checkpoint"
        made = partial(CheckpointContent, encode(Checkpoint(header, b""), seal), [])
        await store.begin(name, lambda: made).finish()
        return name

    async def course() -> None:
        first = await stored(1, old, new)
        second = await stored(2, new)
        collection = SegmentCollection(store, files, FOLDER, "log", 0, seal)
        await collection.collect(second, [new])
        assert {path.name for path in segments.iterdir()} == {old, new, recent}
        await store.remove(first)
        await collection.collect(second, [new])
        assert {path.name for path in segments.iterdir()} == {new, recent}

    asyncio.run(course())


def test_a_checkpoint_syncs_the_files_that_are_new_or_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = SegmentFolders(tmp_path, 0)
    first, second, third = (folders.files(FOLDER).keep(content).name for content in (b"1", b"2", b"3"))
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
    )

    def made_durable(*names: str) -> set[str]:
        synced.clear()
        folders.files(FOLDER).make_durable(names)
        return set(synced) - {"segments"}

    assert made_durable(first, second) == {first, second}
    assert made_durable(first, second) == {first, second}  # the first checkpoint was not stored
    folders.files(FOLDER).stored([first, second])
    assert made_durable(first, second, third) == {third}
    folders.files(FOLDER).keep(b"1")
    assert made_durable(first, second) == {first}
    folders.files(FOLDER).stored([second])
    assert made_durable(first, second) == {first}
