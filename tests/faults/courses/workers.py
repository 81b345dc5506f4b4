"""Faults of the workers: they die, end, are paused, come and go, crash, or stand still."""

from __future__ import annotations

import time

from tests.faults.courses.moves import (
    feed_on,
    killed,
    until_anew,
)
from tests.faults.courses.register import FAULTS, Outcome, fault
from tests.faults.lab.launcher import BOUNDARIES
from tests.faults.lab.run import Run
from tests.faults.lab.stack import LabError, until
from tests.faults.lab.worker_process import WorkerProcess


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
        worker = killed(run, worker)
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
            feed_on(run, worker)
        return worker.died()

    until(dead, f"the worker dies; see {worker.log}")


def _register_boundaries() -> None:
    for name in BOUNDARIES:
        FAULTS[f"die-{name}"] = lambda run, name=name: boundary(run, name)


_register_boundaries()


@fault
def sigterm(run: Run) -> Outcome:
    """SIGTERM at random instants: exit code 0 within 5 seconds, and the successor continues at once."""
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


def zombie_of(run: Run, stopped: WorkerProcess, heir: WorkerProcess | None = None) -> Outcome:
    """Make a zombie of a worker at work, and let it or its heir (a new one) end the run."""
    stopped.pause()
    run.note("SIGSTOP")
    other = heir or run.worker()
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
def app_crash(run: Run) -> Outcome:
    """Faust's app crashes: the worker restarts, as the same process."""
    flag = run.home / "crash"
    worker = run.worker("--crash-when", str(flag))
    for number in range(2):
        run.feed_to((number + 1) / 4)
        run.until_published((number + run.random.uniform(0.2, 0.9)) / 4)
        run.feed_to((number + 2) / 4)
        flag.touch()
        run.note("the app crashes")
        until_anew(worker, number + 1)
        awaited = run.next_prediction()
        run.feed_to((number + 2.5) / 4)
        run.measure("app crashed to next prediction", awaited())
    return Outcome(run.settle(worker))


@fault
def standstill(run: Run) -> Outcome:
    """A partition that serves is handed no records any more: noticed, and the worker restarts."""
    flag = run.home / "deaf"
    worker = run.worker("--deaf-while", str(flag))
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.1, 0.3))
    flag.touch()
    run.note("no records are handed over")
    run.feed_to(0.7)
    noticed = run.clock()
    until_anew(worker, 1)
    flag.unlink()
    run.measure("standstill to restarting", noticed())
    return Outcome(run.settle(worker))


@fault
def out_of_group(run: Run) -> Outcome:
    """One of two workers is put out of the group without its noticing, and its partitions are given to the
    other: it restarts."""
    flag = run.home / "out"
    workers = [run.worker("--out-while", str(flag)), run.worker()]
    until(lambda: all(worker.in_state("serving") for worker in workers), "both workers serve")
    run.feed_to(0.4)
    run.until_published(run.random.uniform(0.1, 0.3))
    flag.touch()
    run.note("one worker is out of the group")
    noticed = run.clock()
    run.until_serving(workers[1])
    run.feed_to(0.7)
    until_anew(workers[0], 1)
    flag.unlink()
    run.measure("out of the group to restarting", noticed())
    until(lambda: _share(*workers), "both workers serve, each other partitions")
    return Outcome(run.settle(run.random.choice(workers)))
