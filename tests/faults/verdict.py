"""What must hold after a run, whatever happened in it: the log's fold is what was published.

`judge` returns what is violated, in words; nothing when all is well.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import CheckpointRefusal, load
from driftline.streams.checkpoints.folder import CheckpointFolder
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.records.outputs import KINDS, Output, Outputs, Target
from driftline.streams.records.positions import source_of
from driftline.streams.simulation.digest import PartitionDigest, combined
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import layout, open_source, with_closing_clock
from driftline.streams.stages.stage_fold import StageFold
from tests.faults.lab.run import Run
from tests.feast_keys import entity_key

STEP = 500
KEYS_AT_ONCE = 400


@dataclass(frozen=True)
class Fold:
    """What the fold makes of one partition of a log, or of a stage behind it."""

    log: Sequence[Any]
    outputs: Outputs
    processor: PartitionFold

    @cached_property
    def state_hash(self) -> str:
        """Canonical hash of its state."""
        return state_hash(self.processor.state())


def new_fold(run: Run, target: Target) -> PartitionFold:
    """The fold of a partition of a stage, before its first record."""
    if run.stages.itinerary is None:
        return PartitionProcessor(run.case, target.partition, rows=True)
    return StageFold(run.case, run.stages.itinerary, *target, rows=True)


def fold(case: UseCase, partition: int, log: Sequence[Any]) -> Fold:
    """Fold all of a partition's log."""
    return folded(PartitionProcessor(case, partition, rows=True), log)


def folded(processor: PartitionFold, log: Sequence[Any]) -> Fold:
    """Fold all of these records from their beginning."""
    every = Outputs()
    for start in range(0, len(log), STEP):
        out = processor.step(log[start : start + STEP])
        every.extend(out)
    return Fold(log, every, processor)


@lru_cache(maxsize=2)
def laid_out(case_path: str, limit: int) -> list[list[Any]]:
    """The source as the log's partitions have it."""
    case = load_case(case_path)
    logs: list[list[Any]] = [[] for _ in range(case.partitions)]
    events = with_closing_clock(case, open_source(case, None, limit))
    for partition, record in layout(case, events, case.partitions):
        logs[partition].append(record)
    return logs


@lru_cache(maxsize=2)
def folded_source(case_path: str, limit: int) -> list[Fold]:
    """The fold of the source, by partition."""
    case = load_case(case_path)
    return [fold(case, partition, log) for partition, log in enumerate(laid_out(case_path, limit))]


@lru_cache(maxsize=2)
def simulated(case_path: str, limit: int) -> dict[str, Any]:
    """What `driftline simulate` says of the source."""
    return simulate(load_case(case_path), limit=limit)


def judge(
    run: Run, status: dict[str, Any] | None, *, refused: Collection[int] = (), trimmed: bool = False
) -> list[str]:
    """Everything that is wrong after a run.

    `status` is the last one of the worker that ended the run with all partitions; None where some are
    `refused`: of those partitions nothing more than a prefix may be published. With `trimmed` the
    log on the broker has lost its beginning, and is compared from there.
    """
    return list(_violations(run, status, refused, trimmed))


def _violations(
    run: Run, status: dict[str, Any] | None, refused: Collection[int], trimmed: bool
) -> Iterator[str]:
    on_broker = run.read(run.topics.log)
    if run.log_is_the_source:
        folds = folded_source(run.case_path, run.limit)
        yield from lost_input([one.log for one in folds], on_broker, trimmed=trimmed)
    else:
        folds = [fold(run.case, partition, log) for partition, log in enumerate(on_broker)]
    for kind in KINDS:
        topic = getattr(run.topics, kind)
        begins = run.begins(topic)
        for partition, records in enumerate(run.read(topic)):
            published = published_outputs(records)
            expected = getattr(folds[partition].outputs, kind)
            if begins[partition] > 0:
                expected = _since(published, expected)
            if partition in refused:
                expected = expected[: len(published)]
            yield from difference(f"{topic}-{partition}", published, expected)
    if status is not None:
        yield from _figures(run, folds, status)
    kept = [f for f in folds if f.processor.partition not in refused]
    yield from online_rows(run, kept)
    for one in kept:
        yield from asyncio.run(state_kept(run, Target(0, one.processor.partition), one))


def lost_input(
    logs: Sequence[Sequence[Any]], on_broker: Sequence[Sequence[Any]], *, trimmed: bool = False
) -> Iterator[str]:
    """What was to be sent, and what the log holds."""
    for partition, (expected, found) in enumerate(zip(logs, on_broker, strict=True)):
        sent = [(r.offset, r.key, r.value) for r in expected]
        kept = [(r.offset, r.key, r.value) for r in found]
        if trimmed:
            sent = sent[len(sent) - len(kept) :]
        if kept != sent:
            yield f"log-{partition} holds {len(kept)} records that are not the {len(sent)} sent"


def published_outputs(records: Sequence[Any]) -> list[Output]:
    """The records of an output partition as the fold would put them out; a code epoch is none."""
    return [
        Output(*position, record.key, record.value or b"", tuple(record.headers[1:]))
        for record in records
        if (position := source_of(record.headers)) is not None
    ]


def _since(published: Sequence[Output], expected: Sequence[Output]) -> Sequence[Output]:
    """What must be there when the beginning was deleted: all from the first record left on."""
    if not published:
        return []
    first = (published[0].offset, published[0].ordinal)
    return [output for output in expected if (output.offset, output.ordinal) >= first]


def difference(where: str, published: Sequence[Output], expected: Sequence[Output]) -> Iterator[str]:
    """Each source position once and ascending, and the bytes of the fold; at most one violation."""
    positions = [(output.offset, output.ordinal) for output in published]
    for before, after in pairwise(positions):
        if after <= before:
            yield f"{where}: source position {after} comes after {before}"
            return
    for output, right in zip(published, expected, strict=False):
        if output != right:
            yield f"{where}: published is {output}, the fold puts out {right}"
            return
    if len(published) != len(expected):
        yield f"{where}: {len(published)} records are published, the fold puts out {len(expected)}"


def _figures(run: Run, folds: Sequence[Fold], status: dict[str, Any]) -> Iterator[str]:
    """Digest, counts and metrics."""
    summary = summarize([f.processor for f in folds])
    digests = [PartitionDigest() for _ in folds]
    for partition, records in enumerate(run.read(run.topics.predictions)):
        for record in records:
            position = source_of(record.headers)
            if position is not None:
                digests[partition].update(*position, record.value)
    published = combined(digests)
    if run.log_is_the_source:
        expected = simulated(run.case_path, run.limit)
        whole = not any(run.begins(run.topics.predictions).values())
        if whole and published != expected["digest"]:
            yield f"the digest is {published}, simulate's {expected['digest']}"
        if {name: expected[name] for name in summary.counts} != summary.counts:
            yield f"the fold counts {summary.counts}, simulate {expected}"
        if expected["models"] != summary.models:
            yield "the fold's metrics are not those of simulate"
    if status["counts"] != summary.counts:
        yield f"the worker counted {status['counts']}, the fold {summary.counts}"
    if status["models"] != summary.models:
        yield f"the worker's metrics are {status['models']}, the fold's {summary.models}"


def online_rows(run: Run, folds: Sequence[Fold]) -> Iterator[str]:
    """Feast gives the newest row of each key."""
    views = run.case.views()
    repo = OnlineStoreRepo(run.settings.features(run.case.name), views)
    store = repo.store
    online_store = store._get_provider().online_store
    for view in views:
        rows = [(key, row) for f in folds for (name, key), row in f.outputs.rows.items() if name == view.name]
        feast_view = store.get_feature_view(view.name)
        for start in range(0, len(rows), KEYS_AT_ONCE):
            piece = rows[start : start + KEYS_AT_ONCE]
            keys = [entity_key(view.keys, key) for key, _ in piece]
            found = online_store.online_read(store.config, feast_view, keys)
            for (key, (at, values)), (stamp, read) in zip(piece, found, strict=True):
                got = {name: _plain(value) for name, value in (read or {}).items()}
                wanted = {name: values.get(name) for name in view.features}
                if got != wanted or stamp is None or round(stamp.timestamp() * 1e6) != round(at * 1e6):
                    yield f"{view.name} of {key}: Feast has {got} at {stamp}, the fold {wanted} at {at}"
                    return


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("val")
    return getattr(value, kind) if kind else None


async def state_kept(run: Run, target: Target, expected: Fold) -> list[str]:
    """The newest checkpoint, folded to the log's end, is the state of a fold from the log's start."""
    topic, partition = run.stages.input(target)
    found = run.checkpoints(partition, target.stage)
    if not found:
        return [f"{topic}-{partition} has no checkpoint"]
    name = f"{run.stages.folder(target)}/{found[-1].name}"
    store = CheckpointFolder(Storage(str(found[-1].parents[1])))
    try:
        checkpoint = await load(store, name, topic, partition, Seal(bytes.fromhex(run.key)))
    except CheckpointRefusal as error:
        return [str(error)]
    processor = new_fold(run, target)
    processor.restore(pickle.loads(checkpoint.state))
    processor.step([record for record in expected.log if record.offset >= processor.next_offset])
    if state_hash(processor.state()) != expected.state_hash:
        return [f"{topic}-{partition}: the state of {name}, folded on, is not that of the fold"]
    return []
