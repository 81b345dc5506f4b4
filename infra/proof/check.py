"""Folds a sample of a case's log twice, under different conditions, and reports the first difference.

Both runs have the hash seed of every process that folds. The second has other chunks, and continues half-way
in a process of its own from what a checkpoint holds. Where it differs, single circumstances are tried until
the cause is found. A third run has another hash seed: a difference there alone is no fault of the case, and
is reported as a hint.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from driftline.infra.errors import InfraError
from driftline.streams.code.hash_seed import SEED, VARIABLE
from driftline.streams.code.nondeterminism import suspicion
from driftline.streams.code.specification import functions_of
from driftline.streams.declare.case_models import check_models_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.difference import first_field, readable
from driftline.streams.records.outputs import Output
from driftline.streams.simulation import repeated_run
from driftline.streams.simulation.chain_simulation import recorded_topics
from driftline.streams.simulation.repeated_run import (
    FoldOutput,
    FoldResult,
    FoldRun,
    HeaderPairs,
    every_target,
)
from driftline.streams.simulation.sources import layout, open_source, with_closing_clock

CHUNK, OTHER_CHUNK = 500, 7
OTHER_SEED = "2"

CLOCK_HINT = (
    "two runs that are alike in all differ, also with the generators of `random` and numpy seeded: something "
    "reads the clock, draws from a generator of its own without a seed, or depends on where objects lie in "
    "memory: id(), or the order of a set that holds None or objects without a __hash__ of their own"
)
RANDOM_HINT = (
    "two runs that are alike in all differ until `random` and numpy are seeded: something draws from them"
)
STATE = (
    "a fold that continues from a checkpoint in another process differs: something is kept outside of "
    "what a checkpoint holds, in a global, a class, a closure or a cache, or is kept in a set, whose order "
    "may be another one after it was stored"
)
CUT = "it depends on how the log is cut into chunks: something is remembered outside of the fold's state"
TOGETHER = "each circumstance alone changes nothing, all of them do"
HINT = (
    f"with another hash seed the outputs are others: something iterates over a set of text, or uses hash(). "
    f"Commands and workers run under {VARIABLE}={SEED}, so they repeat themselves; a program of your own "
    f"that folds needs the same setting"
)


class FirstDifference(NamedTuple):
    """Where two runs part: a record that both have, or that one lacks."""

    record: str
    field: str
    one: object
    other: object

    def __str__(self) -> str:
        return f"{self.record}: {self.field} is {self.one!r} in one run and {self.other!r} in the other"


class CheckReport(msgspec.Struct, frozen=True):
    """The result of a check; `suspects` are functions of the declaration to look at first. A `hint` reports a
    difference that only another hash seed causes.
    """

    case: str
    events: int
    outputs: int
    difference: str | None = None
    cause: str | None = None
    suspects: tuple[str, ...] = ()
    hint: str | None = None

    @property
    def exit_code(self) -> int:
        """0 when both runs are equal, 1 when they differ, 2 when there was nothing to compare."""
        if self.difference is not None:
            return 1
        return 0 if self.outputs else 2

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        """Lines for people."""
        if self.difference is None:
            if not self.outputs:
                return f"{self.case}: {self.events:,} events put nothing out, so there is nothing to compare"
            equal = (
                f"{self.case}: {self.events:,} events folded twice, the second time in other chunks and with "
                f"a restart in the middle: {self.outputs:,} outputs and all state are equal"
            )
            return equal if self.hint is None else f"{equal}\nhint: {self.hint}"
        lines = [f"{self.case} does not repeat itself", f"first difference: {self.difference}"]
        lines += [f"likely cause: {self.cause}"] if self.cause else []
        return "\n".join([*lines, *(f"look at: {suspect}" for suspect in self.suspects)])


@dataclass(frozen=True)
class _Way:
    """The circumstances of a run."""

    seed: str = SEED
    chunk: int = CHUNK
    restored: bool = False
    numbers: int | None = None


def check_repeatable(
    case_path: str, case: UseCase, source: str | None, limit: int, tell: Callable[[str], None]
) -> CheckReport:
    """Fold the first `limit` events of a source in two ways, and compare; `tell` takes lines of progress.

    Raises InfraError when a run fails, Undescribable where a change of the code could not be detected, and
    ModelDeclarationError for a member that cannot be run (`driftline.online_models.members.check`), before
    anything is folded.
    """
    check_models_of(case)
    functions = functions_of(case, case.packages)
    with TemporaryDirectory(prefix="driftline-check-") as folder:
        log, events = _written_log(case, source, limit, Path(folder))
        runner = _Runner(case_path, case.partitions, log, Path(folder))
        first, second = runner.run(_Way(), _Way(chunk=OTHER_CHUNK, restored=True))
        different = _first_difference(first, second)
        if different is None:
            (reseeded,) = runner.run(_Way(OTHER_SEED))
            apart = _first_difference(first, reseeded)
            hint = None if apart is None else f"{HINT} (first difference: {apart})"
            return CheckReport(case.name, events, len(first.outputs), hint=hint)
        tell("the two runs differ; looking for the cause")
        cause = _cause(first, runner)
        suspects = tuple(suspect for function in functions if (suspect := suspicion(function)) is not None)
        return CheckReport(case.name, events, len(first.outputs), str(different), cause, suspects)


def _written_log(case: UseCase, source: str | None, limit: int, folder: Path) -> tuple[Path, int]:
    """What every run folds: a source may itself be another each time, and of several stages the order in
    which records came to each is part of it."""
    events = with_closing_clock(case, open_source(case, source, limit))
    partitions: repeated_run.Log = [[] for _ in every_target(case)]
    if case.plan.is_chain:
        topics = recorded_topics(case, events)
        for number, target in enumerate(every_target(case)):
            partitions[number] = [
                (record.offset, record.key, record.value or b"") for record in topics[target]
            ]
    else:
        for partition, record in layout(case, events, case.partitions):
            partitions[partition].append((record.offset, record.key, record.value))
    count = sum(map(len, partitions[: case.partitions]))
    path = folder / "log"
    path.write_bytes(msgspec.msgpack.encode(partitions))
    return path, count


def _cause(first: FoldResult, runner: _Runner) -> str:
    """The single condition that causes the first difference."""
    (again,) = runner.run(_Way())
    if _first_difference(first, again) is not None:
        seeded = runner.run(_Way(numbers=1), _Way(numbers=1))
        return RANDOM_HINT if _first_difference(*seeded) is None else CLOCK_HINT
    for way, cause in (
        (_Way(restored=True), STATE),
        (_Way(chunk=OTHER_CHUNK), CUT),
    ):
        (alone,) = runner.run(way)
        if _first_difference(first, alone) is not None:
            return cause
    return TOGETHER


class _Runner:
    """Runs folds in processes of their own."""

    def __init__(self, case_path: str, partitions: int, log: Path, folder: Path) -> None:
        self._case_path = case_path
        self._partitions = partitions
        self._log = log
        self._folder = folder
        self._files = 0

    def run(self, *ways: _Way) -> Sequence[FoldResult]:
        """The results of the runs, which run at the same time."""
        folders = [self._own_folder() for _ in ways]
        with ThreadPoolExecutor(len(ways)) as pool:
            return list(pool.map(self._one, ways, folders))

    def _own_folder(self) -> Path:
        self._files += 1
        folder = self._folder / str(self._files)
        folder.mkdir()
        return folder

    def _one(self, way: _Way, folder: Path) -> FoldResult:
        whole = FoldRun(
            self._case_path,
            self._partitions,
            str(self._log),
            str(folder / "out"),
            way.chunk,
            numbers=way.numbers,
        )
        if not way.restored:
            return _process(whole, way.seed)
        snapshot = str(folder / "snapshot")
        before = _process(msgspec.structs.replace(whole, half=True, snapshot=snapshot), way.seed)
        after = _process(msgspec.structs.replace(whole, begin=snapshot), way.seed)
        return FoldResult([*before.outputs, *after.outputs], after.states, after.places)


def _process(run: FoldRun, seed: str) -> FoldResult:
    done = subprocess.run(
        [sys.executable, "-m", repeated_run.__name__],
        env=os.environ | {"PYTHONHASHSEED": seed},
        input=msgspec.json.encode(run),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InfraError(f"a run of the fold failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return msgspec.msgpack.decode(Path(run.out).read_bytes(), type=FoldResult)


class _Read(NamedTuple):
    """A record of one run, as a published one is compared."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: HeaderPairs
    timestamp: int = -1


def _first_difference(one: FoldResult, other: FoldResult) -> FirstDifference | None:
    ordered = (sorted(run.outputs, key=_place) for run in (one, other))
    for mine, others in zip_longest(*ordered):
        if mine == others:
            continue
        if mine is None or others is None or _place(mine) != _place(others):
            present = min((one_output for one_output in (mine, others) if one_output is not None), key=_place)
            sides = (present.kind, None) if present is mine else (None, present.kind)
            return FirstDifference(_named(present, one.places), "the record", *sides)
        read = _Read(mine.offset, mine.key, mine.value, mine.headers)
        output = Output(others.offset, others.ordinal, others.key, others.value, others.headers[1:])
        return FirstDifference(_named(mine, one.places), *first_field(read, output))
    for partition, states in enumerate(zip(one.states, other.states, strict=True)):
        if states[0] != states[1]:
            where = f"partition {one.places[partition]}, after the last record (all outputs are equal)"
            return FirstDifference(where, "the hash of the state", states[0][:12], states[1][:12])
    return None


def _place(output: FoldOutput) -> tuple[int, int, str, int]:
    return output.partition, output.offset, output.kind, output.ordinal


def _named(output: FoldOutput, places: Sequence[str]) -> str:
    of = f"{output.kind}, partition {places[output.partition]}, of the record at offset {output.offset}"
    return of if output.key is None else f"{of} (key {readable(output.key)!r})"
