"""Rare labels of which one kind comes late and the other never: `python -m driftline.bench.drift.fraud`.

Of the payments one in two hundred is a fraud. A chargeback tells it within 25 days, and nothing tells that a
payment was none. Half-way, what frauds look like changes. `fraud` declares no more than that; in `settled`
the same payments get each its label at its deadline, which is the best that can be known by then.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any, NamedTuple

from driftline.features.declare.constructors import field
from driftline.features.declare.declaration import DAY
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.tasks.task import Binary, Label, LabelWarning
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.simulation.sources import LogRecord, layout, with_closing_clock

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 200
"""From the first payment to the last."""
WAIT = 25 * DAY
FEATURES = ("amount", "distance", "velocity", "age")
ODDS = -7.0
"""Log odds of a fraud where all features are 0; one in two hundred payments is one, over all."""
BEFORE = (1.5, -1.0, 0.8, 0.0)
AFTER = (-1.5, 1.0, 0.0, 0.8)
"""Log odds for each unit of a feature, before and after the change."""
CHUNK = 500


class Paid(Event, tag="paid"):
    """A payment: the question is whether it is a fraud."""

    payment: str
    bank: str
    amount: float
    distance: float
    velocity: float
    age: float


class Chargeback(Event, tag="chargeback"):
    """A payment was a fraud."""

    payment: str
    bank: str


class Settled(Event, tag="settled"):
    """What a payment was, reported for each."""

    payment: str
    bank: str
    is_fraud: bool


def _logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def _is_fraud(event: Settled) -> bool:
    return event.is_fraud


def _always(event: Chargeback) -> bool:
    return True


def _case(name: str, truth: type[Event], label: Label[Any]) -> UseCase:
    return UseCase(
        name,
        key="bank",
        events=[Paid, truth],
        features={feature: field(feature) for feature in FEATURES},
        task=Binary("fraud", ask=Paid, label=label),
        models=PerKey(champion=Member("logistic", _logistic)),
    )


def fraud() -> UseCase:
    """The case as one would declare it: by defaults."""
    return _case(
        "fraud", Chargeback, Label(Chargeback, on="payment", value=_always, wait=WAIT, at_expiry=False)
    )


def eager() -> UseCase:
    """The case with labels learned as they come, which is warned of."""
    case = fraud()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)
        label = replace(case.task.label, learn_at="label")
        return replace(case, name="eager", task=Binary("fraud", ask=Paid, label=label))


def settled() -> UseCase:
    """The case with a label for each payment at its deadline."""
    return _case("settled", Settled, Label(Settled, on="payment", value=_is_fraud, wait=WAIT))


def payments(count: int, seed: int) -> Iterator[tuple[Paid, bool, float]]:
    """Payments, whether each is a fraud, and after how many seconds its chargeback would come."""
    random = Random(seed)
    for number in range(count):
        x = [random.gauss(0.0, 1.0) for _ in FEATURES]
        weights = BEFORE if number < count // 2 else AFTER
        odds = ODDS + math.fsum(weight * value for weight, value in zip(weights, x, strict=True))
        at = START + timedelta(days=DAYS * (number + random.random()) / count)
        is_fraud = random.random() < 1.0 / (1.0 + math.exp(-odds))
        named = dict(zip(FEATURES, x, strict=True))
        paid = Paid(id=f"paid-{number}", at=at, payment=f"p{number}", bank="b", **named)
        yield paid, is_fraud, random.random() * WAIT


def chargebacks(count: int, seed: int) -> Iterator[Event]:
    """The stream of `fraud` and `eager`."""

    def labelled(paid: Paid, is_fraud: bool, after: float) -> Event | None:
        at = paid.at + timedelta(seconds=after)
        return Chargeback(id=f"back-{paid.id}", at=at, payment=paid.payment, bank="b") if is_fraud else None

    return _in_time(
        (paid, labelled(paid, is_fraud, after)) for paid, is_fraud, after in payments(count, seed)
    )


def settlements(count: int, seed: int) -> Iterator[Event]:
    """The stream of `settled`."""

    def labelled(paid: Paid, is_fraud: bool) -> Event:
        at = paid.at + timedelta(seconds=WAIT)
        return Settled(id=f"settled-{paid.id}", at=at, payment=paid.payment, bank="b", is_fraud=is_fraud)

    return _in_time((paid, labelled(paid, is_fraud)) for paid, is_fraud, _ in payments(count, seed))


def _in_time(pairs: Iterable[tuple[Paid, Event | None]]) -> Iterator[Event]:
    """Payments, and what comes of them, in the order of time."""
    waiting: list[tuple[datetime, str, Event]] = []
    for paid, truth in pairs:
        while waiting and waiting[0][0] <= paid.at:
            yield heapq.heappop(waiting)[2]
        yield paid
        if truth is not None:
            heapq.heappush(waiting, (truth.at, truth.id, truth))
    while waiting:
        yield heapq.heappop(waiting)[2]


class Found(NamedTuple):
    """What came of a case: p(True) of every payment in order, the served figures, drift events."""

    answers: list[float]
    figures: dict[str, Any]
    drifts: list[dict[str, Any]]

    @property
    def confirmed(self) -> list[dict[str, Any]]:
        """The first confirmation of each incident."""
        firsts: dict[str, dict[str, Any]] = {}
        for drift in self.drifts:
            if drift["severity"] == "drift":
                firsts.setdefault(drift["incident"], drift)
        return list(firsts.values())


def run(case: UseCase, events: Iterable[Event]) -> Found:
    """Fold a stream that is closed at its end."""
    processor = PartitionProcessor(case, 0)
    answers: list[float] = []
    drifts: list[dict[str, Any]] = []
    chunk: list[LogRecord] = []

    def fold() -> None:
        out = processor.step(chunk)
        answers.extend(json.loads(o.value)["probabilities"]["true"] for o in out.predictions)
        drifts.extend(json.loads(o.value) for o in out.drift)
        chunk.clear()

    for _, record in layout(case, with_closing_clock(case, events), 1):
        chunk.append(record)
        if len(chunk) >= CHUNK:
            fold()
    fold()
    return Found(answers, summarize([processor]).models["logistic"], drifts)


def main() -> None:
    """Print figures of the three cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    streams = {
        "settled": (settled, settlements),
        "fraud": (fraud, chargebacks),
        "eager": (eager, chargebacks),
    }
    print(
        f"the change: {START + timedelta(days=DAYS / 2):%Y-%m-%d}; its first labels are learned 25 days later"
    )
    for seed in range(given.seeds):
        for name, (case, source) in streams.items():
            found = run(case(), partial(source, given.payments, seed)())
            figures = ", ".join(
                f"{key} {found.figures[key]:.4f}" for key in ("roc_auc", "pr_auc", "log_loss")
            )
            reported = "; ".join(f"{d['kind']} ({d['subject']}) {d['at'][:10]}" for d in found.confirmed)
            print(f"seed {seed} {name}: {figures}; {reported or 'no drift reported'}", flush=True)


if __name__ == "__main__":
    pin()
    main()
