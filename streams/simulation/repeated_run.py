"""One run of a case over a log, in a process of its own, so that another run can be compared with it.

`python -m driftline.streams.simulation.repeated_run` reads a `FoldRun` as JSON and writes the outputs of the
fold, and the hash of its last state. A run may end half-way and leave a snapshot, from which another one
continues.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from driftline.streams.between.activations import NotSealed
from driftline.streams.between.stage_record import decode_model_record
from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import KINDS, Outputs, Target
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.sources import LogRecord
from driftline.streams.stages.itinerary import Itinerary, itinerary_of
from driftline.streams.stages.stage_fold import StageFold

HeaderPairs = tuple[tuple[str, bytes], ...]


class FoldRun(msgspec.Struct, frozen=True):
    """What to fold, and how: `log` and `out` are files, `begin` a snapshot to continue from, and `snapshot`
    one to leave after the first `half` of the records of each partition. With `numbers` the process's own
    random generators are seeded."""

    case: str
    partitions: int
    log: str
    out: str
    chunk: int = 500
    half: bool = False
    begin: str | None = None
    snapshot: str | None = None
    numbers: int | None = None


class FoldOutput(msgspec.Struct, frozen=True):
    """One output record of a run, or a record for a later stage; `partition` counts those of all stages."""

    kind: str
    partition: int
    offset: int
    ordinal: int
    key: bytes | None
    value: bytes
    headers: HeaderPairs


class FoldResult(msgspec.Struct, frozen=True):
    """The outputs of a run, in the order of the log, and the hash of each partition's last state; `places`
    are the names of the partitions."""

    outputs: list[FoldOutput]
    states: list[str]
    places: list[str]


Log = list[list[tuple[int, bytes | None, bytes]]]
"""The records (offset, key, value) of each partition; of a case of several stages, of each partition of each
stage, one stage after the other."""


def every_target(case: UseCase) -> list[Target]:
    """The partitions of all stages, in the order of a `Log`."""
    return [
        Target(number, p) for number, stage in enumerate(case.plan.stages) for p in range(stage.partitions)
    ]


def fold(run: FoldRun) -> FoldResult:
    """Fold a log as a run says."""
    case = replace(load_case(run.case), partitions=run.partitions)
    if run.numbers is not None:
        random.seed(run.numbers)
        np.random.seed(run.numbers)
    log = msgspec.msgpack.decode(Path(run.log).read_bytes(), type=Log)
    # written by the process that started this one, in a folder of its own
    snapshots = None if run.begin is None else pickle.loads(Path(run.begin).read_bytes())
    outputs: list[FoldOutput] = []
    processors = []
    itinerary, targets = itinerary_of(case), every_target(case)
    for partition, records in enumerate(log):
        processor = _new_fold(case, itinerary, targets[partition])
        if snapshots is not None:
            processor.restore(pickle.loads(snapshots[partition]))
        end = len(records) // 2 if run.half else len(records)
        rest = [LogRecord(*record) for record in records[processor.next_offset : end]]
        for chunk in _chunks(rest, run.chunk):
            out = processor.step(chunk)
            outputs.extend(_outputs(partition, out) + _sent(partition, out, case))
        processors.append(processor)
    if run.snapshot is not None:
        Path(run.snapshot).write_bytes(pickle.dumps([processor.snapshot() for processor in processors]))
    states = [state_hash(processor.state()) for processor in processors]
    return FoldResult(outputs, states, [_name(case, target) for target in targets])


def _chunks(records: Sequence[LogRecord], size: int) -> Iterator[Sequence[LogRecord]]:
    for begin in range(0, len(records), size):
        yield records[begin : begin + size]


def _name(case: UseCase, target: Target) -> str:
    """A partition in messages, as workers name it."""
    stage, partition = target
    return f"{case.plan.stages[stage].topic}/{partition}" if stage else str(partition)


def _new_fold(case: UseCase, itinerary: Itinerary | None, target: Target) -> PartitionProcessor | StageFold:
    """The fold of a partition before its first record."""
    if itinerary is None:
        return PartitionProcessor(case, target.partition)
    return StageFold(case, itinerary, *target, seal=NotSealed())


def _outputs(partition: int, out: Outputs) -> list[FoldOutput]:
    outputs = [
        FoldOutput(kind, partition, o.offset, o.ordinal, o.key, o.value, tuple(headers_of(o)))
        for kind in KINDS
        for o in getattr(out, kind)
    ]
    # however the log is cut, by its order
    return sorted(outputs, key=lambda output: (output.offset, KINDS.index(output.kind), output.ordinal))


def _sent(partition: int, out: Outputs, case: UseCase) -> list[FoldOutput]:
    """The records for later stages. Pools for replicas are left out: a restored one has other bytes, and the
    hashes of the states tell whether it is another."""
    sent = []
    for to, value in out.sends:
        model_record = decode_model_record(value)
        if model_record.part is None:
            shown = {
                name: getattr(model_record, name) for name in model_record.__struct_fields__ if name != "part"
            }
            content = msgspec.json.encode(shown | {"event": model_record.event.decode()})
            kind = f"record for {_name(case, to)}"
            sent.append(
                FoldOutput(kind, partition, model_record.offset, model_record.ordinal, None, content, ())
            )
    return sent


def main() -> None:
    """Do the run on standard input."""
    run = msgspec.json.decode(sys.stdin.buffer.read(), type=FoldRun)
    Path(run.out).write_bytes(msgspec.msgpack.encode(fold(run)))


if __name__ == "__main__":
    main()
