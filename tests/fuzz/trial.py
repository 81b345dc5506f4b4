"""One drawn case with one drawn log: what must hold whatever they are."""

from __future__ import annotations

import itertools
import json
import math
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.topics import OUTPUT_LIMITS
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import REPORT_ONLY
from driftline.streams.fold.processor import PartitionProcessor, counts_of
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.sources import LogRecord
from tests.fuzz.declarations import case_of
from tests.fuzz.likeness import differences
from tests.fuzz.log import log_of

RECORDS = 500
"""Of a trial in the long run."""


def trial(case_seed: Random, numbers: list[int], cuts: Sequence[int]) -> Outputs:
    """Fold a drawn log with a drawn case, whole and cut; returns what came out. Raises AssertionError."""
    case, records = case_of(case_seed), log_of(numbers)
    processor = PartitionProcessor(case, 0, rows=True)
    whole = processor.step(records)
    check_outputs(whole)
    check_counts(processor, whole, records)
    check_cuts(case, records, cuts, whole, processor)
    return whole


def check_cuts(
    case: UseCase, records: Sequence[LogRecord], cuts: Iterable[int], whole: Outputs, last: PartitionProcessor
) -> None:
    """Cut into any steps, with a restored state at each cut, the same comes out and the same is left."""
    places = sorted({0, len(records), *(cut % (len(records) + 1) for cut in cuts)})
    going_on = PartitionProcessor(case, 0, rows=True)
    out = Outputs()
    for begin, end in itertools.pairwise(places):
        out.extend(going_on.step(records[begin:end]))
        restored = PartitionProcessor.restored(case, 0, going_on.snapshot(), rows=True)
        found = list(differences(going_on, restored))
        assert not found, f"after record {end}, the restored state: {found[:3]}"
        hashes = state_hash(going_on.state()), state_hash(restored.state())
        assert hashes[0] == hashes[1], f"after record {end}, what waits in the restored state"
        going_on = restored
    for kind in KINDS:
        assert getattr(out, kind) == getattr(whole, kind), kind
    assert out.rows == whole.rows
    found = list(differences(last, going_on))
    assert not found, f"at the end: {found[:3]}"


def check_outputs(out: Outputs) -> None:
    """Every output is finite JSON of a size that its topic takes, at a source position of its own."""
    for kind in KINDS:
        outputs = getattr(out, kind)
        places = [(output.offset, output.ordinal) for output in outputs]
        assert places == sorted(set(places)), kind
        for output in outputs:
            assert len(output.value) + len(output.key or b"") <= OUTPUT_LIMITS[kind]
            if kind != "dead_letters":
                json.loads(output.value, parse_constant=_refuse)
    for output in out.dead_letters:
        headers = dict(output.headers)
        assert headers["stage"]
        assert headers["reason"]
        assert "fault" not in headers["reason"].decode("utf-8", "replace")
    for at, values in out.rows.values():
        assert math.isfinite(at)
        assert all(math.isfinite(value) for value in values.values() if isinstance(value, float))


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} was put out")


def check_counts(processor: PartitionProcessor, out: Outputs, records: Sequence[LogRecord]) -> None:
    """Every record is accounted for once, and so is every prediction."""
    counts = counts_of([processor])
    refused = [o for o in out.dead_letters if dict(o.headers)["stage"].decode() not in REPORT_ONLY]
    assert counts["dead_letters"] == len(out.dead_letters)
    assert len(refused) + counts["duplicates"] + counts["events"] <= len(records)
    assert counts["predictions"] == len(out.predictions)
    total = sum(counts[name] for name in ("labelled", "unlabelled", "void", "pending"))
    assert total == counts["predictions"]
    answered = Counter(json.loads(output.value)["id"] for output in out.predictions)
    if max(answered.values(), default=0) > 1:
        return  # an id came again when it was forgotten
    revisions: dict[str, int] = {}
    for output in out.outcomes:
        outcome = json.loads(output.value)
        name = outcome["prediction_id"]
        assert name in answered
        assert outcome.get("revision", 0) == revisions.get(name, -1) + 1
        revisions[name] = outcome.get("revision", 0)
    assert len(revisions) == counts["predictions"] - counts["pending"]


class Found(NamedTuple):
    """One trial: its seed, how many outputs and refusals by stage there were, and what was wrong."""

    seed: int
    outputs: int
    stages: Counter[str]
    wrong: str


def run(seed: int) -> Found:
    """The trial of a seed."""
    random = Random(seed)
    numbers = [random.randrange(2**31) for _ in range(RECORDS)]
    cuts = [random.randrange(RECORDS) for _ in range(3)]
    try:
        out = trial(random, numbers, cuts)
    except Exception:
        return Found(seed, 0, Counter(), traceback.format_exc())
    stages = Counter(dict(letter.headers)["stage"].decode() for letter in out.dead_letters)
    return Found(seed, len(out.predictions) + len(out.outcomes), stages, "")
