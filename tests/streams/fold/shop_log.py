"""Logs of a small shop, and what the fold makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from shop import START, Asked, Dropped, Product, Settled, logistic

from driftline import (
    HOUR,
    Binary,
    Label,
    Member,
    PerKey,
    UseCase,
    count,
    derive,
    field,
    lookup,
    mean,
    std,
)
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord


def case(**changes: Any) -> UseCase:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR, void=[Dropped])
    declared = UseCase(
        "orders",
        key="shop",
        events=[Asked, Settled, Dropped, Product],
        features={
            "amount": field("amount"),
            "hour": derive(lambda e: e.at.hour),
            "bad_1h": mean(Settled, "bad", by="shop", over=HOUR),
            "spread_1h": std(Settled, "bad", by="shop", over=HOUR),
            "asked_1h": count(Asked, by="shop", over=HOUR),
            "weight": lookup(Product, "weight", by="product"),
        },
        task=Binary("bad", ask=Asked, label=label),
        models=PerKey(champion=Member("logistic", logistic), frozen_after=20),
        max_jump=24 * HOUR,
    )
    return replace(declared, **changes)


class Log:
    """Builds the records of one partition; times are minutes after the start."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def raw(self, value: bytes | None, key: bytes | None = b"s") -> Log:
        self.records.append(LogRecord(len(self.records), key, value))  # type: ignore[arg-type]
        return self

    def event(self, event_type: str, minute: float, name: str, **fields: Any) -> Log:
        at = (START + timedelta(minutes=minute)).isoformat()
        body = {"type": event_type, "id": fields.pop("id", f"{event_type}-{name}-{minute}"), "at": at}
        key = b"s"
        if event_type not in ("clock", "product"):
            body |= {"order": name, "shop": "s"}
        return self.raw(json.dumps(body | fields).encode(), key)

    def ask(self, minute: float, name: str, amount: float = 1.0, **fields: Any) -> Log:
        return self.event("asked", minute, name, amount=amount, **fields)

    def settle(self, minute: float, name: str, bad: float = 1.0, **fields: Any) -> Log:
        return self.event("settled", minute, name, bad=bad, **fields)

    def drop(self, minute: float, name: str) -> Log:
        return self.event("dropped", minute, name)

    def clock(self, minute: float) -> Log:
        return self.event("clock", minute, "c")


def fold(declared: UseCase, log: Log) -> tuple[PartitionProcessor, Outputs]:
    processor = PartitionProcessor(declared, 0)
    return processor, processor.step(log.records)


def outcomes(out: Outputs) -> list[dict[str, Any]]:
    return [json.loads(o.value) for o in out.outcomes]


def refusals(out: Outputs) -> list[tuple[str, str]]:
    return [(dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode()) for o in out.dead_letters]


def busy_log(steps: list[tuple[int, int, float]]) -> Log:
    """A log from drawn numbers: asks, labels, voids, repeats, references, bad records, clocks."""
    log = Log()
    minute = 0.0
    for n, (what, ahead, value) in enumerate(steps):
        minute += ahead
        name = f"o{n}"
        earlier = f"o{max(0, n - 1 - ahead)}"
        if what <= 3:
            log.ask(minute, name, amount=value, product="p" if what == 1 else None)
        elif what <= 6:
            log.settle(minute - (5 if what == 6 else 0), earlier, bad=value)
        elif what == 7:
            log.drop(minute, earlier)
        elif what == 8:
            log.raw(b"broken")
        elif what == 9:
            log.event("product", minute, "p", product="p", weight=value)
        elif what == 10:
            log.clock(minute)
        elif log.records:
            log.raw(log.records[-1].value)
    return log


steps = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 20), st.floats(0, 1).map(lambda v: round(v, 3))),
    min_size=1,
    max_size=80,
)


class Unspeakable(Exception):
    """An error of user code that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def unspeakable(event: Any) -> float:
    raise Unspeakable
