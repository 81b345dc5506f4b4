"""The features that are read in one stage."""

from __future__ import annotations

from typing import TypeVar

from driftline.features.state.feature_state import FeatureState
from driftline.streams.declare.plan import Stage
from driftline.streams.declare.usecase import UseCase

F = TypeVar("F", bound=FeatureState)


def features_of(case: UseCase, stage: Stage, rows: bool, kind: type[F]) -> F:
    """The state of the features of a stage before its first event, of this kind; with `rows` it keeps the
    online rows of its own windows."""
    features = {name: case.features[name] for name in stage.features}
    views = [view for view in case.views() if rows and set(view.features) <= set(stage.features)]
    return kind(features, case.task.ask, views)
