"""What values take of memory is measured, and what state takes of it."""

from __future__ import annotations

import sys

from driftline.bench.speed.scale import Size, chunks, scaled
from driftline.object_size import StateSize, object_size, size_of
from driftline.online_models.pool.pool import Forecast
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.waiting.packed import SEGMENT


def test_a_value_is_counted_with_what_it_refers_to_once_and_without_its_class() -> None:
    shared = "x" * 1_000
    assert object_size(shared) == sys.getsizeof(shared)
    both = [shared, (shared,)]
    assert object_size(both) == sum(map(sys.getsizeof, (both, shared, (shared,))))
    forecast = Forecast(shared, shared, 1, 0.5, ())
    assert sys.getsizeof(forecast) + sys.getsizeof(shared) < object_size(forecast) < 2_000


def test_a_size_is_the_mean_of_what_is_at_hand() -> None:
    assert size_of(100, [("a",), ("abc",)]) == StateSize(100, sys.getsizeof("a") + 1)
    assert size_of(0, []) == StateSize(0, 0.0)


def test_a_fold_says_what_each_window_and_prediction_takes() -> None:
    case = scaled()
    processor = PartitionProcessor(case, 0)
    for chunk in chunks(case, Size(50, 6_000, 1.0)):
        processor.step(chunk)
    sizes = processor.sizes()
    objects, packed = (sizes.pop(f"predictions that wait{how}") for how in ("", ", packed"))
    ids, packed_ids = (sizes.pop(f"ids of events that would be repeats{how}") for how in ("", ", packed"))
    assert ids.held + packed_ids.held == sum(processor.accepted.values())
    assert 50 < packed_ids.bytes_each < ids.bytes_each < 350
    assert packed.held > 0
    assert packed.held % SEGMENT == 0
    assert packed.held + objects.held > 5_000
    assert 200 < packed.bytes_each < objects.bytes_each / 3 < 600
    assert {name.split(" by ")[1].split(" ")[0] for name in sizes} == {"card", "merchant", "device"}
    held = [size for size in sizes.values() if size.held]
    assert len(held) > 3
    assert all(size.bytes_each > 100 for size in held)
