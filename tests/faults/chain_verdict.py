"""What must hold after a run of a case of several stages: of each, the fold of its recorded order.

The order in which writers met on a topic between stages is the broker's; it is folded as it was recorded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from driftline.infra.proof.stage_audit import StageJob, audit_one
from driftline.online_models.pool.report import merged_report
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.fold.processor import added
from driftline.streams.proof.stage_audit import StageAudit, by_writer
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Target
from tests.faults.lab.run import Run
from tests.faults.verdict import (
    Fold,
    difference,
    folded,
    laid_out,
    lost_input,
    new_fold,
    online_rows,
    published_outputs,
    state_kept,
)

Records = Mapping[str, list[list[Any]]]
"""The records of every topic, by partition."""
Sent = dict[tuple[Writer, Target], list[bytes]]


def judge_chain(run: Run, status: dict[str, Any]) -> list[str]:
    """Everything that is wrong after a run, whose last worker had every partition of all stages and has
    written this `status` at its end."""
    return list(_violations(run, status))


def _violations(run: Run, status: dict[str, Any]) -> Iterator[str]:
    topics = {run.stages.input(target).topic for target in run.targets}
    topics |= {place.topic for target in run.targets for place in run.stages.outputs(target).values()}
    records = {topic: run.read(topic) for topic in sorted(topics)}
    if run.log_is_the_source:
        yield from lost_input(laid_out(run.case_path, run.limit), records[run.topics.log])
    folds = {target: _folded(run, target, records, status) for target in run.targets}
    yield from _sent_between(run, folds, records)
    for target, one in folds.items():
        for kind, (topic, partition) in run.stages.outputs(target).items():
            found = published_outputs(records[topic][partition])
            yield from difference(f"{topic}-{partition}", found, getattr(one.outputs, kind))
    yield from _answers(run, records)
    yield from _figures(folds, status)
    yield from online_rows(run, list(folds.values()))
    for target, one in folds.items():
        yield from asyncio.run(state_kept(run, target, one))
    yield from _audited(run)


def _folded(run: Run, target: Target, records: Records, status: dict[str, Any]) -> Fold:
    """The fold of all that the last worker has folded; another writer may have sent since."""
    topic, partition = run.stages.input(target)
    until = status["partitions"][run.stages.name(target)]["next_offset"]
    log = [record for record in records[topic][partition] if record.offset < until]
    return folded(new_fold(run, target), log)


def _sent_between(run: Run, folds: Mapping[Target, Fold], records: Records) -> Iterator[str]:
    """What each writer sent to each reader came in order and without a gap; a repeat is the same record."""
    expected: Sent = {}
    for writer, one in folds.items():
        for target, value in one.outputs.sends:
            expected.setdefault((Writer(*writer), target), []).append(value)
    found: Sent = {}
    for target in run.targets:
        topic, partition = run.stages.input(target)
        for record in records[topic][partition] if target.stage else ():
            sent = decode_record(record.value)
            first = found.setdefault((sent.writer, target), [])
            if sent.number == len(first) + 1:
                first.append(record.value)
            elif sent.number > len(first) or first[sent.number - 1] != record.value:
                yield f"{topic}-{partition}: record {sent.number} of {sent.writer} follows {len(first)}"
                return
    for way in expected.keys() | found.keys():
        if expected.get(way) != found.get(way):
            yield f"{way[0]} to {way[1]}: what was sent is not what the fold gives"
            return


def _answers(run: Run, records: Records) -> Iterator[str]:
    """Each request that was accepted has one answer, and each answer an outcome."""
    letters = [dict(one.headers) for some in records[run.topics.dead_letters] for one in some]
    if refused := Counter(letter["stage"].decode() for letter in letters if "stage" in letter):
        yield f"refused: {dict(refused)}"
    answers = [msgspec.json.decode(v, type=Prediction) for v in _values(run, records, "predictions")]
    asked = {event.id: 1 for event in run.events if isinstance(event, run.case.task.ask)}
    if Counter(one.event_id for one in answers) != asked:
        yield f"{len(answers)} answers to {len(asked)} requests"
    outcomes = [msgspec.json.decode(v, type=Outcome) for v in _values(run, records, "outcomes")]
    if {one.prediction_id for one in outcomes} != {one.id for one in answers}:
        yield f"{len(outcomes)} outcomes of {len(answers)} predictions"


def _values(run: Run, records: Records, kind: str) -> list[bytes]:
    return [one.value for some in records[getattr(run.topics, kind)] for one in published_outputs(some)]


def _figures(folds: Mapping[Target, Fold], status: dict[str, Any]) -> Iterator[str]:
    processors = [one.processor for one in folds.values()]
    counts = added(processor.counts() for processor in processors)
    if status["counts"] != counts:
        yield f"the worker counted {status['counts']}, the fold {counts}"
    models = merged_report([pool for processor in processors for pool in processor.pools()])
    if status["models"] != models:
        yield f"the worker's metrics are {status['models']}, the fold's {models}"


def _audited(run: Run) -> Iterator[str]:
    """`driftline audit` finds everything equal."""
    done: list[StageAudit] = []
    for stage in reversed(range(run.stages.count)):
        received = by_writer(done)
        done += [
            audit_one(
                StageJob(
                    run.case_path,
                    run.case.partitions,
                    run.settings,
                    target,
                    received.get(Writer(*target), {}),
                ),
                lambda _: None,
            )
            for target in run.stages.targets_of(stage)
        ]
    for one in done:
        audit = one.audit
        if audit.equal != audit.checked or audit.unchecked or not audit.folded:
            yield f"the audit of {run.stages.name(one.target)}: {audit}"
    run.note(f"audited: {sum(one.audit.equal for one in done)} records are equal")
