"""Folds of archived topics that give the timeline of their features instead of outputs."""

from __future__ import annotations

from collections.abc import Sequence

from driftline.features.declare.declaration import View
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.timeline import Timeline
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.intake import Intake
from driftline.streams.fold.watermark import Watermark
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.stages.feature_fold import FeatureFold
from driftline.streams.stages.itinerary import Itinerary, itinerary_of


class Unfolded:
    """The fold of one partition that gives history rows instead of outputs."""

    def __init__(self, case: UseCase, views: Sequence[View], partition: int) -> None:
        self.timeline = Timeline(case.feature_state(), views)
        self._intake = Intake(case, self.timeline, partition)

    def fold(self, record: ArchivedRecord) -> None:
        """Fold one record of the log."""
        self._intake.fold([record], Outputs())


class UnfoldedStage:
    """The same of one partition of a stage.

    The timeline of a stage behind the log goes by the events that come there: its watermark waits for the
    slowest writer, and rows would be stamped before the events that they count.
    """

    def __init__(self, case: UseCase, itinerary: Itinerary, views: Sequence[View], target: Target) -> None:
        self._is_log = target.stage == 0
        self._watermark = Watermark(case.allowed_lateness, case.max_jump, case.clock_skew)
        self._views = views
        self._features = FeatureFold(case, itinerary, target, self._watched)

    def _watched(self, features: FeatureState) -> Timeline:
        self.timeline = Timeline(features, self._views)
        return self.timeline

    def fold(self, record: ArchivedRecord) -> None:
        """Fold one record of the stage's topic."""
        event = self._features.fold(record)
        if event is not None and not self._is_log:
            self._watermark.advance(event.at.timestamp())
            self.timeline.come_to(self._watermark)


def unfolded(case: UseCase, views: Sequence[View], target: Target) -> Unfolded | UnfoldedStage:
    """The fold of one partition of a stage before its first record, with the stage's views."""
    itinerary = itinerary_of(case)
    if itinerary is None:
        return Unfolded(case, views, target.partition)
    return UnfoldedStage(case, itinerary, views, target)
