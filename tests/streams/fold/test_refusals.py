"""What is refused changes nothing; what the fold itself fails at is reported as its own, with its place."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import shop

from driftline import (
    HOUR,
    Binary,
    Event,
    Label,
    Member,
    PerKey,
    Promotion,
    Reference,
    UseCase,
    count,
    derive,
    distinct,
    field,
    lookup,
    mean,
    on_demand,
)
from driftline.streams.code.state_hash import state_hash
from driftline.streams.errors import DeclarationError, FoldFault
from driftline.streams.fold.intake_state import Counts
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Asked(Event, tag="asked"):
    order: str
    shop: str
    amount: float = 1.0
    tags: list[str] = msgspec.field(default_factory=list)
    seen: frozenset[str] = frozenset()
    part: Any = None
    colour: Colour = Colour.RED


class Settled(Event, tag="settled"):
    order: str
    shop: str
    bad: float
    tags: list[str] = msgspec.field(default_factory=list)
    part: Any = None
    colour: Colour = Colour.RED


class Part(Reference, tag="part"):
    part: Any
    weight: float


def is_bad(event: Settled) -> bool:
    return event.bad > 0.5


def settles(on: str = "order", rule: Callable[[Any], Any] = is_bad) -> Binary:
    return Binary("bad", ask=Asked, label=Label(Settled, on=on, value=rule, wait=2 * HOUR))


def inverse(event: Asked) -> float:
    return 1 / event.amount


def case(**changes: Any) -> UseCase:
    declared = UseCase(
        "orders",
        key="shop",
        events=[Asked, Settled, Part],
        features={
            "inverse": derive(inverse),
            "amount": field("amount", valid=(0, 100)),
            "bad_1h": mean(Settled, "bad", by="shop", over=HOUR),
            "bad_root": mean(Settled, lambda e: e.bad**0.5, by="shop", over=HOUR),
            "by_part": mean(Settled, "bad", by=("shop", "part"), over=HOUR),
            "parts": distinct(
                Settled, lambda e: e.order, by=("shop", "colour"), over=HOUR, most=5, max_keys=1
            ),
            "asked": count(Asked, by="shop", over=HOUR),
            "weight": lookup(Part, "weight", by="part"),
        },
        task=settles(),
        models=PerKey(
            champion=Member("logistic", shop.logistic),
            challengers=[Member("again", shop.logistic)],
            promotion=Promotion(),
        ),
        slices=["part", "colour"],
    )
    return replace(declared, **changes)


class Log:
    """A partition of a case, one event at a time; seconds after the start."""

    def __init__(self, declared: UseCase) -> None:
        self.processor = PartitionProcessor(declared, 0, rows=True)
        self.n = 0

    def raw(self, value: bytes, key: bytes | None = b"s") -> Outputs:
        self.n += 1
        return self.processor.step([LogRecord(self.n - 1, key, value)])

    def event(self, kind: str, at: float, **fields: Any) -> Outputs:
        body = {
            "type": kind,
            "id": f"{kind}-{self.n}",
            "at": (shop.START + timedelta(seconds=at)).isoformat(),
        }
        keyed = {} if kind == "part" else {"shop": "s", "order": f"o{at}"}
        return self.raw(json.dumps(body | keyed | fields).encode(), None if kind == "part" else b"s")

    def state(self) -> str:
        """The state without the counts of what was refused."""
        state = self.processor.state()
        own = state.intake.own
        counted = replace(own, records=0, counts=Counts(own.counts.events, own.counts.predictions))
        return state_hash([state.intake._replace(own=counted), state.learner])


def stages(out: Outputs) -> list[str]:
    return [dict(o.headers)["stage"].decode() for o in out.dead_letters]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"task": settles(on="tags")}, r"Asked\.tags holds a list"),
        ({"slices": ["tags"]}, r"Asked\.tags holds a list"),
        ({"slices": ["seen"]}, r"Asked\.seen holds a frozenset"),
        (
            {"features": {"a": mean(Settled, "bad", by=("shop", "tags"), over=HOUR)}},
            r"'a': Settled\.tags holds",
        ),
        ({"features": {"a": lookup(Part, "weight", by="tags")}}, "has no field 'tags'"),
    ],
)
def test_a_key_that_cannot_be_looked_up_by_is_refused_where_it_is_declared(
    changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(DeclarationError, match=what):
        case(**changes)


def test_what_a_type_does_not_tell_is_a_dead_letter_of_its_stage() -> None:
    by_part = Log(case(task=settles(on="part")))
    assert stages(by_part.event("asked", 0, part=["x"])) == ["label"]
    assert stages(by_part.event("settled", 1, bad=1.0, part={"x": 1})) == ["label"]
    log = Log(case())
    assert stages(log.event("part", 0, part=["x"], weight=1.0)) == ["features"]
    assert stages(log.event("settled", 1, part=["x"], bad=1.0)) == ["features"]
    assert stages(log.event("asked", 2, part=["x"])) == ["features"]
    assert stages(log.event("asked", 2, part=[1, 2], order="o")) == ["features"]
    assert stages(log.event("asked", 3, part=1, colour="blue")) == []
    assert stages(log.event("settled", 4, part=1, bad=1.0, order="o3")) == []


def test_null_is_no_key_that_a_label_is_joined_by() -> None:
    log = Log(case(task=settles(on="part")))
    asked, settled = log.event("asked", 0, part=None), log.event("settled", 1, part=None, bad=1.0)
    assert stages(asked) == stages(settled) == ["label"]
    assert "field 'part' is null" in dict(asked.dead_letters[0].headers)["reason"].decode()


REFUSED: dict[str, dict[str, Any]] = {
    "features: derived": {"kind": "asked", "amount": 0.0, "at": 50},
    "features: a window's value": {"kind": "settled", "bad": -1.0, "at": 50},
    "features: one of several keys": {"kind": "settled", "bad": 1.0, "part": [1], "at": 50},
    "features: a reference's key": {"kind": "part", "part": [1], "weight": 1.0, "at": 50},
    "label": {"kind": "settled", "bad": 7.0, "at": 50},
    "features: out of range, then refused": {"kind": "asked", "amount": -5.0, "part": [1], "at": 50},
    "late": {"kind": "settled", "bad": 1.0, "at": -90_000},
    "decode": {"kind": "settled", "bad": "no", "at": 50},
    "size": {"kind": "asked", "part": "x" * 60_000, "colour": "red", "at": 50},
}


def picky(event: Settled) -> bool:
    if event.bad == 7.0:
        raise LookupError(event.order)
    return is_bad(event)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_event_changes_nothing_but_the_counts(name: str) -> None:
    texts = {
        f"text_{n}": derive(lambda e: str(e.part) * 2 if len(str(e.part)) > 100 else None) for n in range(9)
    }
    log = Log(case(task=settles(rule=picky), features=dict(case().features) | texts))
    for n in range(4):
        log.event("asked", n, part=n % 2)
        log.event("settled", n, part=n % 2, bad=float(n % 2))
    before = log.state()
    fields = dict(REFUSED[name])
    out = log.event(fields.pop("kind"), fields.pop("at"), **fields)
    assert stages(out) == [name.partition(":")[0]]
    assert log.state() == before
    assert [out.predictions, out.outcomes, out.drift, out.models, out.rows] == [[], [], [], [], {}]


class Panic(BaseException):
    """An error that is no Exception, as libraries in Rust raise."""


@pytest.mark.parametrize("raised", [SystemExit(1), Panic("index out of bounds")])
def test_user_code_that_would_end_the_process_is_a_dead_letter_of_its_stage(raised: BaseException) -> None:
    def ends(event: Any) -> float:
        if event.id.startswith("bad"):
            raise raised
        return 1.0

    def ends_at(amount: float) -> float:
        if amount == 7.0:
            raise raised
        return amount

    computed = {"amount": field("amount"), "root": on_demand(ends_at, of="amount")}
    for changes, kind, stage in (
        ({"features": {"derived": derive(ends)}}, "asked", "features"),
        ({"features": {"windowed": mean(Settled, ends, by="shop", over=HOUR)}}, "settled", "features"),
        ({"features": computed}, "asked", "features"),
        ({"task": settles(rule=ends)}, "settled", "label"),
    ):
        log = Log(case(**changes))
        out = log.event(kind, 0, id="bad", **({"amount": 7.0} if kind == "asked" else {"bad": 1.0}))
        assert stages(out) == [stage]
        assert type(raised).__name__ in dict(out.dead_letters[0].headers)["reason"].decode()
        assert stages(log.event("asked", 1)) == []


def test_an_interrupt_from_the_terminal_ends_the_fold() -> None:
    def waits(event: Asked) -> float:
        raise KeyboardInterrupt

    log = Log(case(features={"derived": derive(waits)}))
    with pytest.raises(KeyboardInterrupt):
        log.event("asked", 0)


def test_a_fault_of_the_fold_names_partition_and_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(case())
    log.event("asked", 0)

    def broken(*_: Any) -> None:
        raise KeyError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr("driftline.streams.fold.label_join.LabelJoin.add", broken)
        with pytest.raises(
            FoldFault, match=r"partition 0, offset 1: the fold failed with KeyError: 'a fault'"
        ):
            log.event("asked", 1)
    with monkeypatch.context() as patched:
        patched.setattr("driftline.online_models.pool.pool.Pool.observe", broken)
        with pytest.raises(FoldFault, match="offset 2"):
            log.event("asked", 2)


def test_what_a_refused_request_showed_of_ranges_is_not_remembered_with_the_event_after_it() -> None:
    log = Log(case())
    log.event("asked", 0)
    before = log.processor.state().intake.features.ranges.last_outside
    assert stages(log.event("asked", 1, amount=-5.0, part=[1])) == ["features"]
    assert stages(log.event("settled", 2, bad=1.0)) == []
    assert log.processor.state().intake.features.ranges.last_outside == before == {}
    assert stages(log.event("asked", 3, amount=-5.0)) == ["range"]
