"""How new code continues a partition whose outputs so far are from other code. Pure, like the fold itself.

The new code folds the log from its start, but what is published stays: predictions that still wait for their
label keep their published values, and outcomes their revisions. A request that the other code has refused
stays refused, so the same one is answered when it is sent again. Everything follows from how far the other
code published, never from the moment of the upgrade: a fold after a crash inherits the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from driftline.streams.fold.learner_input import Answered
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition

HELD_BACK = 1_000
"""Offsets before the furthest output within which other code may have published in part: it published
one batch after the other, each whole before the next, and none spans half as many offsets."""
PRUNE_AT = 100_000
"""Revisions in memory beyond which those of forgotten predictions are dropped."""


class Bequest(NamedTuple):
    """How far other code published: the tails of predictions and outcomes, and the furthest log offset
    among the tails of all kinds. At the log offsets `asked` it took the same events for requests as this code
    does."""

    predictions: SourcePosition
    outcomes: SourcePosition
    furthest: int
    asked: Sequence[range] = ()

    @classmethod
    def up_to(cls, tails: Mapping[str, SourcePosition], asked: Sequence[range] = ()) -> Bequest:
        """The outputs at or before these tails, by kind."""
        furthest = max(tails.values())[0]
        return cls(tails.get("predictions", NOTHING), tails["outcomes"], furthest, asked)

    @property
    def settled(self) -> int:
        """The log offset up to which that code has published everything that it will ever publish."""
        return max(self.furthest - HELD_BACK, NOTHING[0])

    @property
    def answered(self) -> int:
        """The log offset up to which that code has answered requests, or refused them."""
        return max(self.predictions[0], self.settled)


class Inheritance:
    """The steps of new code over a partition that other code has published outputs of.

    A bequest may grow from step to step; what is folded must stay within its earlier `settled`.
    """

    def __init__(self, processor: PartitionProcessor) -> None:
        self._processor = processor
        processor.intake.label_join.inherit()
        self._outcome = msgspec.json.Decoder(Outcome)
        self._prediction = msgspec.json.Decoder(Prediction)
        self._revisions: dict[str, int] = {}
        self._own: set[str] = set()
        self._rows: dict[Any, Any] = {}

    def state(self) -> dict[str, Any]:
        """Its state without the processor's own; nothing is copied."""
        return {
            "revisions": self._revisions,
            "own": self._own,
            "rows": self._rows,
            "forgotten": self._processor.intake.label_join.forgotten,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; the processor has been restored."""
        self._revisions, self._own, self._rows = state["revisions"], state["own"], state["rows"]
        self._processor.intake.label_join.inherit(state["forgotten"])

    def step(
        self,
        records: Sequence[StoredRecord],
        bequest: Bequest,
        predictions: dict[int, Prediction],
        outcomes: Iterable[bytes],
    ) -> Outputs:
        """As `PartitionProcessor.step`, beyond the bequest too; only what this code has to add is put out.

        `predictions` (by the offset of their request) and `outcomes` are those published of `records`,
        up to the bequest's tails.
        """
        before = [record for record in records if record.offset <= bequest.furthest]
        after = records[len(before) :]
        out = self._inherit(before, bequest, predictions, outcomes) if before else Outputs()
        if after:
            out.extend(self._processor.step(after))
        return out

    def fold(self, records: Sequence[StoredRecord], answered: Answered, outcomes: Iterable[bytes]) -> Outputs:
        """All outputs of the fold over records that this code served itself, before it inherits once more."""
        self._note(outcomes)
        out = self._processor.step(records, answered)
        self._settle()
        return out

    def _note(self, outcomes: Iterable[bytes]) -> None:
        for value in outcomes:
            outcome = self._outcome.decode(value)
            self._revisions[outcome.prediction_id] = outcome.revision

    def _settle(self) -> None:
        self._processor.intake.label_join.settle(self._revisions, self._own)
        if len(self._revisions) > PRUNE_AT:
            waiting = self._processor.intake.label_join.waiting()
            if len(self._revisions) > PRUNE_AT + len(waiting):
                known = self._revisions
                self._revisions = {name: known[name] for name in known if name in waiting}

    def _inherit(
        self,
        records: Sequence[StoredRecord],
        bequest: Bequest,
        predictions: dict[int, Prediction],
        outcomes: Iterable[bytes],
    ) -> Outputs:
        self._note(outcomes)
        answered = Answered(predictions, bequest.answered, bequest.asked)
        out = self._processor.step(records, answered)
        own = [output for output in out.predictions if output.offset > bequest.answered]
        self._own.update(self._prediction.decode(output.value).id for output in own)
        self._settle()
        self._rows.update(out.rows)
        out.rows = {}
        # changes in models that never served are not published
        for kind in ("predictions", "drift", "models", "dead_letters"):
            setattr(out, kind, [o for o in getattr(out, kind) if o.offset > bequest.settled])
        out.outcomes = []
        if records[-1].offset == bequest.furthest:
            self._complete(bequest, out)
        return out

    def _complete(self, bequest: Bequest, out: Outputs) -> None:
        """The last inherited record is folded: add the outputs that the other code did not publish any
        more."""
        tail = bequest.outcomes
        ordinal = tail[1] + 1 if tail[0] == bequest.furthest else 0
        lacking = self._processor.intake.label_join.reconcile(self._revisions, self._own)
        outcome = self._processor.learner.outcome
        out.outcomes = [outcome(p, bequest.furthest, n) for n, p in enumerate(lacking, ordinal)]
        out.rows = self._rows
        self._rows = {}
        self._own = set()
