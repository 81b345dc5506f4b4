"""The feature history of a chain, and training sets of it: each stage's rows, as its requests read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
import shop
from parcels import payments_on_4
from shop import START, Product, Settled

from driftline import (
    HOUR,
    MINUTE,
    Event,
    UseCase,
    count,
    decayed,
    distinct,
    field,
    lag,
    lookup,
    mean,
    ratio,
    since,
)
from driftline.examples.payments.source import events as payments
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.streams.archive.parts import Archive
from driftline.streams.offline.feature_history import HistoryWriter, stages_with_history
from driftline.streams.offline.training_set import ArchivedAnswers, TrainingSet, training_log, training_set
from driftline.streams.records.outputs import Output
from driftline.streams.simulation.sources import laid_out, with_closing_clock
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.places import StagePlaces
from tests.streams.archive.archived import append, published, record_of
from tests.streams.stages.delivery import Delivery

PART = 100
ORDERS = 160


class Ordered(Event, tag="ordered"):
    order: str
    shop: str
    product: str
    amount: float


keyed = replace(
    shop.orders,
    name="keyed",
    partitions=2,
    events=[Ordered, Settled, Product],
    features={
        "amount": field("amount", valid=(0, None)),
        "weight": lookup(Product, "weight", by="product", ttl=24 * HOUR),
        "bad": mean(Settled, "bad", by="shop", over=HOUR, valid=(0, 1)),
        "since_settled": since(Settled, by="shop", over=HOUR),
        "order_count": count(Ordered, by=("shop", "order"), over=HOUR, max_keys=3),
        "of_product": mean(Ordered, "amount", by="product", over=HOUR, valid=(0, 0.5)),
        "before": lag(Ordered, "amount", 1, by="product", over=20 * MINUTE),
        "shops": distinct(Ordered, "shop", by="product", over=HOUR),
        "at_shop": decayed(Ordered, "amount", by=("product", "shop"), half_life=5 * MINUTE),
        "since_product": since(Ordered, by="product", over=HOUR),
        "against_product": ratio("amount", "before"),
        "of_both": ratio("bad", "of_product"),
    },
    task=replace(shop.orders.task, ask=Ordered),
    lateness=10 * MINUTE,
)


def trade() -> Iterator[Event]:
    """Orders out of order by minutes, several at one moment, with products that change their weight."""
    for n in range(ORDERS):
        at = START + timedelta(minutes=n // 2 * 2 - (n % 3) * 2, microseconds=n % 5 * 1_234)
        if n % 40 == 0:
            yield Product(id=f"p{n}", at=at, product=f"p{n // 40 % 3}", weight=1.0 + n)
        place = "swtuv"[n % 5]
        yield Ordered(id=f"a{n}", at=at, order=f"o{n}", shop=place, amount=n % 7 / 7, product=f"p{n % 4}")
        if n % 9:
            settled = at + timedelta(minutes=3)
            yield Settled(id=f"s{n}", at=settled, order=f"o{n}", shop=place, bad=n % 5 / 4)


class Served(NamedTuple):
    """A chain that was served: its archive, and the Feast repository of its history."""

    case: UseCase
    answers: ArchivedAnswers
    repo: OnlineStoreRepo
    archive: Archive
    places: StagePlaces


def served(case: UseCase, events: Iterator[Event], seed: int, folder: Path) -> Served:
    """All topics of a chain that was delivered in any order of its writers, with repeats, as archived."""
    chain = Chain(case, case.partitions)
    delivery = Delivery(chain, seed)
    for partition, record in laid_out(
        case, with_closing_clock(case, events), case.partitions, chain.itinerary.entry
    ):
        delivery.write(partition, record.key, record.value)
    delivery.run(crashes=12)
    places = StagePlaces(case.topics(), "0a1b2c3d4e5f", chain.itinerary)
    archive = Archive(str(folder / "archive"), PART)
    outputs: dict[tuple[str, int], list[Output]] = {}
    for (target, kind, *_), output in sorted(delivery.outputs.items()):
        if kind in ("predictions", "outcomes"):
            outputs.setdefault(places.outputs(target)[kind], []).append(output)
    for place, some in outputs.items():
        append(archive, *place, published(some))
    for stage in range(places.count):
        for target in places.targets_of(stage):
            topic = delivery.topic(target)
            append(archive, *places.input(target), [record_of(r.offset, r.key, r.value) for r in topic])
    repo = OnlineStoreRepo(
        RepositoryLocation.of(case.name, folder, "", "sqlite", None), case.views(), case.on_demand_views()
    )
    repo.apply()
    return Served(case, ArchivedAnswers(archive, places, None, None), repo, archive, places)


def write_history(chain: Served) -> int:
    """Write the history of every stage; returns how many parts that were."""
    parts = 0
    for target in (t for stage in stages_with_history(chain.case) for t in chain.places.targets_of(stage)):
        place = chain.places.input(target)
        writer = HistoryWriter(chain.case, chain.archive, *place, chain.repo.history, target.stage)
        progress = [found.parts for found in writer.write()]
        parts += progress[-1] if progress else 0
    return parts


def check(chain: Served) -> TrainingSet:
    """The training set of all predictions, each value of which is the one that was published."""
    assert write_history(chain) > 0
    assert write_history(chain) == 0
    found = training_set(chain.case, chain.answers, chain.repo)
    comparison = found.comparison
    assert (found.outside, comparison.differing, comparison.unpublished) == (0, {}, ())
    assert comparison.equal == comparison.predictions == found.table.num_rows
    log = training_log(chain.case, chain.answers)
    assert found.table.select(log.column_names).equals(log)
    return found


def test_a_training_set_of_payments_on_four_partitions_is_what_was_published(tmp_path: Path) -> None:
    chain = served(payments_on_4, payments(150), 3, tmp_path)
    assert [chain.places.kind(stage) for stage in stages_with_history(chain.case)] == [
        "events",
        "by-merchant",
        "by-device",
    ]
    assert check(chain).table.num_rows == 150


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kind_of_feature_of_every_stage_is_in_it_as_it_was_served(seed: int, tmp_path: Path) -> None:
    chain = served(keyed, trade(), seed, tmp_path)
    found = check(chain)
    assert found.table.num_rows == ORDERS
    for name in keyed.features:
        there = ORDERS - found.table.column(name).null_count
        assert there > ORDERS / 4, name
    confined = found.table.column("of_product")
    assert isinstance(confined, pa.ChunkedArray)
    assert confined.null_count > 0


def test_a_history_is_of_one_code_and_written_again_for_the_topics_of_another(tmp_path: Path) -> None:
    chain = served(keyed, islice(trade(), 80), 1, tmp_path)
    check(chain)
    other = replace(chain.places, code="ffffffffffff")
    for stage in range(1, other.count):
        for target in other.targets_of(stage):
            own, place = chain.places.input(target), other.input(target)
            manifest = chain.archive.manifest(*own)
            records = [
                r for some in chain.archive.read(*own, 0, manifest.end if manifest else 0) for r in some
            ]
            append(chain.archive, *place, records)
    again = chain._replace(places=other, answers=ArchivedAnswers(chain.archive, other, None, None))
    check(again)


def test_each_stage_keeps_the_online_rows_of_its_own_views() -> None:
    chain = Chain(keyed, 2, rows=True)
    kept: list[set[str]] = [set() for _ in chain.stages]
    for partition, record in laid_out(keyed, islice(trade(), 20), 2, chain.itinerary.entry):
        for step in chain.step(partition, record):
            kept[step.stage] |= {view for view, _ in step.outputs.rows}
    assert kept[0] == {"keyed_by_shop", "keyed_by_shop_order", "keyed_by_product_shop"}
    assert kept[1] == {"keyed_by_product"}
