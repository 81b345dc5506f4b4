"""The features that are read in one stage."""

from __future__ import annotations

from driftline.features.state.feature_state import FeatureState
from driftline.streams.declare.usecase import UseCase
from driftline.streams.plan.stage import Stage


def features_of(case: UseCase, stage: Stage, rows: bool) -> FeatureState:
    """The state of the features of a stage before its first event; with `rows` it keeps the online rows of
    its own windows."""
    features = {name: case.features[name] for name in stage.features}
    views = [view for view in case.views() if rows and set(view.features) <= set(stage.features)]
    return FeatureState(features, case.task.ask, None, views)
