"""The fold over one partition of the log: pure, deterministic, the same in simulation and production."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from online_models.pool import Pool, merged_report
from streams.learner import Learner
from streams.outputs import Outputs
from streams.scorer import Answered, Record, Scorer
from streams.usecase import UseCase


class PartitionProcessor:
    """State and step of one partition.

    However the same records are cut into steps, the outputs have the same bytes. With `rows` the
    outputs also carry the newest online feature row of each key touched.
    """

    def __init__(self, case: UseCase, partition: int, *, rows: bool = False) -> None:
        self.case = case
        self.partition = partition
        self.next_offset = 0
        self.learner = Learner(case, partition)
        self.scorer = Scorer(case, case.feature_state(case.views() if rows else ()))

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on; nothing is copied."""
        return {
            "next_offset": self.next_offset,
            "scorer": self.scorer.state(),
            "learner": self.learner.state(),
        }

    def snapshot(self) -> bytes:
        """The pickled state. One pickle, so that what is shared within it stays shared."""
        return pickle.dumps(self.state(), protocol=5)

    @classmethod
    def restored(cls, case: UseCase, partition: int, snapshot: bytes, *, rows: bool = False) -> Self:
        """A processor that goes on from a snapshot, which must come from a trusted place."""
        processor = cls(case, partition, rows=rows)
        processor.restore(pickle.loads(snapshot))
        return processor

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.next_offset = state["next_offset"]
        self.learner.restore(state["learner"])
        self.scorer.restore(state["scorer"])

    def step(self, records: Sequence[Record], answered: Answered | None = None) -> Outputs:
        """Fold records of this partition, in the log's order, and return what they cause.

        `answered` is what other code has answered to them.
        """
        out = Outputs()
        self.scorer.keep(answered)
        self.learner.fold(self.scorer.fold(records, out))
        if records:
            self.next_offset = records[-1].offset + 1
        self.scorer.put_rows(out)
        return out


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and progressive metrics over a set of partitions."""

    counts: dict[str, int]
    models: dict[str, dict[str, Any]]


def counts_of(processors: Sequence[PartitionProcessor]) -> dict[str, int]:
    """Counts added over the partitions."""
    counts = {
        name: sum(getattr(p.scorer, name) for p in processors)
        for name in ("events", "predictions", "dead_letters", "duplicates", "late", "evicted_keys")
    }
    counts |= {
        name: sum(getattr(p.learner, name) for p in processors)
        for name in ("labelled", "unlabelled", "void", "drift_events")
    }
    counts["pending"] = sum(p.scorer.open_predictions for p in processors)
    return counts


def pools_of(processors: Sequence[PartitionProcessor]) -> list[Pool]:
    """All pools of the partitions, in order."""
    return [p.learner.pools[key] for p in processors for key in sorted(p.learner.pools)]


def summarize(processors: Sequence[PartitionProcessor]) -> Summary:
    """Counts added over the partitions, and metrics merged."""
    return Summary(counts_of(processors), merged_report(pools_of(processors)))
