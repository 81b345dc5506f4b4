"""Runs coroutines by hand, one step of one of them at a time, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextlib import suppress
from random import Random
from typing import Any


class Crashed(BaseException):
    """Raised by the world into code of a process that is no more."""


class Cancelled(BaseException):
    """Thrown into a task that is not waited for any longer."""


class Turn:
    """Awaited to let others go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


TURN = Turn()


class Process:
    """What crashes as a whole, and can be stopped for a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused_until = 0

    def check(self) -> None:
        """Raises Crashed when the process is no more: dying code must not do anything."""
        if not self.alive:
            raise Crashed(self.name)


class Task:
    """One coroutine of a process."""

    def __init__(self, process: Process, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self.process = process
        self.name = name
        self.coroutine = coroutine
        self.done = False


class Scheduler:
    """Steps one randomly chosen task after another. What a task raises is raised by `step`."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.steps = 0
        self.tasks: list[Task] = []

    def spawn(self, process: Process, name: str, coroutine: Coroutine[Any, Any, None]) -> Task:
        """A new task, which begins at some later step."""
        task = Task(process, name, coroutine)
        self.tasks.append(task)
        return task

    def step(self) -> None:
        """One step of one task that is not paused; time passes when all are."""
        self.steps += 1
        ready = [task for task in self.tasks if task.process.paused_until <= self.steps]
        if ready:
            self._step(ready[int(self._random.random() * len(ready))])

    def _step(self, task: Task) -> None:
        try:
            task.coroutine.send(None)
        except StopIteration:
            self._end(task)

    def cancel(self, task: Task) -> None:
        """Throw Cancelled into a task, at the await it is at."""
        try:
            task.coroutine.throw(Cancelled())
        except (StopIteration, Cancelled):
            self._end(task)

    def kill(self, process: Process) -> None:
        """End a process at whatever awaits its tasks are at."""
        process.alive = False
        for task in [task for task in self.tasks if task.process is process]:
            with suppress(Crashed):
                task.coroutine.close()
            self._end(task)

    def close(self) -> None:
        """End everything that is left."""
        for process in [task.process for task in self.tasks]:
            self.kill(process)

    def _end(self, task: Task) -> None:
        task.done = True
        self.tasks.remove(task)
