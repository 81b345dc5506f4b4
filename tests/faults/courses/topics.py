"""Faults of the topics: records deleted, topics recreated, archives with gaps."""

from __future__ import annotations

import shutil

from driftline.streams.records.outputs import KINDS
from tests.faults.courses.moves import (
    recreate,
    refusal,
    with_checkpoints,
)
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.run import Run


@fault
def outputs_deleted_and_known(run: Run) -> Outcome:
    """Everything in some output topics is deleted, but checkpoints know how far they went: it continues."""
    worker = run.worker()
    run.feed_to(0.5)
    run.until_published(0.45)
    run.measure("SIGTERM to exit", worker.terminate())
    for kind in run.random.sample(KINDS, 3):
        topic = getattr(run.topics, kind)
        run.delete_records(topic, run.ends(topic))
        run.note(f"{topic} is emptied")
    return Outcome(run.settle(run.worker()))


@fault
def outputs_deleted_and_unknown(run: Run) -> Outcome:
    """Outputs newer than every checkpoint are deleted, so their end is unknown. The partition is refused."""
    _beyond_checkpoints(run)
    victim = run.random.choice(run.busy)
    topic = run.topics.predictions
    run.delete_records(topic, {victim: run.ends(topic)[victim]})
    run.note(f"{topic}-{victim} is emptied")
    return refusal(run, {victim}, topic, "deleted")


def _beyond_checkpoints(run: Run) -> None:
    """A worker that dies with outputs newer than its checkpoints."""
    worker = run.worker("--checkpoint-every", "0.3")
    run.feed_to(0.3)
    run.until_checkpoints()
    worker.kill()
    worker = run.worker("--checkpoint-every", "1000")
    run.until_serving(worker)
    run.feed_to(0.6)
    run.until_fed()
    run.until_folded(worker)
    worker.kill()
    run.note("SIGKILL with outputs newer than the checkpoints")


@fault
def output_recreated(run: Run) -> Outcome:
    """An output topic was recreated: its topic id says so. Refused where a checkpoint knows the old one."""
    with_checkpoints(run, 1)
    recreate(run, getattr(run.topics, run.random.choice(KINDS)))
    knowing = [p for p in range(run.case.partitions) if run.checkpoints(p)]
    return refusal(run, knowing, "recreated")


@fault
def log_trimmed(run: Run) -> Outcome:
    """The log's beginning is deleted, up to a checkpoint: that checkpoint does."""
    worker = run.worker()
    run.feed_to(0.5)
    run.until_published(0.45)
    run.measure("SIGTERM to exit", worker.terminate())
    ends = {p: int(run.checkpoints(p)[-1].name.partition("-")[0]) for p in range(run.case.partitions)}
    run.delete_records(run.topics.log, ends)
    run.note(f"the log begins at {ends}")
    return Outcome(run.settle(run.worker()), trimmed=True)


@fault
def log_trimmed_too_far(run: Run) -> Outcome:
    """The log is deleted beyond every checkpoint of one partition: offsets are missing. Refused."""
    with_checkpoints(run, 1)
    victim = run.random.choice(run.busy)
    newest = run.checkpoints(victim)[-1]
    begin = int(newest.name.partition("-")[0]) + 1
    if run.random.random() < 0.5:
        run.note("and no checkpoint is left")
        shutil.rmtree(newest.parent)
    run.delete_records(run.topics.log, {victim: begin})
    run.note(f"partition {victim} of the log begins at {begin}")
    outcome = refusal(run, {victim}, run.topics.log, str(begin))
    return Outcome(refused=outcome.refused, trimmed=True)


@fault
def log_archived(run: Run) -> Outcome:
    """The log is deleted as far as it is archived, and no checkpoint is left: the archive has the rest."""
    ends = _archived(run)
    run.delete_records(run.topics.log, ends)
    run.note(f"the log begins at {ends}, where the archive ends")
    return Outcome(run.settle(run.worker()), trimmed=True)


def _archived(run: Run) -> dict[int, int]:
    """A log that is archived, without checkpoints; returns where the archive ends, by partition."""
    worker = run.worker()
    run.feed_to(0.5)
    run.until_published(0.45)
    run.measure("SIGTERM to exit", worker.terminate())
    for path in run.checkpoints():
        path.unlink()
    return run.archive(run.random.randint(50, 200))


@fault
def log_archive_gap(run: Run) -> Outcome:
    """Between the archive and the log offsets are missing, or within the archive: refused."""
    ends = _archived(run)
    victim = run.random.choice([p for p in run.busy if p in ends])
    if run.random.random() < 0.5:
        run.delete_records(run.topics.log, {victim: ends[victim] + 1})
        run.note(f"partition {victim} of the log begins at {ends[victim] + 1}, after the archive's end")
        outcome = refusal(run, {victim}, run.topics.log, f"{ends[victim] + 1}", "archive")
    else:
        run.delete_records(run.topics.log, {victim: ends[victim]})
        part = run.random.choice(run.archived_parts(victim))
        part.unlink()
        run.note(f"{part} is gone")
        outcome = refusal(run, {victim}, run.topics.log, part.name)
    return Outcome(refused=outcome.refused, trimmed=True)
