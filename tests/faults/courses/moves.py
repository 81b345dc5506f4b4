"""What several faults do or wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing

from kafka.admin import ConfigResource, ConfigResourceType

from driftline.infra.topics.administration import ensure_topics
from tests.faults.courses.register import Outcome
from tests.faults.lab.run import Run
from tests.faults.lab.stack import until
from tests.faults.lab.worker_process import WorkerProcess


def worker_that_answers(run: Run, *options: str) -> WorkerProcess:
    """A worker that has answered some of the first half of the requests."""
    worker = run.worker(*options)
    run.feed_to(0.5)
    run.until_published(run.random.uniform(0.1, 0.4))
    return worker


def alter_topic(run: Run, topic: str, setting: str, value: object) -> None:
    """Give a setting of a topic another value."""
    with closing(run.admin) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {setting: str(value)})])


def killed(run: Run, worker: WorkerProcess) -> WorkerProcess:
    """Kill a worker, start the next in its place, and measure until the next prediction comes."""
    age = run.checkpoint_age()
    run.note("SIGKILL; " + ("no checkpoint yet" if age is None else f"checkpoints {age:.1f} s old"))
    worker.kill()
    awaited = run.next_prediction()
    worker = run.worker()
    run.measure("kill to next prediction", awaited())
    return worker


def measure_return(run: Run, what: str, share: float) -> None:
    """Measure until the next prediction, and feed up to this share: what was fed before the fault may have
    been answered already."""
    awaited = run.next_prediction()
    run.feed_to(share)
    run.measure(f"{what} to next prediction", awaited())


def feed_on(run: Run, worker: WorkerProcess) -> None:
    """Feed a little more when all is folded, so that every frame is reached in the end."""
    if run.all_folded(worker) and run.fed < 0.95:
        run.feed_to(run.fed + 0.02)


def until_taken_over_again(
    worker: WorkerProcess, reason: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait until a worker takes a partition over anew for a reason that has this in it."""

    def said() -> bool:
        meanwhile()
        lines = worker.log.read_text().splitlines()
        return any(reason in line and "taking it over again" in line for line in lines)

    until(said, f"a partition is taken over anew; see {worker.log}")


def until_anew(worker: WorkerProcess, times: int) -> None:
    until(lambda: worker.log.read_text().count("restarts") >= times, f"it restarts; see {worker.log}")


def with_checkpoints(run: Run, count: int) -> None:
    """A worker leaves so many checkpoints of each busy partition and is killed beyond them."""
    worker = run.worker("--checkpoint-every", "0.3")
    for number in range(1, count + 1):
        run.feed_to(0.4 * number / count)
        run.until_checkpoints(number)  # without new records there is no new one
    run.feed_to(0.7)
    run.until_published(run.random.uniform(0.4, 0.6))
    worker.kill()
    run.note(f"SIGKILL with {len(run.checkpoints())} checkpoints")


def refusal(run: Run, partitions: Iterable[int], *words: str) -> Outcome:
    """These partitions are refused with a reason that says so, the others go on."""
    refused = set(partitions)
    worker = run.worker()
    run.until_refused(worker, refused, *words)
    run.feed_to(1)
    run.finish_feed()
    run.until_folded(worker, set(range(run.case.partitions)) - refused)
    run.measure("SIGTERM to exit", worker.terminate())
    return Outcome(refused=refused)


def recreate(run: Run, topic: str) -> None:
    """Delete a topic and make it again under its name."""
    admin = run.admin
    try:
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics(), "the topic is gone")
    finally:
        admin.close()
    ensure_topics(run.lab.bootstrap, run.topics.all())
    run.note(f"{topic} was recreated")
