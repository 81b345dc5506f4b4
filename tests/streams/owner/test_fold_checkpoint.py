"""A checkpoint whose writer is killed at any of its writes, or whose disk refuses one: the fold goes on as if
none had been tried, and the checkpoint before is whole."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from driftline.bench.speed.scale import Size, chunks, scaled
from driftline.features.state.windows import paged_table, window_pages, window_paging
from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, load
from driftline.streams.checkpoints.folder import CheckpointFolder, _ForkedWrite, _ThreadedWrite
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.fold import intake
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import Deployment, FoldCheckpoint, code_of
from driftline.streams.records.outputs import KINDS
from driftline.streams.simulation.sources import LogRecord

CASE = scaled()
WRITES = [(os, "fsync"), (Path, "replace"), (Path, "write_bytes")]
"""What a checkpoint does on disk, in the order in which it cannot be done otherwise."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (paged_table, window_pages, window_paging):
        monkeypatch.setattr(module, "PAGE", 8)
    monkeypatch.setattr(intake, "RETAIN_EVERY", 10)


@pytest.fixture(scope="module")
def log() -> list[LogRecord]:
    return [record for chunk in chunks(CASE, Size(60, 400, 3_600.0)) for record in chunk]


def deployed(folder: Path) -> Deployment:
    return Deployment(
        CASE,
        code_of(CASE),
        CASE.topics(),
        cast(Any, None),  # nothing is sent
        CheckpointFolder(Storage(str(folder))),
        Seal(b"k" * KEY_BYTES),
        segments=SegmentFolders(folder, 0, 40_000),
    )


def header(deployment: Deployment, fold: PartitionProcessor) -> CheckpointHeader:
    return CheckpointHeader(
        deployment.topic, "id", 0, 1, fold.next_offset, "", deployment.code, {}, "", tuple(fold.segments())
    )


def checkpoint(deployment: Deployment, fold: PartitionProcessor) -> str:
    """Store a checkpoint of a fold and return its name; raises OSError."""
    name = f"00000/{fold.next_offset:020d}.checkpoint"
    asyncio.run(FoldCheckpoint(deployment, name, header(deployment, fold), fold).finish())
    return name


def restored(deployment: Deployment, name: str) -> PartitionProcessor:
    found = asyncio.run(load(deployment.checkpoints, name, deployment.topic, 0, deployment.seal))
    return cast(PartitionProcessor, deployment.restored_fold(found))


def folded(fold: PartitionProcessor, records: list[LogRecord]) -> list[tuple[str, bytes]]:
    out = fold.step(records)
    return [(kind, output.value) for kind in KINDS for output in getattr(out, kind)]


class Faults:
    """Fails one of the writes of a checkpoint: a child of this process is killed there, or the write that
    this process does itself is refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, in_child: bool) -> None:
        self._parent = os.getpid()
        self.at = -1
        self.done = 0
        self._in_child = in_child
        for kind in (_ForkedWrite, _ThreadedWrite):
            monkeypatch.setattr(kind, "quick", -1.0 if in_child else float("inf"))
        for owner, name in WRITES:
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any) -> Any:
            is_child = os.getpid() != self._parent
            if is_child == self._in_child and self.at >= 0:
                self.done += 1
                if self.done > self.at:
                    if is_child:
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError(28, "No space left on device")
            return write(*arguments)

        return failing


def every_fault(faults: Faults, checkpointing: Callable[[], str]) -> Iterator[None]:
    """After each checkpoint that failed, at one write after the other, until none does."""
    for at in range(10_000):
        faults.at, faults.done = at, 0
        try:
            checkpointing()
        except OSError:
            faults.at = -1
            yield
        else:
            faults.at = -1
            return


@pytest.mark.parametrize(("in_child", "least"), [(True, 21), (False, 3)])
def test_a_checkpoint_that_fails_at_any_write_changes_nothing(
    log: list[LogRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_child: bool, least: int
) -> None:
    deployment, faults = deployed(tmp_path), Faults(monkeypatch, in_child)
    fold, in_memory = cast(PartitionProcessor, deployment.new_fold(0)), PartitionProcessor(CASE, 0)
    assert folded(fold, log[:80]) == folded(in_memory, log[:80])
    before = checkpoint(deployment, fold)
    at, failed = 80, 0
    for _ in every_fault(faults, lambda: checkpoint(deployment, fold)):
        failed += 1
        some = log[at : at + 2]
        assert folded(fold, some) == folded(in_memory, some)
        at += len(some)
    assert failed >= least
    assert at < len(log)
    rest = folded(in_memory, log[at:])
    last = checkpoint(deployment, fold)
    again = restored(deployment, before)
    folded(again, log[80:at])
    for one in (fold, restored(deployment, last), again):
        assert folded(one, log[at:]) == rest
