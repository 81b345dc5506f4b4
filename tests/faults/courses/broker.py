"""Faults of the broker: it dies, is silent, refuses, or its answers are lost."""

from __future__ import annotations

import time

from kafka.admin import ConfigResource, ConfigResourceType

from tests.faults.courses.moves import (
    feed_on,
    until_taken_over_again,
)
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.run import Run
from tests.faults.lab.stack import until

BROKER_KILLS = 5


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
    until_taken_over_again(worker, "MessageSizeTooLarge")
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


@fault
def answer_lost(run: Run) -> Outcome:
    """The broker took a frame's outputs and its answer never came: they must not be sent again."""
    worker = run.worker("--lose-answer", str(run.random.randint(4, 12)))
    run.feed_to(0.2)
    for number in range(4):
        until_taken_over_again(worker, f"answer {number} is lost", lambda: feed_on(run, worker))
    return Outcome(run.settle(worker))
