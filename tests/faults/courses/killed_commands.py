"""SIGKILL of commands beside the workers: warm-up, upgrade, archive.

Registered beside those of `faults`; a run is judged in the same way.
"""

from __future__ import annotations

import time
from pathlib import Path

from driftline.streams.simulation.sources import as_warm_up, layout
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.feed import CASE
from tests.faults.lab.run import Run
from tests.faults.lab.stack import LabError, until

ANEW = "tests.faults.cases:flights_anew"
PART = 50
"""Offsets a part of the archive: many are written in a run."""


@fault
def killed_in_warm_up(run: Run) -> Outcome:
    """Producer and worker are killed within a warm-up, which the same command ends as if nothing had been."""
    run.log_is_the_source = False
    history, run.events = run.events[: run.limit // 2], run.events[run.limit // 2 :]
    wanted = [[], [], []]  # type: list[list[tuple[bytes | None, bytes]]]
    for partition, record in layout(run.case, as_warm_up(run.case, history), run.case.partitions):
        wanted[partition].append((record.key, record.value))
    path = run.home / "history.jsonl"
    path.write_bytes(b"\n".join(run.case.codec().encode(event) for event in history))
    worker = run.worker("--checkpoint-every", "0.1")
    for number in range(2):
        records = sum(map(len, wanted)) * (number + run.random.uniform(0.1, 0.5)) / 2
        _warm_up_killed(run, path, records)
        worker.kill()
        worker = run.worker("--checkpoint-every", "0.1")
    _sends_the_rest(run, path)
    found = [[(r.key, r.value) for r in records] for records in run.read(run.topics.log)]
    if found != wanted:
        raise LabError(f"the log holds {[*map(len, found)]} records of a warm-up of {[*map(len, wanted)]}")
    run.note("the warm-up is whole; SIGKILL of the worker that folds it")
    run.until_passed(worker, run.random.uniform(0.1, 0.9))
    worker.kill()
    return Outcome(run.settle(run.worker()))


def _warm_up_killed(run: Run, history: Path, records: float) -> None:
    producing = run.command("produce", CASE, str(history), "--warm-up")

    def has_begun() -> bool:
        return producing.poll() is not None or sum(run.ends(run.topics.log).values()) >= records

    until(has_begun, f"the warm-up has {records:.0f} records")
    producing.kill()
    run.note(f"SIGKILL of the warm-up at {sum(run.ends(run.topics.log).values())} records")
    producing.wait()


def _sends_the_rest(run: Run, history: Path) -> None:
    producing = run.command("produce", CASE, str(history), "--warm-up")
    code = until(lambda: producing.poll() is not None and [producing.returncode], "the warm-up ends")
    # one that was whole before it was killed is refused: only the beginning of a log can be a warm-up
    if code != [0]:
        run.note(f"the warm-up was whole already (exit code {code[0]})")


@fault
def killed_in_upgrade(run: Run) -> Outcome:
    """Upgrades are killed on their way, while the code before serves; then one is not."""
    old = run.worker()
    run.feed_to(0.3)
    run.until_published(run.random.uniform(0.05, 0.25))
    for number in range(2):
        upgrading = run.worker("--upgrade", case_path=ANEW)
        run.feed_to(0.3 + (number + 1) * 0.15)
        until(lambda u=upgrading: u.log.read_text(), f"the upgrade begins; see {upgrading.log}")
        time.sleep(run.random.uniform(0, 2))  # anywhere between its first word and its last
        run.note(
            f"SIGKILL of the upgrade; {'the old code serves' if old.alive else 'the old code has ended'}"
        )
        upgrading.kill()
    upgrading = run.worker("--upgrade", case_path=ANEW)
    run.feed_to(0.8)
    awaited = run.clock()
    until(lambda: not old.alive, f"the old code is fenced out; see {old.log}")
    run.measure("start of the upgrade to the old code's end", awaited())
    if old.process.exitcode != 0:  # it was superseded, which is no failure
        raise LabError(f"the old code ended with {old.process.exitcode}; see {old.log}")
    run.until_serving(upgrading)
    return Outcome(run.settle(upgrading))


@fault
def killed_in_archive(run: Run) -> Outcome:
    """The archiver is killed while it writes; what it left is the log, from which all is folded again."""
    worker = run.worker()
    for number in range(4):
        run.feed_to((number + 1) / 6)
        before = sum(run.archive_ends().values())
        archiving = run.command("archive", CASE, "--part-size", str(PART), "--topic", "log")
        until(lambda b=before: sum(run.archive_ends().values()) > b, "a part is archived")
        time.sleep(run.random.uniform(0, 0.1))  # anywhere within the parts that follow
        archiving.kill()
        archiving.wait()
        run.note(f"SIGKILL of the archiver at {run.archive_ends()}")
    run.until_published(0.6)
    run.measure("SIGTERM to exit", worker.terminate())
    for path in run.checkpoints():
        path.unlink()
    ends = run.archive(PART)
    run.delete_records(run.topics.log, ends)
    run.note(f"the log begins at {ends}, where the archive ends")
    return Outcome(run.settle(run.worker()), trimmed=True)
