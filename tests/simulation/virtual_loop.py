"""An event loop without threads, sockets or a clock: a seed decides what runs next, and time is virtual.

Any callback that is ready may be the next one. Time goes on a little with each, and to the next timer when
nothing is ready, so that a simulated hour of waiting costs nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, NamedTuple

TICK = 0.01
"""Seconds of virtual time that one callback takes."""


class Process:
    """What is killed as a whole, and can be stopped for a while, as by SIGKILL and SIGSTOP."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused_until = 0.0
        self.unheard_until = 0.0
        """Nothing between it and the broker arrives before."""
        self.unheard_from_send = False
        """Whether that begins with the next thing it sends."""


_process: ContextVar[Process] = ContextVar("process")
"""The process that a callback belongs to; a task hands it down to the tasks it creates."""


class _Due(NamedTuple):
    """A callback, and whose it is."""

    process: Process
    handle: asyncio.Handle


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks of processes one by one, by `step`; those of a dead process are dropped, those of a
    stopped one wait."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._time = 0.0
        self._ready: list[_Due] = []
        self._timers: list[tuple[float, int, _Due]] = []
        self._timers_made = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._failures: list[BaseException] = []
        self.steps = 0

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What other threads do is done at once."""
        done: asyncio.Future[Any] = self.create_future()
        done.set_result(func(*args))
        return done

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop of this thread; at the end, end everything that is left."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            for task in self._tasks:
                task.get_coro().close()  # type: ignore[union-attr]
            asyncio._set_running_loop(None)

    def spawn(self, process: Process, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A new task of a process."""
        context = copy_context()
        context.run(_process.set, process)
        return self.create_task(coroutine, name=name, context=context)

    def step(self) -> None:
        """Run one callback that may run now, or let time pass until there is one.

        Raises what a task has failed with: nobody else would tell of it.
        """
        self.steps += 1
        self._wake()
        now = self._time
        able = [number for number, due in enumerate(self._ready) if due.process.paused_until <= now]
        if able:
            due = self._ready.pop(able[int(self._random.random() * len(able))])
            self._time += TICK
            if not due.handle.cancelled():
                due.handle._run()
        else:
            self._wait()
        if self._failures:
            raise self._failures[0]

    def _wake(self) -> None:
        while self._timers and self._timers[0][0] <= self._time:
            self._ready.append(heapq.heappop(self._timers)[2])

    def _wait(self) -> None:
        """Let time pass to when a timer is due, or a stopped process goes on."""
        moments = [due.process.paused_until for due in self._ready]
        if self._timers:
            moments.append(self._timers[0][0])
        self._time = max(self._time + TICK, min(moments, default=0.0))

    def leap(self, seconds: float) -> None:
        """Let time pass at once, as for machines that were suspended."""
        self._time += seconds

    def kill(self, process: Process) -> None:
        """End a process at whatever its tasks wait for: they never learn of it."""
        process.alive = False
        self._ready = [due for due in self._ready if due.process is not process]
        self._timers = [timer for timer in self._timers if timer[2].process is not process]
        heapq.heapify(self._timers)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _due(self, handle: asyncio.Handle, context: Context | None) -> _Due:
        process = _process.get() if context is None else context[_process]
        return _Due(process, handle)

    # what asyncio, and so the code under test, asks of a loop

    def time(self) -> float:
        return self._time

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        due = self._due(handle, context)
        if due.process.alive:
            self._ready.append(due)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, self._due(handle, context)))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when it is due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        task.add_done_callback(self._ended, context=context or copy_context())
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Called by asyncio: a callback has raised, or a task of a dead process is forgotten."""
        if (error := context.get("exception")) is not None:
            self._failures.append(error)
