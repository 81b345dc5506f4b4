"""A worker that can be made to die at a boundary of its own: `python -m tests.faults.launcher --help`.

It is the real worker. Only the lab starts it; the product knows nothing of it.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from features.online import RowStore
from infra.serve import run_worker
from infra.settings import Settings
from streams import cadence, checkpoint_folder
from streams.kafka_broker import KafkaAppender, KafkaBroker
from streams.outbox import Outbox
from streams.usecase import load_case


class Boundary(NamedTuple):
    """A call of the product, and the side of it on which the process dies."""

    owner: Any
    attribute: str
    after: bool


BOUNDARIES = {
    "after-step": Boundary(Outbox, "send", False),
    "within-send": Boundary(KafkaAppender, "_send", True),
    "after-send": Boundary(Outbox, "send", True),
    "after-fence": Boundary(KafkaBroker, "fence", True),
    "before-rows": Boundary(RowStore, "put", False),
    "after-rows": Boundary(RowStore, "put", True),
    "after-fork": Boundary(checkpoint_folder._ForkedWrite, "__init__", True),
    "before-rename": Boundary(checkpoint_folder._UnfinishedFile, "_show", False),
    "after-rename": Boundary(checkpoint_folder._UnfinishedFile, "_show", True),
    "before-prune": Boundary(checkpoint_folder.CheckpointFolder, "remove", False),
}
"""By name. All but those of rows and checkpoints are on the way of every frame, or of every take-over."""


def _die_at(boundary: Boundary, nth: int) -> None:
    called = 0
    original = getattr(boundary.owner, boundary.attribute)

    def count() -> None:
        nonlocal called
        called += 1
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
    setattr(boundary.owner, boundary.attribute, wrapper)


def _disk_full_while(flag: Path) -> None:
    """Checkpoints find no room while `flag` exists: the kernel refuses the child's write."""
    write: Callable[..., None] = checkpoint_folder._write_and_exit

    def limited(*args: Any) -> None:
        if flag.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        write(*args)

    checkpoint_folder._write_and_exit = limited


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.launcher", description=__doc__)
    parser.add_argument("case", help="module:attribute")
    parser.add_argument("--die", choices=list(BOUNDARIES), help="die by SIGKILL at this boundary")
    parser.add_argument("--nth", type=int, default=1, help="the how-manieth time it is reached")
    parser.add_argument("--checkpoint-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--full-while", type=Path, help="the disk is full for checkpoints while this exists")
    given = parser.parse_args()
    if given.die:
        _die_at(BOUNDARIES[given.die], given.nth)
    if given.full_while:
        _disk_full_while(given.full_while)
    cadence.MOST = given.checkpoint_every
    run_worker(load_case(given.case), Settings.from_environment())


if __name__ == "__main__":
    main()
