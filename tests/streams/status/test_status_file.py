"""The status file of a worker, in folders that come and go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from driftline.streams.status.status_file import StatusFile, ended


def test_a_folder_that_was_deleted_is_created_again(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status" / "orders.json")
    file.write({"n": 1})
    shutil.rmtree(tmp_path / "status")
    file.write({"n": 2})
    assert json.loads(file.path.read_text()) == {"n": 2}


def test_a_file_that_cannot_be_written_is_reported_and_written_when_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "status"
    folder.write_text("a file where the folder should be")
    file = StatusFile(folder / "orders.json")
    for _ in range(3):
        file.write({"n": 1})
    assert len(caplog.records) == 1
    assert str(file.path) in caplog.text
    folder.unlink()
    file.write({"n": 2})
    assert json.loads(file.path.read_text()) == {"n": 2}
    assert "works again" in caplog.text


def test_the_next_process_knows_how_the_one_before_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    assert StatusFile(path).before is None
    end = ended("the disk is gone", failed=True)
    StatusFile(path).write({"ended": end})
    assert StatusFile(path).before == end
    StatusFile(path).write({"ended": None})
    assert StatusFile(path).before is None
