"""Lineage over records in memory: the events behind each kind of feature, held against a plain count."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev
from typing import Any

import msgspec
import pytest
from shop import START, Asked, Product, logistic

from driftline import (
    HOUR,
    Binary,
    Event,
    Label,
    Member,
    PerKey,
    UseCase,
    count,
    derive,
    field,
    last,
    lookup,
    mean,
    rate,
    std,
)
from driftline import max as maximum
from driftline import min as minimum
from driftline import sum as total
from driftline.streams.archive.epochs import UNRECORDED, CodeEpoch, epoch_output
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.errors import StreamsError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.lineage import Lineage, lineage
from driftline.streams.records.outputs import KINDS, Output
from driftline.streams.records.positions import NOTHING, headers_of
from tests.streams.proof.in_memory import InMemory


class Settled(Event, tag="settled"):
    order: str
    shop: str
    product: str | None = None
    bad: float | None = None


def is_bad(event: Settled) -> bool | None:
    if event.order == "refused":
        raise LookupError("no rule for this order")
    return None if event.bad is None else event.bad > 0.5


def doubled(event: Settled) -> float | None:
    return None if event.bad is None else 2 * event.bad


CASE = UseCase(
    "orders",
    key="shop",
    events=[Asked, Settled, Product],
    features={
        "amount": field("amount"),
        "product": field("product"),
        "hour": derive(lambda e: e.at.hour),
        "mean": mean(Settled, "bad", by="shop", over=HOUR),
        "sum": total(Settled, doubled, by="shop", over=HOUR),
        "std": std(Settled, "bad", by="shop", over=HOUR),
        "min": minimum(Settled, "bad", by="shop", over=HOUR),
        "max": maximum(Settled, "bad", by="shop", over=HOUR),
        "latest": last(Settled, "bad", by="shop", ttl=HOUR),
        "count": count(Asked, by=("shop", "product"), over=HOUR),
        "rate": rate(Asked, by="shop", over=600.0),
        "weight": lookup(Product, "weight", by="product"),
    },
    task=Binary("bad", ask=Asked, label=Label(Settled, on="order", value=is_bad, wait=2 * HOUR)),
    models=PerKey(champion=Member("logistic", logistic), frozen_after=20),
    lateness=300.0,
    max_jump=24 * HOUR,
)
TOPICS = CASE.topics()
CODE = code_of(CASE)


def event(kind: str, n: int, minute: float, **fields: Any) -> bytes:
    at = (START + timedelta(minutes=minute)).isoformat()
    order = {} if kind == "product" else {"order": f"o{n}", "shop": "s"}
    return json.dumps({"type": kind, "id": f"{kind}-{n}", "at": at} | order | fields).encode()


def values() -> Iterator[bytes]:
    """Orders and labels out of order within the lateness; late, repeated and refused ones among them."""
    yield event("product", 0, 0, product="p0", weight=1.5)
    yield event("product", 1, 100, product="p1", weight=2.5)
    for n in range(120):
        product = None if n % 5 == 0 else f"p{n % 3}"
        yield event("asked", n, 2 * n - (n % 3), amount=1.0 + n % 7, product=product)
        bad = None if n % 11 == 0 else (n % 7) / 7
        yield event("settled", n, 2 * n + 1 - (n % 4), product=product, bad=bad)
        if n % 10 == 3:
            yield event("settled", n, 2 * n + 1, bad=9.0)  # a repeated id
            yield event("settled", 1000 + n, 2 * n - 60, bad=9.0)  # late
            yield event("settled", 2000 + n, 2 * n, order="refused", bad=9.0)
            yield b"no event"
        if n == 60:
            yield event("product", 2, 80, product="p1", weight=7.0)  # older than what is known
            yield event("product", 3, 100, product="p1", weight=3.5)  # as old: the later arrival counts
            yield event("product", 4, 9999, product="p1", weight=9.5)  # of a time to come


def record(offset: int, output: Output) -> ArchivedRecord:
    return ArchivedRecord(offset, 1_700_000_000_000, output.key, output.value, tuple(headers_of(output)))


@pytest.fixture(scope="module")
def published() -> dict[str, list[ArchivedRecord]]:
    log = [ArchivedRecord(n, 0, b"s", value, ()) for n, value in enumerate(values())]
    out = PartitionProcessor(CASE, 0).step(log)
    outputs = {kind: getattr(out, kind) for kind in KINDS}
    epoch = epoch_output(CodeEpoch(0, 0, CODE, dict.fromkeys(KINDS, NOTHING)))
    outputs["models"] = [epoch, *outputs["models"]]
    topics = {
        getattr(TOPICS, kind): [record(n, output) for n, output in enumerate(records)]
        for kind, records in outputs.items()
    }
    return topics | {TOPICS.log: log}


@pytest.fixture
def history(published: dict[str, list[ArchivedRecord]]) -> InMemory:
    return InMemory({name: list(records) for name, records in published.items()})


def trace(history: InMemory, n: int, shown: int = 3) -> Lineage:
    return lineage(history, CASE, TOPICS, CODE, f"asked-{n}:bad", shown)


def accepted(history: InMemory, before: int) -> list[tuple[int, dict[str, Any]]]:
    """Offset and content of what entered the fold, known by what it put among the dead letters and by ids."""
    refused = {
        int(dict(r.headers)["source"].split(b":")[0])  # type: ignore[union-attr]
        for r in history.topics[TOPICS.dead_letters]
    }
    found: list[tuple[int, dict[str, Any]]] = []
    seen = set()
    for entry in history.topics[TOPICS.log][:before]:
        if entry.offset not in refused:
            content = json.loads(entry.value or b"")
            if content["id"] not in seen:
                seen.add(content["id"])
                found.append((entry.offset, content | {"at": datetime.fromisoformat(content["at"])}))
    return found


def assert_rests(name: str, lineage: Any, value: Any, behind: list[tuple[int, dict[str, Any]]]) -> None:
    """A feature as traced has this value, from these events and no others."""
    assert lineage.agrees, name
    exact = value is None or isinstance(value, str)
    assert lineage.used == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-12)), name
    assert sorted(e.offset for e in lineage.newest) == [offset for offset, _ in behind], name
    assert lineage.count == len(behind)
    if behind:
        assert lineage.last == lineage.newest[-1]
        assert lineage.first == lineage.newest[0]
        assert lineage.first.at == min(e["at"] for _, e in behind)


@pytest.mark.parametrize("n", [0, 1, 2, 37, 59, 61, 63, 64, 90, 118, 119])
def test_every_value_rests_on_the_accepted_events_of_its_window_and_agrees(history: InMemory, n: int) -> None:
    found = trace(history, n, shown=1000)
    request = json.loads(history.topics[TOPICS.log][found.request.offset].value or b"")
    at = datetime.fromisoformat(request["at"])
    events = accepted(history, found.request.offset)

    def window(kind: str, over: float, **equal: Any) -> list[tuple[int, dict[str, Any]]]:
        return [
            (offset, e)
            for offset, e in events
            if e["type"] == kind
            and at - timedelta(seconds=over) < e["at"] <= at
            and all(e[name] == value for name, value in equal.items())
        ]

    settled = [(offset, e) for offset, e in window("settled", HOUR) if e["bad"] is not None]
    bad = [e["bad"] for _, e in settled]
    newest = max(settled, key=lambda entry: (entry[1]["at"], entry[0]), default=None)
    product = request["product"]
    alike = window("asked", HOUR, product=product) if product is not None else []
    products = [
        (o, e) for o, e in events if (e["type"], e["product"]) == ("product", product) and e["at"] <= at
    ]
    known = max(products, key=lambda entry: (entry[1]["at"], entry[0]), default=None)
    expected = {
        "amount": (request["amount"], []),
        "product": (product, []),
        "hour": (at.hour, []),
        "mean": (fmean(bad) if bad else None, settled),
        "sum": (math.fsum(2 * b for b in bad), settled),
        "std": (pstdev(bad) if bad else None, settled),
        "min": (min(bad, default=None), settled),
        "max": (max(bad, default=None), settled),
        "latest": (newest[1]["bad"] if newest else None, settled),
        "count": (len(alike), alike),
        "rate": (len(window("asked", 600.0)) / 600.0, window("asked", 600.0)),
        "weight": (known[1]["weight"] if known else None, [known] if known else []),
    }
    assert list(found.features) == list(expected)
    for name, (value, behind) in expected.items():
        assert_rests(name, found.features[name], value, behind)
    assert found.agrees


def test_every_prediction_of_the_log_agrees(history: InMemory) -> None:
    for n in range(0, 120, 7):
        assert trace(history, n).agrees


def test_only_the_newest_few_events_are_listed(history: InMemory) -> None:
    everything = trace(history, 90, shown=1000).features["mean"]
    few = trace(history, 90, shown=3).features["mean"]
    none = trace(history, 90, shown=0).features["mean"]
    assert few.newest == everything.newest[-3:]
    assert none.newest == []
    assert everything.count > 3
    assert (few.count, few.first, few.last) == (none.count, none.first, none.last)
    assert (few.count, few.first, few.last) == (everything.count, everything.first, everything.last)


@pytest.mark.parametrize(
    ("name", "value"), [("mean", 0.25), ("weight", 9.0), ("hour", 25), ("amount", 0.0), ("count", None)]
)
def test_a_value_that_its_events_do_not_give_is_reported(history: InMemory, name: str, value: Any) -> None:
    predictions = history.topics[TOPICS.predictions]
    (place,) = (n for n, r in enumerate(predictions) if b'"asked-82:bad"' in (r.value or b""))
    content = msgspec.json.decode(predictions[place].value or b"")
    published = content["features"][name]
    content["features"][name] = value
    if value is None:
        del content["features"][name]
    predictions[place] = predictions[place]._replace(value=msgspec.json.encode(content))
    found = trace(history, 82)
    assert not found.agrees
    assert [n for n, feature in found.features.items() if not feature.agrees] == [name]
    assert (found.features[name].used, found.features[name].recomputed) == (value, published)


def test_the_model_the_code_and_the_outcomes_are_reported_with_their_places(history: InMemory) -> None:
    found = trace(history, 82)
    assert found.prediction.model.version == found.model.version
    learned = found.model.learned_through
    assert learned is not None
    assert learned.offset == found.prediction.model.learned_through < found.request.offset
    label = json.loads(history.topics[TOPICS.log][learned.offset].value or b"")
    assert (learned.id, learned.at) == (label["id"], datetime.fromisoformat(label["at"]))
    assert label["type"] == "settled"
    assert (found.epoch.from_offset, found.epoch.code, found.epoch.difference) == (0, CODE, None)
    assert found.status == "labelled"
    (revision,) = found.outcomes
    stored = history.topics[TOPICS.outcomes][revision.offset]
    assert json.loads(stored.value or b"")["prediction_id"] == "asked-82:bad"
    assert dict(stored.headers)["source"] == revision.source.encode()
    assert found.appended == datetime.fromtimestamp(1_700_000_000, UTC)
    assert trace(history, 0).model.learned_through is None
    json.loads(msgspec.json.encode(found))


def test_without_an_outcome_it_is_pending_and_without_an_epoch_that_is_said(history: InMemory) -> None:
    history.topics[TOPICS.outcomes] = []
    history.topics[TOPICS.models] = []
    found = trace(history, 82)
    assert (found.status, list(found.outcomes)) == ("pending", [])
    assert (found.epoch.code, found.epoch.difference) == (None, UNRECORDED)


@pytest.mark.parametrize("name", ["asked-500:bad", "asked-90", "asked-90:good", ""])
def test_an_unknown_id_is_refused(history: InMemory, name: str) -> None:
    with pytest.raises(StreamsError, match="no prediction"):
        lineage(history, CASE, TOPICS, CODE, name, 3)


def test_a_log_that_holds_another_event_than_the_one_answered_is_refused(history: InMemory) -> None:
    offset = trace(history, 90).request.offset
    log = history.topics[TOPICS.log]
    log[offset] = log[offset]._replace(value=event("asked", 91, 180.0, amount=1.0))
    with pytest.raises(StreamsError, match=f"offset {offset} holds 'asked-91', but 'asked-90:bad' answers"):
        trace(history, 90)
