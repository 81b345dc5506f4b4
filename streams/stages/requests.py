"""Requests whose features were read on their way, completed where they are answered."""

from __future__ import annotations

from typing import Any

from driftline.features.declare.ranges import RangesState
from driftline.features.errors import FeatureValueError
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold import refusal_reasons


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
