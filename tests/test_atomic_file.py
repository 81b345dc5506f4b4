"""Files that are seen whole or not at all, and what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from driftline.atomic_file import replacing


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as file:
        file.writelines([b"new", "\udcff".encode()])
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["page"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(path) as file:
            file.write(b"page")
        assert os.read(reader, 100) == b"page"
    finally:
        os.close(reader)
    assert path.is_fifo()
