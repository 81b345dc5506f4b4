"""A worker's home on a filesystem that is full or read-only: serving needs neither."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shop

from driftline.infra.errors import InfraError
from driftline.infra.settings import Settings
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.status.status_file import StatusFile
from tests.conftest import System


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small filesystem of its own."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no filesystem can be mounted: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is; returns the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast


def test_a_worker_says_at_its_start_why_it_cannot_write_to_its_home(mounted: Path) -> None:
    settings = Settings(home=mounted / "home")
    ballast = fill(mounted)
    with pytest.raises(InfraError, match=r"cannot be written to: .*No space left.*DRIFTLINE_HOME"):
        settings.see_that_home_is_writable()
    ballast.unlink()
    settings.see_that_home_is_writable()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(InfraError, match=r"cannot be written to: .*Read-only file system"):
        settings.see_that_home_is_writable()


def test_a_status_file_on_a_full_or_read_only_filesystem_is_written_once_it_can_be(
    mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = StatusFile(mounted / "status" / "orders.json")
    file.write({"n": 1})
    ballast = fill(mounted)
    file.write({"n": 2, "long": "." * 100_000})
    assert "No space left" in caplog.text
    ballast.unlink()
    file.write({"n": 3})
    assert "works again" in caplog.text
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    file.write({"n": 4})
    assert "Read-only file system" in caplog.text
    assert file.path.read_text() == '{"n": 3}'


def test_a_segment_for_which_there_is_no_room_leaves_nothing_behind(
    mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = SegmentFolders(mounted, 0).files("00000")
    kept = files.keep(b"kept")
    ballast = fill(mounted)
    with ballast.open("rb+") as file:
        file.truncate(ballast.stat().st_size - 8192)
    segment = bytes(100_000)
    assert files.keep(segment).read(0, len(segment)) == segment
    assert "stay in memory" in caplog.text
    assert [path.name for path in (mounted / "00000" / "segments").iterdir()] == [kept.stored]


def test_a_worker_whose_filesystem_is_full_serves_on_and_catches_up(
    mounted: Path, system_of: Callable[[str], System], eventually: Callable[..., Any]
) -> None:
    system = replace(system_of("shop:orders"), home=mounted)
    said = system.home.parent / "worker.log"
    with said.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "driftline", "worker", "shop:orders"],
            env=system.environment,
            stdout=log,
            stderr=log,
        )
    system.workers.append(worker)
    try:
        events = list(shop.trade(60))
        system.produce(events[:40])
        eventually(lambda: system.folded(worker))
        ballast = fill(mounted)
        system.produce(events[40:80])
        eventually(lambda: len(system.read(system.topics.predictions)) == 40)
        eventually(lambda: "fails, trying again" in said.read_text())
        ballast.unlink()
        system.produce(events[80:])
        eventually(lambda: system.folded(worker))
        assert len(system.read(system.topics.predictions)) == 60
        assert "Traceback" not in said.read_text()
        system.stop(worker)
        expected = [[o.value for o in outputs.predictions] for _, outputs in system.refolded()]
        published = system.read(system.topics.predictions)
        assert [[r.value for r in published if r.partition == n] for n in range(2)] == expected
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
