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

from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.usecase import load_case
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.sources import LogRecord

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
    """One output record of a run."""

    kind: str
    partition: int
    offset: int
    ordinal: int
    key: bytes | None
    value: bytes
    headers: HeaderPairs


class FoldResult(msgspec.Struct, frozen=True):
    """The outputs of a run, in the order of the log, and the hash of each partition's last state."""

    outputs: list[FoldOutput]
    states: list[str]


Log = list[list[tuple[int, bytes | None, bytes]]]
"""The records (offset, key, value) of each partition."""


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
    for partition, records in enumerate(log):
        if snapshots is None:
            processor = PartitionProcessor(case, partition)
        else:
            processor = PartitionProcessor.restored(case, partition, snapshots[partition])
        end = len(records) // 2 if run.half else len(records)
        rest = [LogRecord(*record) for record in records[processor.next_offset : end]]
        for chunk in _chunks(rest, run.chunk):
            outputs.extend(_outputs(processor, chunk))
        processors.append(processor)
    if run.snapshot is not None:
        Path(run.snapshot).write_bytes(pickle.dumps([processor.snapshot() for processor in processors]))
    return FoldResult(outputs, [state_hash(processor.state()) for processor in processors])


def _chunks(records: Sequence[LogRecord], size: int) -> Iterator[Sequence[LogRecord]]:
    for begin in range(0, len(records), size):
        yield records[begin : begin + size]


def _outputs(processor: PartitionProcessor, records: Sequence[LogRecord]) -> list[FoldOutput]:
    out = processor.step(records)
    outputs = [
        FoldOutput(kind, processor.partition, o.offset, o.ordinal, o.key, o.value, tuple(headers_of(o)))
        for kind in KINDS
        for o in getattr(out, kind)
    ]
    # however the log is cut, by its order
    return sorted(outputs, key=lambda output: (output.offset, KINDS.index(output.kind), output.ordinal))


def main() -> None:
    """Do the run on standard input."""
    run = msgspec.json.decode(sys.stdin.buffer.read(), type=FoldRun)
    Path(run.out).write_bytes(msgspec.msgpack.encode(fold(run)))


if __name__ == "__main__":
    main()
