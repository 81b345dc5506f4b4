"""References that some partitions lack: found by what each partition knows, whatever came in which order."""

from __future__ import annotations

from collections.abc import Sequence

from catalogue import catalogue, product

from driftline.streams.declare.events import Event
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.fold.reference_spread import KnownReferences, differences
from driftline.streams.simulation.sources import LogRecord

KIND = "product (by product)"


def folded(events: Sequence[Event], partition: int = 0) -> PartitionProcessor:
    codec = catalogue.codec()
    processor = PartitionProcessor(catalogue, partition)
    processor.step([LogRecord(n, None, codec.encode(event)) for n, event in enumerate(events)])
    return processor


def known(*partitions: Sequence[Event]) -> dict[int, dict[str, KnownReferences]]:
    return {
        number: folded(events, number).intake.known_references() for number, events in enumerate(partitions)
    }


def test_partitions_that_know_the_same_are_not_reported_whatever_the_order() -> None:
    products = [product(n) for n in range(4)]
    assert differences(known(products, products[::-1], [*products, products[0]])) == {}


def test_a_reference_that_one_partition_has_alone_is_reported_by_its_key() -> None:
    products = [product(1), product(2)]
    found = differences(known([*products, product(17, 5)], products, products))
    assert list(found) == [KIND]
    assert (
        "references of type product (by product) are not the same in every partition: 3 in partition 0 (the "
        "newest: 'p17'); 2 in partitions 1, 2 (the newest: 'p2')"
    ) in found[KIND]
    assert "send each reference to every partition" in found[KIND]
    assert "0 in partition 0; 1 in partition 1" in differences(known([], [product(17)]))[KIND]


def test_another_version_of_a_reference_is_reported_until_every_partition_has_it() -> None:
    before, after = product(1), product(1, 5)
    assert KIND in differences(known([before, after], [before]))
    assert differences(known([before, after], [after, before])) == {}


def test_what_is_known_is_the_same_after_a_restore() -> None:
    processor = folded([product(n) for n in range(5)])
    again = PartitionProcessor.restored(catalogue, 0, processor.snapshot())
    assert again.intake.known_references() == processor.intake.known_references()
    assert sum(count for _, count, _ in again.intake.known_references()[KIND].cells) == 5
