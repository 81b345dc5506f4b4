"""The faults, each a run's whole course: what is done to the system, and what it must come to.

A fault returns what the run is to be judged by. Instants are drawn from the run's seed as shares of
the predictions, so that a run can be repeated; how far other processes have come by then is theirs.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from kafka.admin import ConfigResource, ConfigResourceType

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.records.outputs import KINDS
from tests.faults.lab import LabError, Run, WorkerProcess, until
from tests.faults.launcher import BOUNDARIES


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the last status of the worker that had all partitions at its end, or the
    partitions that had to be refused. `trimmed`: the log has lost its beginning on purpose."""

    status: dict[str, Any] | None = None
    refused: Collection[int] = ()
    trimmed: bool = False


BROKER_KILLS = 5
Fault = Callable[[Run], Outcome]
FAULTS: dict[str, Fault] = {}
CASES: dict[str, str] = {}
"""Where a fault is not of the flights: the path of its case."""


def fault(course: Fault) -> Fault:
    """Register a fault under its function's name."""
    FAULTS[course.__name__.replace("_", "-")] = course
    return course


def fault_of(case_path: str) -> Callable[[Fault], Fault]:
    """Register a fault under its function's name, of another case than the flights."""

    def register(course: Fault) -> Fault:
        CASES[course.__name__.replace("_", "-")] = case_path
        return fault(course)

    return register


def _killed(run: Run, worker: WorkerProcess) -> WorkerProcess:
    """Kill a worker, start the next in its slot, and measure until the next prediction comes."""
    age = run.checkpoint_age()
    run.note("SIGKILL; " + ("no checkpoint yet" if age is None else f"checkpoints {age:.1f} s old"))
    worker.kill()
    awaited = run.next_prediction()
    worker = run.worker()
    run.measure("kill to next prediction", awaited())
    return worker


@fault
def sigkill(run: Run) -> Outcome:
    """SIGKILL at random instants."""
    return kills(run, run.random.randint(3, 5))


def kills(run: Run, count: int) -> Outcome:
    """So many SIGKILLs, one in each stretch of the log."""
    worker = run.worker()
    for number in range(count):
        run.feed_to((number + 1) / (count + 1))
        run.until_published((number + run.random.uniform(0.1, 0.9)) / (count + 1))
        time.sleep(run.random.uniform(0, 0.3))  # between two frames as well as within one
        run.feed_to((number + 2) / (count + 1))
        worker = _killed(run, worker)
    return Outcome(run.settle(worker))


def boundary(run: Run, name: str) -> Outcome:
    """Death at one boundary, twice, with labels and predictions on their way."""
    for number in range(2):
        dies_between(run, name, number / 3, (number + 1) / 3)
    return Outcome(run.settle(run.worker()))


def dies_between(run: Run, name: str, begin: float, end: float) -> None:
    """A worker dies at a boundary, somewhere between these shares of the log or soon after."""
    # a fence is set for each partition once, rows and checkpoints are written less often than frames
    nth = run.random.randint(1, 6 if name in ("after-step", "within-send", "after-send") else 3)
    armed = run.home / f"armed-{len(run.workers)}"
    if name == "after-fence":
        armed.touch()
    worker = run.worker("--die", name, "--nth", str(nth), "--when", str(armed), "--checkpoint-every", "0.2")
    run.feed_to(end)
    if not armed.exists():
        run.until_published(run.random.uniform(begin, end))
        armed.touch()
    run.note(f"dies at the {nth}. time {name}")
    _until_dead(run, worker)


def _until_dead(run: Run, worker: WorkerProcess) -> None:
    def dead() -> bool:
        if not worker.died():
            _feed_on(run, worker)
        return worker.died()

    until(dead, f"the worker dies; see {worker.log}")


def _feed_on(run: Run, worker: WorkerProcess) -> None:
    """Feed a little more when all is folded, so that every frame is reached in the end."""
    if run.all_folded(worker) and run.fed < 0.95:
        run.feed_to(run.fed + 0.02)


def _register_boundaries() -> None:
    for name in BOUNDARIES:
        FAULTS[f"die-{name}"] = lambda run, name=name: boundary(run, name)


_register_boundaries()


@fault
def sigterm(run: Run) -> Outcome:
    """SIGTERM at random instants: exit code 0 within 5 seconds, and the successor goes on at once."""
    worker = run.worker()
    for number in range(3):
        run.feed_to((number + 2) / 5)
        run.until_published((number + run.random.uniform(1.1, 1.9)) / 5)
        run.feed_to((number + 3) / 5)
        seconds = worker.terminate()
        run.measure("SIGTERM to exit", seconds)
        if seconds > 5:
            raise LabError(f"SIGTERM to exit took {seconds:.1f} s")
        awaited = run.next_prediction()
        worker = run.worker()
        run.measure("start to next prediction", awaited())
    return Outcome(run.settle(worker))


@fault
def zombie(run: Run) -> Outcome:
    """SIGSTOP past the session timeout while another worker serves, then SIGCONT."""
    worker = run.worker()
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.05, 0.35))
    run.feed_to(0.6)
    return zombie_of(run, worker)


def zombie_of(run: Run, stopped: WorkerProcess) -> Outcome:
    """Make a zombie of a worker at work, and let it or its heir end the run."""
    stopped.pause()
    run.note("SIGSTOP")
    other = run.worker()
    run.until_serving(other)
    run.note("another worker serves all partitions")
    run.feed_to(0.9)
    run.until_published(run.random.uniform(0.65, 0.85))
    stopped.resume()
    run.note("SIGCONT")
    # the zombie learns that it is one, and gets partitions of its own
    until(lambda: _share(stopped, other), "both workers serve, each other partitions")
    return Outcome(run.settle(run.random.choice([stopped, other])))


def _share(one: WorkerProcess, other: WorkerProcess) -> bool:
    """Whether both serve and no partition is both's."""
    its, others = one.in_state("serving"), other.in_state("serving")
    return bool(its and others) and not its & others


@fault
def scale(run: Run) -> Outcome:
    """From one worker to three and back, while events come."""
    workers = [run.worker()]
    run.feed_to(0.2)
    run.until_published(0.1)
    for slot in (1, 2):
        started = time.monotonic()
        workers.append(run.worker())
        run.feed_to(0.2 + slot * 0.2)
        until(lambda: all(worker.in_state("serving") for worker in workers), "every worker serves")
        run.measure("start to serving beside others", time.monotonic() - started)
        run.until_published(0.2 + slot * 0.2 - 0.1)
    while len(workers) > 1:
        leaving = workers.pop(run.random.randrange(len(workers)))
        run.feed_to(1 - len(workers) * 0.1)
        awaited = run.next_prediction()
        run.measure("SIGTERM to exit", leaving.terminate())
        run.measure("SIGTERM of one of several to next prediction", awaited())
    run.until_serving(workers[0])
    return Outcome(run.settle(workers[0]))


@fault
def broker_kill(run: Run) -> Outcome:
    """kill -9 of the broker five times, and its restart on the same data."""
    worker = run.worker()
    for number in range(BROKER_KILLS):
        run.feed_to((number + 1) / (BROKER_KILLS + 1))
        run.until_published((number + run.random.uniform(0.2, 0.9)) / (BROKER_KILLS + 1))
        run.feed_to((number + 2) / (BROKER_KILLS + 1))
        run.lab.kill_broker()
        run.note("the broker was killed")
        started = time.monotonic()
        run.lab.start_broker()
        run.measure("broker restart", time.monotonic() - started)
        run.measure("broker back to next prediction", run.next_prediction()())
    return Outcome(run.settle(worker))


def broker_paused_for(run: Run, seconds: float) -> Outcome:
    """The broker answers nothing for a while, its connections stay open."""
    worker = run.worker()
    run.feed_to(0.5)
    run.until_published(run.random.uniform(0.1, 0.4))
    run.feed_to(0.8)
    run.lab.pause_broker()
    run.note(f"the broker is paused for {seconds:g} s")
    time.sleep(seconds)  # the fault itself
    run.lab.resume_broker()
    run.measure("broker back to next prediction", run.next_prediction()())
    return Outcome(run.settle(worker))


@fault
def broker_paused(run: Run) -> Outcome:
    """The broker is paused for a minute."""
    return broker_paused_for(run, 60.0)


@fault
def send_refused(run: Run) -> Outcome:
    """An output larger than its topic allows, for a while: nothing may follow it until it is taken."""
    worker = run.worker()
    run.feed_to(0.5)
    run.until_published(run.random.uniform(0.1, 0.4))
    topic = run.random.choice([run.topics.predictions, run.topics.outcomes])
    _limit(run, topic, 400)
    run.note(f"{topic} takes 400 bytes at most")
    run.feed_to(0.8)
    _until_taken_over_again(worker, "MessageSizeTooLarge")
    _limit(run, topic, 1_048_588)
    run.note("it takes all again")
    return Outcome(run.settle(worker))


def _limit(run: Run, topic: str, size: int) -> None:
    admin = run.admin
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})
        admin.alter_configs([resource])
    finally:
        admin.close()


@fault
def send_timed_out(run: Run) -> Outcome:
    """The broker answers nothing until sends time out: it may take them yet, or have taken them."""
    worker = run.worker("--request-timeout", "2")
    run.feed_to(0.5)
    run.until_published(run.random.uniform(0.1, 0.4))
    run.feed_to(0.8)
    run.until_published(run.random.uniform(0.41, 0.6))
    run.lab.pause_broker()
    run.note("the broker is paused")
    until(lambda: "RequestTimedOutError" in worker.log.read_text(), f"a send times out; see {worker.log}")
    if run.random.random() < 0.5:
        run.note("SIGKILL of the worker, whose sends the broker still has before it")
        worker.kill()
        run.lab.resume_broker()
        worker = run.worker()
    else:
        run.lab.resume_broker()
    run.measure("broker back to next prediction", run.next_prediction()())
    return Outcome(run.settle(worker))


def _until_taken_over_again(
    worker: WorkerProcess, reason: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait until a worker takes a partition over anew for a reason that has this in it."""

    def said() -> bool:
        meanwhile()
        lines = worker.log.read_text().splitlines()
        return any(reason in line and "taking it over again" in line for line in lines)

    until(said, f"a partition is taken over anew; see {worker.log}")


@fault
def app_crash(run: Run) -> Outcome:
    """Faust's app crashes: the worker begins anew, as the same process."""
    flag = run.home / "crash"
    worker = run.worker("--crash-when", str(flag))
    for number in range(2):
        run.feed_to((number + 1) / 4)
        run.until_published((number + run.random.uniform(0.2, 0.9)) / 4)
        run.feed_to((number + 2) / 4)
        flag.touch()
        run.note("the app crashes")
        _until_anew(worker, number + 1)
        awaited = run.next_prediction()
        run.feed_to((number + 2.5) / 4)
        run.measure("app crashed to next prediction", awaited())
    return Outcome(run.settle(worker))


@fault
def standstill(run: Run) -> Outcome:
    """A partition that serves is handed no records any more: noticed, and the worker begins anew."""
    flag = run.home / "deaf"
    worker = run.worker("--deaf-while", str(flag))
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.1, 0.3))
    flag.touch()
    run.note("no records are handed over")
    run.feed_to(0.7)
    noticed = run.clock()
    _until_anew(worker, 1)
    flag.unlink()
    run.measure("standstill to beginning anew", noticed())
    return Outcome(run.settle(worker))


def _until_anew(worker: WorkerProcess, times: int) -> None:
    until(lambda: worker.log.read_text().count("begins anew") >= times, f"it begins anew; see {worker.log}")


@fault
def answer_lost(run: Run) -> Outcome:
    """The broker took a frame's outputs and its answer never came: they must not be sent again."""
    worker = run.worker("--lose-answer", str(run.random.randint(4, 12)))
    run.feed_to(0.2)
    for number in range(4):
        _until_taken_over_again(worker, f"answer {number} is lost", lambda: _feed_on(run, worker))
    return Outcome(run.settle(worker))


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


def _with_checkpoints(run: Run, count: int) -> None:
    """A worker leaves so many checkpoints of each busy partition and is killed beyond them."""
    worker = run.worker("--checkpoint-every", "0.3")
    for number in range(1, count + 1):
        run.feed_to(0.4 * number / count)
        run.until_checkpoints(number)  # without new records there is no new one
    run.feed_to(0.7)
    run.until_published(run.random.uniform(0.4, 0.6))
    worker.kill()
    run.note(f"SIGKILL with {len(run.checkpoints())} checkpoints")


def _damaged(run: Run, harm: Callable[[Run, Any], None]) -> Outcome:
    _with_checkpoints(run, 2)
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
    _with_checkpoints(run, 1)
    for path in run.checkpoints():
        path.unlink()
    return Outcome(run.settle(run.worker()))


@fault
def checkpoint_foreign_key(run: Run) -> Outcome:
    """Checkpoints sealed with another key are not opened; the fold begins at the log's start."""
    _with_checkpoints(run, 1)
    run.key = run.random.randbytes(32).hex()
    worker = run.worker()
    run.until_serving(worker)
    if "sealed with another key" not in worker.log.read_text():
        raise LabError(f"the log does not say that the key is another; see {worker.log}")
    return Outcome(run.settle(worker))


@fault
def poison(run: Run) -> Outcome:
    """Records that are no events, and oversized ones, among the events; a SIGKILL among them."""
    worker = run.worker()
    for number in range(3):
        run.feed_to((number + 1) / 4)
        run.inject(
            (
                run.random.choice([None, b"EWR", b"nobody"]),
                run.random.choice([b"", b"no json", run.random.randbytes(50), b"x" * 1_000_000]),
                run.random.randrange(run.case.partitions),
            )
            for _ in range(10)
        )
    run.until_published(run.random.uniform(0.3, 0.7))
    worker = _killed(run, worker)
    return Outcome(run.settle(worker))


@fault
def disorder(run: Run) -> Outcome:
    """Events that come twice, late and out of order; a SIGKILL among them."""
    run.log_is_the_source = False
    events = run.events
    for _ in range(len(events) // 20):
        _disorder(run, run.random.choice([1, 5, 20]))
    for _ in range(3):
        _disorder(run, 500)  # what it jumps over comes too late
    worker = run.worker()
    run.feed_to(0.7)
    run.until_fed()
    run.until_passed(worker, run.random.uniform(0.5, 0.9))
    run.feed_to(1)  # something to predict is left, however fast the worker is
    worker = _killed(run, worker)
    return Outcome(run.settle(worker))


def _disorder(run: Run, distance: int) -> None:
    """An event comes again so many events later, or changes places with the one there."""
    events = run.events
    index = run.random.randrange(len(events) - 1)
    far = min(len(events) - 1, index + distance)
    if run.random.random() < 0.5:
        events.insert(far, events[index])
    else:
        events[index], events[far] = events[far], events[index]


@fault
def wrong_clock(run: Run) -> Outcome:
    """Events dated 2099 expire nothing; a SIGKILL among them."""
    worker = run.worker()
    codec = run.case.codec()
    asked = [event for event in run.events if isinstance(event, run.case.task.ask)]
    for number in range(3):
        run.feed_to((number + 1) / 4)
        run.until_fed()  # three in a row would agree with each other, and move time
        template = run.random.choice(asked)
        wrong = msgspec.structs.replace(
            template, id=f"{template.id}-2099", at=datetime(2099, 1, 1, tzinfo=UTC)
        )
        key = codec.key(wrong)
        assert key is not None
        run.inject([(key, codec.encode(wrong), partition_of(key, run.case.partitions))])
    run.until_published(run.random.uniform(0.2, 0.6))
    run.feed_to(1)  # something to predict is left, however fast the worker is
    worker = _killed(run, worker)
    return Outcome(run.settle(worker))


@fault
def outputs_deleted_and_known(run: Run) -> Outcome:
    """Everything in some output topics is deleted, but checkpoints know how far they went: it goes on."""
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
    """Outputs newer than every checkpoint are deleted: how far they went nobody knows. Refused."""
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


@fault
def output_recreated(run: Run) -> Outcome:
    """An output topic was made anew: its topic id says so. Refused where a checkpoint knows the old one."""
    _with_checkpoints(run, 1)
    recreate(run, getattr(run.topics, run.random.choice(KINDS)))
    knowing = [p for p in range(run.case.partitions) if run.checkpoints(p)]
    return refusal(run, knowing, "made anew")


def recreate(run: Run, topic: str) -> None:
    """Delete a topic and make it again under its name."""
    admin = run.admin
    try:
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics(), "the topic is gone")
    finally:
        admin.close()
    ensure_topics(run.lab.bootstrap, run.topics.all())
    run.note(f"{topic} was made anew")


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
    _with_checkpoints(run, 1)
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
