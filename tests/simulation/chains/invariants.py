"""What must hold at the end of a history of a chain.

Some of it is known from the recorded order of each topic, folded again without a fault; some from the truth
about the requests, which knows nothing of the fold.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from driftline.streams.archive.epochs import is_epoch
from driftline.streams.between.stage_record import Writer, decode_model_record
from driftline.streams.errors import REPORT_ONLY
from driftline.streams.proof.published_pools import PoolsSent
from driftline.streams.records.outputs import KINDS, Outputs, Target
from driftline.streams.records.positions import headers_of, source_of
from driftline.streams.stages.stage_fold import StageFold
from tests.simulation.chains.deliveries import Fate, History
from tests.simulation.world import SEAL, Stored, Violation, World, newest_wins
from tests.streams.owner.owned_chain import compared


class Reference:
    """Each topic folded in its recorded order without any fault."""

    def __init__(self, world: World, targets: list[Target]) -> None:
        assert world.itinerary is not None
        self.folds: dict[Target, StageFold] = {}
        self.outputs: dict[Target, Outputs] = {}
        self.rows: dict[Any, Any] = {}
        for target in targets:
            fold = self.folds[target] = StageFold(world.case, world.itinerary, *target, rows=True, seal=SEAL)
            for record in recorded(world, target):
                out = fold.step([record])
                newest_wins(self.rows, out.rows)
                self.outputs.setdefault(target, Outputs()).extend(out)


def recorded(world: World, target: Target) -> list[Stored]:
    """The records of a stage's partition, in the order in which they were appended."""
    return [entry for entry in world.places[world.stages.input(target)].entries if entry is not None]


def check_sent(world: World, reference: Reference) -> None:
    """What each writer sent to each reader is there in order, without a gap; a repeat is the same record."""
    expected: dict[tuple[Writer, Target], list[bytes]] = {}
    for writer, out in reference.outputs.items():
        pools = {target: PoolsSent(world.case.name, SEAL) for target in reference.folds}
        for target, value in out.sends:
            if (content := compared(value, pools[target])) is not None:
                expected.setdefault((Writer(*writer), target), []).append(content)
    found: dict[tuple[Writer, Target], list[bytes]] = {}
    for target in reference.folds:
        pools_here = PoolsSent(world.case.name, SEAL)
        for record in recorded(world, target) if target.stage else ():
            sent, value = decode_model_record(record.value), record.value or b""
            if sent.part is not None:
                if (content := compared(value, pools_here)) is not None:
                    found.setdefault((sent.writer, target), []).append(content)
                continue
            first = found.setdefault((sent.writer, target), [])
            if sent.number == len(first) + 1:
                first.append(value)
            elif sent.number > len(first) or first[sent.number - 1] != value:
                raise Violation(f"{sent.writer} to {target}: record {sent.number} follows {len(first)}")
    if found != expected:
        different = [way for way in expected | found if found.get(way) != expected.get(way)]
        raise Violation(f"what was sent is not what the recorded order gives: {different}")


def check_pools(world: World) -> None:
    """Every answer of a replica is by the pool that was whole last in its topic: known by the parts alone."""
    assert world.itinerary is not None
    if not world.itinerary.is_replicated:
        return
    for partition in range(world.itinerary.plan.stages[world.itinerary.serving].partitions):
        target = Target(world.itinerary.serving, partition)
        through = dict(_whole_pools(recorded(world, target), world.case.name))
        place = world.stages.outputs(target)["predictions"]
        for _, record in world.places[place].data():
            offset, _ = source_of(record.headers)  # type: ignore[misc]
            known = [labels for at, labels in through.items() if at < offset]
            learned = msgspec.json.decode(record.value or b"", type=_Answered).model.learned_through
            if learned != (known[-1] if known else -1):
                raise Violation(f"{place}: the answer at {offset} knows {learned}, not {known[-1:]}")


def _whole_pools(records: list[Stored], case: str) -> Iterator[tuple[int, int]]:
    """(offset, learned through) of each pool, where its last part is."""
    parts: dict[tuple[int, bytes], dict[int, bytes]] = {}
    done = 0
    for record in records:
        sent = decode_model_record(record.value)
        if sent.part is None or sent.number <= done:
            continue
        here = parts.setdefault((sent.number, sent.part.whole), {})
        here[sent.part.index] = sent.part.content
        if len(here) == sent.part.count:
            sealed = b"".join(content for _, content in sorted(here.items()))
            done = sent.number
            pool = pickle.loads(SEAL.open(sealed, f"pool {done} of {case}".encode()))
            yield record.offset, pool.state.learned_through


def check_published(world: World, reference: Reference) -> None:
    """Every output is published once, in order, with the bytes of a run without faults; online rows are
    the newest ones."""
    for target, out in reference.outputs.items():
        places = world.stages.outputs(target)
        for kind in KINDS:
            expected = [
                ((output.offset, output.ordinal), output.key, output.value, tuple(headers_of(output)))
                for output in getattr(out, kind)
            ]
            entries = world.places[places[kind]].entries if kind in places else []
            published = [
                (source_of(entry.headers), entry.key, entry.value, entry.headers)
                for entry in entries
                if entry is not None and not is_epoch(entry)
            ]
            if published != expected:
                raise Violation(f"{kind} of {target}: {len(published)} published, {len(expected)} expected")
    if world.online != reference.rows:
        different = [key for key in reference.rows if world.online.get(key) != reference.rows[key]]
        raise Violation(f"online rows differ at {different or sorted(world.online)}")


class _Id(msgspec.Struct):
    id: str = ""


class _Answer(msgspec.Struct):
    event_id: str


class _Model(msgspec.Struct):
    learned_through: int


class _Answered(msgspec.Struct):
    model: _Model


class _Outcome(msgspec.Struct):
    prediction_id: str
    status: str


def _published(world: World, kind: str) -> Iterator[Stored]:
    """All outputs of a kind."""
    topic = getattr(world.topics, kind)
    for place, stored in world.places.items():
        if place.topic == topic:
            yield from (entry for _, entry in stored.data())


def _refused(world: World) -> set[str]:
    """The ids of the events that were refused, and not only reported."""
    letters = _published(world, "dead_letters")
    return {_id_of(one.value or b"") for one in letters if dict(one.headers)["stage"] not in _REPORTED}


_REPORTED = {stage.encode() for stage in REPORT_ONLY}


def check_fates(world: World, truth: History, reference: Reference) -> None:
    """By the truth: every request is answered once or refused, and every answer has the outcome that follows
    from what was said of it."""
    refused = _refused(world)
    answers = Counter(
        msgspec.json.decode(one.value or b"", type=_Answer).event_id
        for one in _published(world, "predictions")
    )
    expected = Counter(fate.request for fate in truth.fates if fate.request not in refused)
    if answers != expected:
        raise Violation(f"lost are {expected - answers}, answered twice {answers - expected}")
    outcomes: dict[str, list[str]] = {}
    for one in _published(world, "outcomes"):
        outcome = msgspec.json.decode(one.value or b"", type=_Outcome)
        outcomes.setdefault(outcome.prediction_id.partition(":")[0], []).append(outcome.status)
    for fate in truth.fates:
        if fate.request not in refused:
            _check_fate(fate, outcomes.get(fate.request, []), refused)
    if any(fold.open for fold in reference.folds.values()):
        raise Violation("when everything is over, requests still wait for their labels")


def _id_of(value: bytes) -> str:
    try:
        return msgspec.json.decode(value, type=_Id).id
    except msgspec.MsgspecError:
        return ""


def _check_fate(fate: Fate, statuses: list[str], refused: set[str]) -> None:
    wanted = "unlabelled" if fate.said in refused else fate.status
    if statuses[:1] != [wanted] or len(statuses) > 2:
        raise Violation(f"the outcome of {fate.request} is {statuses}, not {wanted}")
