"""The way of an event to its prediction, as the architecture page lists it, held against a traced step."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import shop

from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.declare.topics import Topics
from driftline.streams.fold.learner_input import Question, Turn
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.owner.partition_task import Frame, PartitionTask
from driftline.streams.records.ports import Place, StoredRecord
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints

ROOT = Path(__file__).parents[3]
LOG = Place(Topics("orders", 1).log, 0)
MOST = 14
PATIENCE = 30.0


def listed() -> list[str]:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    return re.findall(r"^\d+\. `([\w/]+\.py:[\w.]+)`", page, re.M)


def functions(file: Path) -> Iterator[tuple[str, str]]:
    """(name within its class, source) of every method of a module."""
    source = file.read_text("utf-8")
    for kind in ast.parse(source).body:
        for function in getattr(kind, "body", ()):
            if isinstance(kind, ast.ClassDef) and isinstance(
                function, ast.FunctionDef | ast.AsyncFunctionDef
            ):
                yield f"{kind.name}.{function.name}", ast.get_source_segment(source, function) or ""


def stack(frame: FrameType | None) -> list[str]:
    """The functions of the product on the stack, the outermost first."""
    hops = []
    while frame is not None:
        file = Path(frame.f_code.co_filename).resolve()
        if file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in ("streams", "online_models"):
            hops.append(f"{file.relative_to(ROOT)}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return hops[::-1]


class Traced:
    """Where the stack stood when a frame was put, when its request was known, and when the first member was
    asked for its answer."""

    def __init__(self) -> None:
        self.put: list[str] = []
        self.known: list[str] = []
        self.asked: list[str] = []

    def __call__(self, frame: FrameType, what: str, _: Any) -> None:
        if what != "call":
            return
        code, before = frame.f_code, frame.f_back
        if code is PartitionTask.put.__code__:
            self.put = stack(frame)
        elif code is Turn.known.__code__ and isinstance(frame.f_locals["item"], Question):
            self.known = stack(before)
        elif code is type(shop.orders.task).predict.__code__ and not self.asked:
            self.asked = stack(before)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def one_request(traced: Traced) -> None:
    """Trace a request through a partition that is served."""
    broker = MemoryBroker()
    case = shop.orders
    deployment = Deployment(
        case, code_of(case), Topics("orders", 1), broker, MemoryCheckpoints(), Seal(b"k" * KEY_BYTES)
    )
    served = PartitionTask(deployment, 0, CheckpointBudget())
    served.start()
    await until(lambda: served.state == "serving")
    broker.add(LOG, b"w", case.codec().encode(shop.asked(0, 0, "w")))
    answered: list[bool] = []
    sys.setprofile(traced)
    try:
        served.put(Frame([cast(StoredRecord, broker.at(LOG)[-1])], lambda: answered.append(True)))
        await until(lambda: bool(answered))
    finally:
        sys.setprofile(None)
    await served.stop()


def test_a_step_goes_the_way_that_the_architecture_page_lists() -> None:
    traced = Traced()
    asyncio.run(one_request(traced))
    serving = next(n for n, hop in enumerate(traced.known) if hop.endswith("PartitionTask._serve"))
    shared = [hop for hop in traced.asked if hop in traced.known]
    way = [*traced.put, *traced.known[serving:], *traced.asked[len(shared) :]]
    assert listed()[2:] == way


def test_the_way_is_short_and_its_beginning_in_the_transport_is_there() -> None:
    hops = listed()
    assert 0 < len(hops) <= MOST
    for hop, hands_on in zip(hops[:2], ("queue.put_nowait(", "partition_task.put("), strict=True):
        file, name = hop.split(":")
        assert hands_on in dict(functions(ROOT / file))[name]
