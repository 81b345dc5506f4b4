"""A worker that can be made to die at a boundary of its own: `python -m tests.faults.lab.launcher --help`.

It is the real worker. Only the lab starts it; the product knows nothing of it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import inspect
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaTimeoutError

from driftline.features.online.writer import RowStore
from driftline.infra.serving.serve import run_worker
from driftline.infra.settings import Settings
from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints import cadence
from driftline.streams.checkpoints import folder as checkpoint_folder
from driftline.streams.checkpoints.folder import CheckpointFolder
from driftline.streams.declare.usecase import load_case
from driftline.streams.owner.outbox import Outbox
from driftline.streams.owner.partition_task import PartitionTask
from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import Place
from driftline.streams.transport import kafka_broker, worker
from driftline.streams.transport.kafka_broker import KafkaAppender, KafkaBroker, _Sent
from tests.commands.forked_command import begin

MOST_LOST = 40
"""Answers that a worker loses. The owners in a chain send thousands of batches, and after each answer that is
lost a partition is taken over again."""


class Boundary(NamedTuple):
    """A call of the product, and the side of it on which the process dies."""

    owner: Any
    call: Callable[..., Any]
    after: bool


BOUNDARIES = {
    "after-step": Boundary(Outbox, Outbox.send, False),
    "within-send": Boundary(KafkaAppender, KafkaAppender._send, True),
    "after-send": Boundary(Outbox, Outbox.send, True),
    "after-fence": Boundary(KafkaBroker, KafkaBroker.fence, True),
    "before-rows": Boundary(RowStore, RowStore.put, False),
    "after-rows": Boundary(RowStore, RowStore.put, True),
    "state-taken": Boundary(
        checkpoint_folder._UnfinishedFile, checkpoint_folder._UnfinishedFile.__init__, True
    ),
    "before-rename": Boundary(Storage, Storage.adopt, False),
    "after-rename": Boundary(Storage, Storage.adopt, True),
    "before-prune": Boundary(CheckpointFolder, CheckpointFolder.remove, False),
}
"""By name. All but those of rows and checkpoints are on the way of every frame, or of every take-over.
They are the calls themselves, so that one which the product no longer has is an error at once."""


def _die_at(boundary: Boundary, nth: int, armed: Path) -> None:
    """Die at the nth call that comes while `armed` exists."""
    called = 0
    original = boundary.call

    def count() -> None:
        nonlocal called
        called += armed.exists()
        if called == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    async def awaited(*args: Any, **named: Any) -> Any:
        if not boundary.after:
            count()
        result = await original(*args, **named)
        if boundary.after:
            count()
        return result

    @functools.wraps(original)
    def called_at_once(*args: Any, **named: Any) -> Any:
        if not boundary.after:
            count()
        result = original(*args, **named)
        if boundary.after:
            count()
        return result

    wrapper = awaited if inspect.iscoroutinefunction(original) else called_at_once
    setattr(boundary.owner, original.__name__, wrapper)


def _disk_full_while(flag: Path) -> None:
    """Checkpoints find no room while `flag` exists: the kernel refuses the child's write."""
    write: Callable[..., None] = checkpoint_folder._write_and_exit

    def limited(*args: Any) -> None:
        if flag.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        write(*args)

    checkpoint_folder._write_and_exit = limited


def _lose_answer(every: int) -> None:
    """Let every so manieth batch be taken by the broker without anybody learning of it, until so many are."""
    numbers = itertools.count(1)
    send = KafkaAppender._send

    async def lost(delivery: asyncio.Future[Any], number: int) -> None:
        await delivery
        raise KafkaTimeoutError(f"answer {number} is lost")

    async def losing(self: KafkaAppender, place: Place, outputs: Sequence[Output]) -> list[_Sent]:
        sent = await send(self, place, outputs)
        number, left = divmod(next(numbers), every)
        if left or number > MOST_LOST:
            return sent
        return [one._replace(delivery=asyncio.ensure_future(lost(one.delivery, number - 1))) for one in sent]

    KafkaAppender._send = losing


def _request_timeout(seconds: float) -> None:
    kafka_broker.fenced_producer = functools.partial(
        kafka_broker.fenced_producer, request_timeout_ms=int(seconds * 1000)
    )


def _checkpoint_every(seconds: float) -> None:
    """Whatever it costs, and whether or not much is folded meanwhile."""
    cadence.MOST_FOLDED = seconds
    worker.CheckpointBudget = functools.partial(cadence.CheckpointBudget, share=1.0)


def _clock_off(seconds: float) -> None:
    """The wall clock is wrong by so many seconds, as the process sees it."""
    right = time.time
    time.time = lambda: right() + seconds


def _crash_when(flag: Path) -> None:
    """Faust's app crashes, as it does when one of its services fails, once `flag` exists."""
    watch: Callable[..., Awaitable[None]] = worker.Worker._watch_membership

    async def crashing(self: worker.Worker) -> None:
        watching = asyncio.ensure_future(watch(self))
        while not flag.exists():
            await asyncio.sleep(0.1)
        watching.cancel()
        flag.unlink()
        raise RuntimeError("a service of the app fails")

    worker.Worker._watch_membership = crashing


def _deaf_while(flag: Path) -> None:
    """No partition is handed any records while `flag` exists, though they come."""
    put = PartitionTask.put

    def unheard(self: PartitionTask, frame: Any) -> None:
        if not flag.exists():
            put(self, frame)

    PartitionTask.put = unheard


def _out_of_group_while(flag: Path) -> None:
    """While `flag` exists, this worker and its group exchange no messages."""
    known: Callable[..., Awaitable[None]] = GroupCoordinator.ensure_coordinator_known
    beat: Callable[..., Awaitable[bool]] = GroupCoordinator._do_heartbeat

    async def hung() -> None:
        while flag.exists():
            await asyncio.sleep(0.1)

    async def never_known(self: GroupCoordinator) -> None:
        await hung()
        await known(self)

    async def never_beating(self: GroupCoordinator) -> bool:
        await hung()
        return await beat(self)

    GroupCoordinator.ensure_coordinator_known = never_known
    GroupCoordinator._do_heartbeat = never_beating


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lab.launcher", description=__doc__)
    parser.add_argument("case", help="module:attribute")
    parser.add_argument("--die", choices=list(BOUNDARIES), help="die by SIGKILL at this boundary")
    parser.add_argument("--nth", type=int, default=1, help="the how-manieth time it is reached")
    parser.add_argument("--when", type=Path, help="only those times count at which this exists")
    parser.add_argument("--checkpoint-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--full-while", type=Path, help="the disk is full for checkpoints while this exists")
    parser.add_argument("--lose-answer", type=int, help="every so manieth batch is taken, but not answered")
    parser.add_argument("--request-timeout", type=float, help="seconds until a send is given up")
    parser.add_argument("--clock-off", type=float, help="seconds by which the wall clock is ahead")
    parser.add_argument("--crash-when", type=Path, help="Faust's app crashes once this exists")
    parser.add_argument("--deaf-while", type=Path, help="no records are handed over while this exists")
    parser.add_argument(
        "--out-while", type=Path, help="it and its group do not hear each other while this exists"
    )
    parser.add_argument("--mend-topics", action="store_true", help="give topics the settings they need")
    parser.add_argument("--upgrade", action="store_true", help="take the case over from other code")
    return parser


def launch(options: Sequence[str]) -> None:
    """Be the worker that these options ask for."""
    given = _parser().parse_args(options)
    if given.die:
        _die_at(BOUNDARIES[given.die], given.nth, given.when)
    if given.lose_answer:
        _lose_answer(given.lose_answer)
    if given.request_timeout:
        _request_timeout(given.request_timeout)
    if given.clock_off:
        _clock_off(given.clock_off)
    if given.crash_when:
        _crash_when(given.crash_when)
    if given.deaf_while:
        _deaf_while(given.deaf_while)
    if given.out_while:
        _out_of_group_while(given.out_while)
    if given.full_while:
        _disk_full_while(given.full_while)
    _checkpoint_every(given.checkpoint_every)
    run_worker(
        load_case(given.case),
        Settings.read(),
        mend_topics=given.mend_topics,
        upgrade_path=given.case if given.upgrade else None,
    )


def launched(options: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """What a process of the lab does: `launch`, with this environment and what it says in a file."""
    begin(["-m", "tests.faults.lab.launcher", *options], os.environ | environment, [Path(log)])
    launch(options)


if __name__ == "__main__":
    launch(sys.argv[1:])
