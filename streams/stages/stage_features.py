"""The features that are read in one stage, and those of a request, completed where it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from driftline.features.declare.declaration import Elapsed, View, Window, stored_name
from driftline.features.declare.ranges import RangesState
from driftline.features.errors import FeatureValueError
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.streams.declare.events import Event
from driftline.streams.declare.plan import Stage
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold import refusal_reasons

F = TypeVar("F", bound=FeatureState)


def features_of(case: UseCase, stage: Stage, rows: bool, kind: type[F], store: SegmentStore = IN_MEMORY) -> F:
    """The state of the features of a stage before its first event, of this kind; with `rows` it keeps the
    online rows of its own windows."""
    features = {name: case.features[name] for name in stage.features}
    return kind(features, case.task.ask, views_of(case, stage) if rows else (), store)


def views_of(case: UseCase, stage: Stage) -> Sequence[View]:
    """The feature views whose windows a stage has."""
    windows = set()
    for name in stage.features:
        feature = case.features[name]
        if isinstance(feature, Elapsed):
            windows.add(stored_name(name))
        elif isinstance(feature, Window):
            windows.add(name)
    return [view for view in case.views() if not windows.isdisjoint(view.features)]


class AcceptedFeatures(FeatureState):
    """The features of a stage, which notes the event that was accepted last and what was read for it.
    Problems of a request are reported by the last stage, where all of its features are known."""

    _event: Event | None = None
    _x: dict[str, Any] | None = None

    def take(self) -> tuple[Event | None, dict[str, Any] | None]:
        """The event since the last call, if one was accepted, and the features read if it is a request."""
        event, x = self._event, self._x
        self._event = self._x = None
        return event, None if event is None else x

    def read(self, request: Any, at: float) -> dict[str, Any]:
        """What was gathered."""
        self._x = self.gather(request, at)
        return self._x

    def update(self, event: Any, at: float) -> None:
        """As any state of features."""
        super().update(event, at)
        self._event = event

    def problems(self) -> list[str]:
        """None: the last stage reports them."""
        return []


class Completion:
    """Completes what was read of requests: orders it, confines it to its ranges, and adds what is computed
    from it. With `judging` a frozen schema refuses what does not fit; who answers judges."""

    def __init__(self, case: UseCase, *, judging: bool) -> None:
        self._features = case.feature_state()
        self._refusals = case.refusals if judging else None
        self.names = self._features.names()

    def completed(self, read: dict[str, Any]) -> dict[str, Any]:
        """All features of a request, from those that were read on its way; raises Refused."""
        x = self._features.ordered(read)
        try:
            self._features.complete(x)
        except FeatureValueError as error:
            raise refusal_reasons.without_features(error, self._features.problems()) from error
        reason = None if self._refusals is None else self._refusals.reason(x)
        if reason is not None:
            raise Refused("schema", "; ".join([*self._features.problems(), reason]))
        return x

    def accepted(self) -> list[str]:
        """The request that was completed last is accepted: what is to be reported of its features."""
        self._features.settle()
        return self._features.problems()

    def state(self) -> RangesState:
        """What is known of ranges; nothing is copied."""
        return self._features.state().ranges

    def restore(self, state: RangesState) -> None:
        """Go on from what `state` gave."""
        parts = self._features.state()
        parts.ranges = state
        self._features.restore(parts)
