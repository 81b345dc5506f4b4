"""Faults of a case of several stages on two workers, each of which has some partitions of every stage."""

from __future__ import annotations

from tests.faults.courses.around import network, wrong_worker_clock
from tests.faults.courses.broker import (
    answer_lost,
    broker_kill,
    broker_paused,
    replicas_missing,
    send_refused,
    send_timed_out,
)
from tests.faults.courses.moves import killed, with_checkpoints
from tests.faults.courses.register import CASES, FAULTS, Fault, Outcome, fault_of
from tests.faults.courses.workers import out_of_group, scale, zombie_of
from tests.faults.lab.proxy import Proxy
from tests.faults.lab.run import Run
from tests.faults.lab.stack import until
from tests.faults.lab.worker_process import WorkerProcess

CHAIN = "tests.faults.cases:payments_on_4"
CHAIN_FOR_THREE = "tests.faults.cases:payments_on_3"
LIVE_CHAIN = "tests.faults.cases:payments_live"
LIVE_SECONDS = 20.0
"""For which events happen."""
EXCHANGES = 6
"""How often a worker comes and another one goes."""
IDLE = 5
"""The partition of the log in which none does."""


def pair(run: Run) -> list[WorkerProcess]:
    """Two workers, that share the partitions."""
    workers = [run.worker(), run.worker()]
    until_shared(run, workers)
    return workers


def until_shared(run: Run, workers: list[WorkerProcess]) -> None:
    """Wait until these workers serve all partitions of all stages, each its own."""

    def shared() -> bool:
        served = [worker.in_state("serving") for worker in workers]
        return all(served) and sum(map(len, served)) == len(run.targets)

    until(shared, f"{len(workers)} workers share all partitions; see {workers[0].log}")


@fault_of(CHAIN)
def chain_sigkill(run: Run) -> Outcome:
    """SIGKILL of either worker, at random instants."""
    return kills(run, run.random.randint(3, 5))


def kills(run: Run, count: int) -> Outcome:
    """So many SIGKILLs, one in each stretch of the log; the other worker and a new one go on."""
    workers = pair(run)
    for number in range(count):
        run.feed_to((number + 1) / (count + 1))
        run.until_published((number + run.random.uniform(0.1, 0.9)) / (count + 1))
        run.feed_to((number + 2) / (count + 1))
        victim = run.random.randrange(2)
        workers[victim] = killed(run, workers[victim])
    until_shared(run, workers)
    return Outcome(run.settle(run.random.choice(workers)))


@fault_of(CHAIN_FOR_THREE)
def chain_exchange(run: Run) -> Outcome:
    """Partitions go to and fro between workers that come and go, while events come."""
    workers = pair(run)
    for number in range(EXCHANGES):
        run.feed_to((number + 1) / (EXCHANGES + 2))
        workers.append(run.worker())
        until(lambda: all(worker.in_state("serving") for worker in workers), "every worker serves")
        run.feed_to((number + 2) / (EXCHANGES + 2))
        awaited = run.next_prediction()
        run.measure("SIGTERM to exit", workers.pop(run.random.randrange(2)).terminate())
        run.feed_to((number + 3) / (EXCHANGES + 2))
        run.measure("SIGTERM of one of several to next prediction", awaited())
    until_shared(run, workers)
    return Outcome(run.settle(run.random.choice(workers)))


@fault_of(CHAIN)
def chain_zombie(run: Run) -> Outcome:
    """SIGSTOP of one worker past the session timeout, while the other takes over all stages; then SIGCONT."""
    workers = pair(run)
    run.random.shuffle(workers)
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.05, 0.35))
    run.feed_to(0.6)
    return zombie_of(run, *workers)


@fault_of(CHAIN)
def chain_checkpoints_lost(run: Run) -> Outcome:
    """Of about half of all partitions no checkpoint is left: their folds begin at the start of their topics,
    and send again what others have long read."""
    with_checkpoints(run, 1)
    lost = run.random.sample(run.targets, len(run.targets) // 2)
    for target in lost:
        for path in run.checkpoints(target.partition, target.stage):
            path.unlink()
    run.note(f"no checkpoint is left of {sorted(map(run.stages.name, lost))}")
    return Outcome(run.settle(pair(run)[0]))


@fault_of(LIVE_CHAIN)
def chain_live(run: Run) -> Outcome:
    """Events as they happen, none of them in one partition of the log, then none at all: clock events move
    the watermark of every stage, and each answer has its outcome. One of two workers dies on the way."""
    run.log_is_the_source = False
    itinerary = run.stages.itinerary
    assert itinerary is not None
    run.events = [event for event in run.events if itinerary.entry(event)[1] != IDLE]
    run.pace = len(run.events) / LIVE_SECONDS
    workers = pair(run)
    run.feed_to(0.6)
    run.until_published(0.4)
    workers[0] = killed(run, workers[0])
    run.finish_feed()
    fed = run.clock()
    asked = sum(isinstance(event, run.case.task.ask) for event in run.events)
    until(lambda: _outcomes(run, asked) >= asked, "every answer has its outcome")
    run.measure("last event to last outcome", fed())
    until_shared(run, workers)
    return Outcome(run.settle(workers[1]))


def _outcomes(run: Run, enough: int) -> int:
    """How many outcomes there are; no more than the topic's end, which is beyond its markers, is looked at
    while that is less than enough."""
    end = sum(run.ends(run.topics.outcomes).values())
    return end if end < enough else sum(map(len, run.read(run.topics.outcomes)))


def beside_another(course: Fault) -> Fault:
    """The course of one worker, while another one has its share of the partitions."""

    def with_another(run: Run) -> Outcome:
        run.worker()
        return course(run)

    return with_another


def _register() -> None:
    courses: dict[str, tuple[str, Fault]] = {
        "chain-scale": (CHAIN_FOR_THREE, scale),
        "chain-out-of-group": (CHAIN, out_of_group),
        "chain-broker-kill": (CHAIN, beside_another(broker_kill)),
        "chain-broker-paused": (CHAIN, beside_another(broker_paused)),
        "chain-network-reset": (CHAIN, beside_another(lambda run: network(run, Proxy.reset))),
        "chain-network-half-open": (CHAIN, beside_another(lambda run: network(run, Proxy.half_open))),
        "chain-replicas-missing": (CHAIN, replicas_missing),
        "chain-send-refused": (CHAIN, send_refused),
        "chain-send-timed-out": (CHAIN, send_timed_out),
        "chain-answer-lost": (CHAIN, answer_lost),
        "chain-worker-clock": (CHAIN, beside_another(lambda run: wrong_worker_clock(run, 86_400.0))),
    }
    for name, (case, course) in courses.items():
        FAULTS[name], CASES[name] = course, case


_register()
