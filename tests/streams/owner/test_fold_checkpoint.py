"""A checkpoint whose writer is killed at any of its writes: the fold goes on as if none had been tried, and
the checkpoint before is whole."""

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
from driftline.streams.checkpoints.folder import CheckpointFolder
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


class Killer:
    """Kills a child of this process at one of its writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._parent = os.getpid()
        self.at = -1
        self._done = 0
        for owner, name in WRITES:
            monkeypatch.setattr(owner, name, self._deadly(getattr(owner, name)))

    def _deadly(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*arguments: Any) -> Any:
            if os.getpid() != self._parent:
                if self._done == self.at:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._done += 1
            return write(*arguments)

        return deadly


def every_kill(killer: Killer, checkpointing: Callable[[], str]) -> Iterator[None]:
    """After each write at which a checkpoint was killed, until one is not."""
    for killer.at in range(10_000):
        try:
            checkpointing()
        except OSError:
            yield
        else:
            return


def test_a_checkpoint_that_is_killed_at_any_write_changes_nothing(
    log: list[LogRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, killer = deployed(tmp_path), Killer(monkeypatch)
    fold, in_memory = cast(PartitionProcessor, deployment.new_fold(0)), PartitionProcessor(CASE, 0)
    assert folded(fold, log[:80]) == folded(in_memory, log[:80])
    before = checkpoint(deployment, fold)
    at, kills = 80, 0
    for _ in every_kill(killer, lambda: checkpoint(deployment, fold)):
        kills += 1
        some = log[at : at + 2]
        assert folded(fold, some) == folded(in_memory, some)
        at += len(some)
    assert kills > 20
    assert at < len(log)
    rest = folded(in_memory, log[at:])
    last = checkpoint(deployment, fold)
    again = restored(deployment, before)
    folded(again, log[80:at])
    for one in (fold, restored(deployment, last), again):
        assert folded(one, log[at:]) == rest
