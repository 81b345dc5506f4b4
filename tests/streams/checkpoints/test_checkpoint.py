"""Which checkpoints of a partition are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from driftline.streams.archive.epochs import Code
from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, checkpoint_name, prune
from driftline.streams.checkpoints.folder import CheckpointFolder

CODE = Code("a" * 64, "b" * 64)
FOLDER = "00000"
HEADER = CheckpointHeader("log", "id", 0, 1, 0, "", CODE, {})


def name_at(offset: int, code: Code = CODE) -> str:
    return checkpoint_name(FOLDER, replace(HEADER, next_offset=offset, code=code))


def kept(folder: Path, names: list[str], stored: str) -> list[str]:
    """What is left of the checkpoints of these names when one has just been stored."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    store = CheckpointFolder(Storage(str(folder)))

    async def left() -> list[str]:
        await prune(store, FOLDER, CODE, stored, keep=2)
        return list(await store.names(FOLDER))

    return asyncio.run(left())


def test_the_newest_are_kept(tmp_path: Path) -> None:
    names = [name_at(offset) for offset in (10, 20, 30)]
    assert kept(tmp_path, names, names[-1]) == names[1:]


def test_those_beyond_a_truncated_log_push_nothing_out(tmp_path: Path) -> None:
    stale = [name_at(offset) for offset in (800, 900)]
    new = [name_at(offset) for offset in (10, 20, 30)]
    assert kept(tmp_path, [*stale, *new], new[-1]) == [*new[1:], *stale]


def test_those_of_other_code_are_not_ours_to_remove(tmp_path: Path) -> None:
    others = [name_at(offset, Code("c" * 64, "b" * 64)) for offset in (5, 6, 7)]
    own = [name_at(offset) for offset in (10, 20, 30)]
    assert kept(tmp_path, [*others, *own], own[-1]) == [*others, *own[1:]]
