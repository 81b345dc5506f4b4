"""What a state of millions costs: open predictions, and keys with windows of thirty days, in little memory.

From memory, in a process of its own: the fold of one partition with its files in a folder, and checkpoints as
a worker writes them. A small state of the same case is folded in turns with it, so that both are measured in
the same minutes. A line is printed at each size.

python -m driftline.bench.speed.millions KEYS MEMORY_MB FOLDER OPEN [OPEN ...]

Without sizes it goes on from the checkpoint that such a run has left, and prints what that took, and the same
figures as before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

from msgspec import structs

from driftline.bench.cases import without_extras
from driftline.bench.speed.scale import CHUNK, chunked
from driftline.examples.payments import payments
from driftline.examples.payments.events import Disputed, Payment
from driftline.features.declare.constructors import count as counted
from driftline.features.declare.constructors import field, mean
from driftline.features.declare.declaration import DAY, Feature
from driftline.features.state.feature_state import FeatureState
from driftline.garbage_collection import seldom_collected
from driftline.object_size import StateSize
from driftline.online_models.tasks.task import Binary, Label
from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import CheckpointContent, Written, named
from driftline.streams.checkpoints.folder import CheckpointFolder
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.status.worker_status import resident_bytes
from driftline.streams.waiting.packed import SEGMENT
from driftline.streams.waiting.prediction import PendingPrediction

COMPARED = 40
"""Chunks of each of the two states that are timed in turns."""
SMALL = 100_000
"""Open predictions of the state that the others are compared with."""
SETTLED = 50_000
"""Predictions that are folded after the others were added at once."""
MINUTE = 60_000
"""Events of a minute at a thousand a second."""
START = datetime(2024, 1, 1, tzinfo=UTC)
DISPUTED = 0.02
"""Share of the payments that are disputed, any time later."""
SECONDS_BETWEEN = 0.25
"""Between two payments: ten million of them are within the thirty days of the windows."""
AMOUNTS = [number / 4 + 0.01 for number in range(1_000)]
FOLDER = "00000"
NAME = f"{FOLDER}/0.checkpoint"


def wide() -> UseCase:
    """A card's payments in thirty days, whose disputes may come within sixty; the champion alone."""
    alone = without_extras(payments)
    task = Binary(
        "disputed",
        ask=Payment,
        label=Label(Disputed, on="payment", value=lambda _: True, wait=60 * DAY, at_expiry=False),
    )
    features: dict[str, Feature] = {
        "amount": field("amount"),
        "of_card_30d": counted(Payment, by="card", over=30 * DAY),
        "card_amount_30d": mean(Payment, "amount", by="card", over=30 * DAY),
    }
    return replace(alone, partitions=1, features=features, task=task)


payments_of_sixty_days = wide()
"""The case, for a worker."""


def events(keys: int, first: int = 0) -> Iterator[Event]:
    """Payments with cards drawn alike, and disputes of any payment before, for ever, from the `first` on."""
    for block in count(first // CHUNK):
        random = Random(block)
        for number in range(block * CHUNK, (block + 1) * CHUNK):
            event = _event(number, keys, random)
            if number >= first:
                yield event


def _event(number: int, keys: int, random: Random) -> Event:
    at = START + timedelta(seconds=number * SECONDS_BETWEEN)
    if random.random() < DISPUTED:
        return Disputed(id=f"disputed-{number}", at=at, payment=f"p{random.randrange(number + 1)}")
    card = random.randrange(keys)
    return Payment(
        id=f"{number}",
        at=at,
        payment=f"p{number}",
        card=f"c{card}",
        merchant=f"m{card % 1000}",
        device="d",
        country="ES",
        amount=round(random.lognormvariate(3.3, 0.6), 2),
    )


class Folded:
    """A state of a case with so many keys, and the log that goes on."""

    def __init__(self, processor: PartitionProcessor, keys: int) -> None:
        self.processor = processor
        self.keys = keys
        at = processor.max_at
        self.goes_on(0 if at is None else round((at - START.timestamp()) / SECONDS_BETWEEN) + 1)

    def goes_on(self, number: int) -> None:
        """The log goes on where the state is, with the event of this number."""
        self.number = number
        self.chunks = chunked(self.processor.case, events(self.keys, number), self.processor.next_offset)


def begun(keys: int, folders: SegmentFolders) -> Folded:
    """A state before its first event."""
    return Folded(PartitionProcessor(wide(), 0, store=folders.store(FOLDER)), keys)


def load(state: Folded, until: int) -> None:
    """Have so many predictions open, without folding, which would take ten times as long. For each payment
    windows and predictions are added as the fold adds them, but nothing is predicted, learned or disputed,
    and the log has no record of it; the predictions are the last one that was folded, but for their names,
    numbers and times."""
    processor, random = state.processor, Random(until)
    join, features = processor.intake.label_join, processor.intake._features
    assert isinstance(features, FeatureState)
    waiting, like = join._waiting._packed, join._waiting._recent[-1]
    begin = Folded(processor, state.keys).number
    numbers = range(begin, begin + until - join.open, SEGMENT)
    for number in numbers:
        predictions: list[PendingPrediction] = []
        for each in range(number, number + SEGMENT):
            at, card = START.timestamp() + each * SECONDS_BETWEEN, f"c{random.randrange(state.keys)}"
            for table in features._tables.values():
                table[card].add(at, AMOUNTS[each % len(AMOUNTS)])
            pending = structs.replace(
                like, prediction_id=f"{each}:disputed", event_id=f"{each}", at=at, deadline=at + 60 * DAY,
                key=card, label_key=f"p{each}", keys=like.keys | {"card": card, "payment": f"p{each}"},
                number=join._added + len(predictions),
            )  # fmt: skip
            predictions.append(pending)
        waiting.add(predictions)
        join.open += SEGMENT
        join._added += SEGMENT
        for _ in range(SEGMENT // RETAIN_EVERY):
            features.retain(at)
    state.goes_on(begin + len(numbers) * SEGMENT)


def fill(state: Folded, until: int) -> None:
    """Fold until so many predictions are open."""
    while state.processor.open < until:
        state.processor.step(next(state.chunks))


def compared(states: list[Folded]) -> list[float]:
    """CPU us an event of each state, chunks in turns; the median chunk counts."""
    spent: list[list[float]] = [[] for _ in states]
    for _ in range(COMPARED):
        for state, times in zip(states, spent, strict=True):
            chunk = next(state.chunks)
            begins = process_time()
            state.processor.step(chunk)
            times.append((process_time() - begins) / len(chunk) * 1e6)
    return [sorted(times)[len(times) // 2] for times in spent]


def checkpoint(state: Folded, folder: Path, folders: SegmentFolders) -> dict[str, float]:
    """What a checkpoint takes, written by a forked child; and what it takes to go on from it."""
    store = CheckpointFolder(Storage(str(folder)))
    processor = state.processor

    def take() -> Callable[[], CheckpointContent]:
        packed: list[list[str]] = []
        snapshot = processor.snapshot(packed)
        folders.files(FOLDER).make_durable(named(processor.segments(), packed))
        return lambda: CheckpointContent(snapshot, packed)

    async def written() -> Written:
        processor.paged.set_aside()
        return await store.begin(NAME, take).finish()

    cost = asyncio.run(written())
    processor.paged.packed(cost.packed)
    files = folders.files(FOLDER)
    files.stored(named(processor.segments(), cost.packed))
    packed = sum(len(files.content(name)) for name in named((), cost.packed))
    return {
        "checkpoint_cpu_seconds": cost.seconds,
        "checkpoint_mb": cost.size / 2**20,
        "packed_mb": packed / 2**20,
    }


def steady_checkpoint(state: Folded, folder: Path, folders: SegmentFolders) -> dict[str, float]:
    """The same, a minute after one before at a thousand events a second; and the CPU of the longest clean-up
    meanwhile, for which events wait."""
    first = checkpoint(state, folder, folders)
    with _timed_cleanups() as times:
        for _ in range(0, MINUTE, CHUNK):
            state.processor.step(next(state.chunks))
    steady = checkpoint(state, folder, folders)
    return steady | {
        "first_cpu_seconds": first["checkpoint_cpu_seconds"],
        "longest_cleanup_ms": max(times) * 1e3,
    }


@contextmanager
def _timed_cleanups() -> Iterator[list[float]]:
    """CPU seconds of each clean-up of features."""
    times: list[float] = []
    retain = FeatureState.retain

    def timed(features: FeatureState, watermark: float) -> None:
        begins = process_time()
        retain(features, watermark)
        times.append(process_time() - begins)

    with patch.object(FeatureState, "retain", timed):
        yield times


def restored(keys: int, memory: int, folder: Path) -> dict[str, Any]:
    """What it takes to go on from the checkpoint of a large state and to fold the minute after it, as a
    worker does whose predecessor was killed; then what `measured` gives of that state."""
    begins, cpu = perf_counter(), process_time()
    folders = SegmentFolders(folder / "large", memory // 2, memory // 2)
    case = wide()
    processor = PartitionProcessor(case, 0, store=folders.store(FOLDER))
    processor.restore(pickle.loads((folder / "large" / NAME).read_bytes()))
    restore_seconds, restore_cpu = perf_counter() - begins, process_time() - cpu
    large = Folded(processor, keys)
    minute = [next(large.chunks) for _ in range(0, MINUTE, CHUNK)]
    begins, cpu = perf_counter(), process_time()
    for chunk in minute:
        processor.step(chunk)
    fold_seconds, fold_cpu = perf_counter() - begins, process_time() - cpu
    small = begun(keys, SegmentFolders(folder / "small", memory // 2, memory // 2))
    fill(small, SMALL)
    return {
        "restore_seconds": restore_seconds,
        "restore_cpu_seconds": restore_cpu,
        "minute_seconds": fold_seconds,
        "minute_cpu_seconds": fold_cpu,
    } | measured(large, small, folder / "large", folders)


def _shown(size: StateSize) -> list[float]:
    return [size.held, round(size.bytes_each, 1), round(size.disk_bytes_each, 1)]


def measure(keys: int, memory: int, folder: Path, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """What `measured` gives, at each size."""
    folders = [SegmentFolders(folder / name, memory // 2, memory // 2) for name in ("large", "small")]
    large, small = (begun(keys, each) for each in folders)
    fill(small, SMALL)
    fill(large, CHUNK)
    for size in sizes:
        load(large, size - SETTLED)
        fill(large, size)
        yield {"keys": keys} | measured(large, small, folder / "large", folders[0])


def measured(large: Folded, small: Folded, folder: Path, folders: SegmentFolders) -> dict[str, Any]:
    """CPU us an event, of a large state and of the small one; resident MB; the cost of a checkpoint."""
    gc.collect()
    gc.freeze()  # as a worker does every minute
    of_large, of_small = compared([large, small])
    resident = resident_bytes() / 2**20
    return {
        "open": large.processor.open,
        "cpu_us_per_event": of_large,
        "small_cpu_us_per_event": of_small,
        "ratio": of_large / of_small,
        "resident_mb": resident,
        "sizes": {name: _shown(one) for name, one in large.processor.sizes().items()},
    } | steady_checkpoint(large, folder, folders)


def main() -> None:
    """Print what was asked for."""
    key_count, megabytes, root, *open_counts = sys.argv[1:]
    keys, memory, folder = int(key_count), int(megabytes) << 20, Path(root)
    with seldom_collected():  # as wherever a case is folded
        lines = measure(keys, memory, folder, [*map(int, open_counts)])
        for line in lines if open_counts else [restored(keys, memory, folder)]:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    pin()
    main()
