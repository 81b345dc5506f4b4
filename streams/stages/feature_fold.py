"""One partition of a stage, folded for its features alone: what enters them, and no models behind.

What a stage sends and puts out is left aside. It is how the past of features is computed again: their
history, and the events behind a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from driftline.streams.between.sender import Sender
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.intake_state import Features
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.record import Record
from driftline.streams.stages.feature_stage import FeatureStage
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_features import AcceptedFeatures, features_of


class FeatureFold:
    """The fold of one partition of a stage that is the log's, or has windows; `watched` gives what keeps its
    features, from their state: that itself, or what looks on."""

    def __init__(
        self,
        case: UseCase,
        itinerary: Itinerary,
        target: Target,
        watched: Callable[[AcceptedFeatures], Features] = lambda features: features,
    ) -> None:
        stage = itinerary.plan.stages[target.stage]
        self._accepted = features_of(case, stage, False, AcceptedFeatures)
        # its records are dropped, and it sends no ticks
        self._sender = Sender(Writer(*target), itinerary.targets(target.stage), inf)
        features = watched(self._accepted)
        self._work: Intake | FeatureStage = (
            FeatureStage(case, itinerary, target.stage, self._sender, features)
            if target.stage
            else Intake(replace(case, refusals=None), features, target.partition, joins=False)
        )

    def fold(self, record: Record) -> Event | None:
        """The event of the next record, where it entered the features."""
        self._work.fold((record,), Outputs())
        self._sender.take()
        event, _ = self._accepted.take()
        return event
