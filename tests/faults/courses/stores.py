"""Faults of what workers keep: the online store, the disk, checkpoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from tests.faults.courses.moves import (
    with_checkpoints,
)
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.run import Run
from tests.faults.lab.stack import LabError, until


@fault
def store_down(run: Run) -> Outcome:
    """Another process holds the online store's only write lock for a while, and a worker is killed then."""
    worker = run.worker()
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.1, 0.3))
    database = run.settings.features(run.case.name).online_file
    lock = sqlite3.connect(database, isolation_level=None, timeout=30)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        run.note("the online store is locked")
        run.feed_to(0.7)
        run.until_published(run.random.uniform(0.5, 0.65))
        if run.random.random() < 0.5:
            run.note("SIGKILL meanwhile")
            worker.kill()
            lock.execute("ROLLBACK")
            worker = run.worker()
        else:
            lock.execute("ROLLBACK")
        run.note("the online store is back")
    finally:
        lock.close()
    return Outcome(run.settle(worker))


@fault
def disk_full(run: Run) -> Outcome:
    """No room for checkpoints for a while: serving goes on, older checkpoints do, later ones come."""
    full = run.home / "full"
    options = ("--full-while", str(full), "--checkpoint-every", "0.3")
    worker = run.worker(*options)
    run.feed_to(0.3)
    run.until_checkpoints()
    full.touch()
    run.note("the disk is full")
    run.feed_to(0.6)
    until(
        lambda: any(p.get("checkpoint_failed") for p in worker.partitions.values()),
        f"a checkpoint fails; see {worker.log}",
    )
    run.until_published(0.5)
    worker.kill()
    run.note("SIGKILL")
    worker = run.worker(*options)
    run.feed_to(0.8)
    run.until_published(0.7)
    full.unlink()
    run.note("there is room again")
    return Outcome(run.settle(worker))


def _damaged(run: Run, harm: Callable[[Run, Any], None]) -> Outcome:
    with_checkpoints(run, 2)
    for partition in run.busy:
        harm(run, run.checkpoints(partition)[-1])
    return Outcome(run.settle(run.worker()))


@fault
def checkpoint_truncated(run: Run) -> Outcome:
    """The newest checkpoint of each partition is torn: the one before is used."""

    def harm(run: Run, path: Any) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: run.random.randrange(len(content))])

    return _damaged(run, harm)


@fault
def checkpoint_flipped(run: Run) -> Outcome:
    """One bit of the newest checkpoint of each partition is another."""

    def harm(run: Run, path: Any) -> None:
        content = bytearray(path.read_bytes())
        content[run.random.randrange(len(content))] ^= 1 << run.random.randrange(8)
        path.write_bytes(content)

    return _damaged(run, harm)


@fault
def checkpoint_removed(run: Run) -> Outcome:
    """The newest checkpoint of each partition is gone."""
    return _damaged(run, lambda _, path: path.unlink())


@fault
def checkpoints_all_removed(run: Run) -> Outcome:
    """No checkpoint is left: the fold begins at the log's start."""
    with_checkpoints(run, 1)
    for path in run.checkpoints():
        path.unlink()
    return Outcome(run.settle(run.worker()))


@fault
def checkpoint_foreign_key(run: Run) -> Outcome:
    """Checkpoints sealed with another key are not opened; the fold begins at the log's start."""
    with_checkpoints(run, 1)
    run.key = run.random.randbytes(32).hex()
    worker = run.worker()
    run.until_serving(worker)
    if "sealed with another key" not in worker.log.read_text():
        raise LabError(f"the log does not say that the key is another; see {worker.log}")
    return Outcome(run.settle(worker))
