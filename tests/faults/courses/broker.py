"""Faults of the broker: it dies, is silent, refuses, or its answers are lost."""

from __future__ import annotations

import time

from tests.faults.courses.moves import (
    alter_topic,
    feed_on,
    measure_return,
    until_taken_over_again,
    worker_that_answers,
)
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.run import Run
from tests.faults.lab.stack import until

BROKER_KILLS = 5
MISSING = 20.0
"""Seconds for which replicas are missing."""


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
        measure_return(run, "broker back", (number + 2.5) / (BROKER_KILLS + 1))
    return Outcome(run.settle(worker))


def broker_paused_for(run: Run, seconds: float) -> Outcome:
    """The broker answers nothing for a while, its connections stay open."""
    worker = worker_that_answers(run)
    run.feed_to(0.8)
    run.lab.pause_broker()
    run.note(f"the broker is paused for {seconds:g} s")
    time.sleep(seconds)  # the fault itself
    run.lab.resume_broker()
    measure_return(run, "broker back", 0.95)
    return Outcome(run.settle(worker))


@fault
def broker_paused(run: Run) -> Outcome:
    """The broker is paused for a minute."""
    return broker_paused_for(run, 60.0)


@fault
def send_refused(run: Run) -> Outcome:
    """An output larger than its topic allows, for a while: nothing may follow it until it is taken."""
    worker = worker_that_answers(run)
    topic = run.random.choice(_written(run))
    alter_topic(run, topic, "max.message.bytes", 400)
    run.note(f"{topic} takes 400 bytes at most")
    run.feed_to(0.8)
    until_taken_over_again(worker, "MessageSizeTooLarge")
    alter_topic(run, topic, "max.message.bytes", 1_048_588)
    run.note("it takes all again")
    return Outcome(run.settle(worker))


def _written(run: Run) -> list[str]:
    """Topics that a worker writes to for each request."""
    between = [one.name for one in run.topics.between(run.stages.code)]
    return [run.topics.predictions, run.topics.outcomes, *between]


@fault
def replicas_missing(run: Run) -> Outcome:
    """For a while a topic has fewer replicas than it needs to take anything; the others take all."""
    worker = worker_that_answers(run)
    topic = run.random.choice(_written(run))
    alter_topic(run, topic, "min.insync.replicas", 2)
    run.note(f"{topic} takes nothing for {MISSING:g} s")
    run.feed_to(0.8)
    time.sleep(MISSING)  # the fault itself
    awaited = run.next_prediction()
    run.feed_to(0.95)  # the topic may be that of the outcomes
    alter_topic(run, topic, "min.insync.replicas", 1)
    run.measure("replicas back to next prediction", awaited())
    return Outcome(run.settle(worker))


@fault
def send_timed_out(run: Run) -> Outcome:
    """The broker answers nothing until sends time out: it may take them yet, or have taken them."""
    worker = worker_that_answers(run, "--request-timeout", "2")
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
    measure_return(run, "broker back", 0.95)
    return Outcome(run.settle(worker))


@fault
def answer_lost(run: Run) -> Outcome:
    """The broker took a frame's outputs and its answer never came: they must not be sent again."""
    worker = run.worker("--lose-answer", str(run.random.randint(4, 12)))
    run.feed_to(0.2)
    for number in range(4):
        until_taken_over_again(worker, f"answer {number} is lost", lambda: feed_on(run, worker))
    return Outcome(run.settle(worker))
