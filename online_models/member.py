"""Models as a use case declares them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from online_models.errors import ModelsError

MONITOR_DELTA = 1e-5
"""ADWIN's bound on false alarms of one check, strict because a pool has dozens of monitors."""


def copied(estimator: Any, name: str) -> Any:
    """The estimator by way of its pickle; `name` is the member's, for the error."""
    try:
        return pickle.loads(pickle.dumps(estimator, protocol=5))  # our own bytes of a moment ago
    except Exception as error:
        raise ModelsError(
            f"member {name!r} cannot be pickled, so it could not be recovered: {error}"
        ) from error


@dataclass(frozen=True, slots=True)
class Member:
    """A named estimator: `build` makes a new one, of any River kind.

    `class_weight` multiplies what a label teaches. `sampling` learns only that share of a label's
    examples, chosen by a hash of the prediction id, and corrects the probability for it.
    """

    name: str
    build: Callable[[], Any]
    class_weight: Mapping[Any, float] | None = field(default=None, kw_only=True)
    sampling: Mapping[Any, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.name in ("prior", "frozen") or not self.name:
            raise ModelsError(f"a member cannot be named {self.name!r}: prior and frozen are the baselines")
        for share in (self.sampling or {}).values():
            if not 0 < share <= 1:
                raise ModelsError(f"member {self.name!r}: a sampling share must be in (0, 1], not {share!r}")

    def born(self) -> Any:
        """A new estimator that shares no object with any other."""
        return copied(self.build(), self.name)

    def learns(self, y: Any, prediction_id: str) -> bool:
        """Whether sampling keeps this example."""
        share = self.sampling.get(y, 1.0) if self.sampling else 1.0
        return share >= 1.0 or crc32(prediction_id.encode()) < share * 2**32

    def corrected(self, p: float) -> float:
        """p(True) as it would be without sampling: odds are multiplied by share(True) / share(False)
        inversely (Dal Pozzolo et al. 2015, Calibrating probability with undersampling)."""
        if not self.sampling:
            return p
        positive = p / self.sampling.get(True, 1.0)
        negative = (1.0 - p) / self.sampling.get(False, 1.0)
        return positive / (positive + negative)


@dataclass(frozen=True, slots=True)
class PerKey:
    """One pool for each value of the partition key.

    The champion serves; challengers learn from the same examples and stand in when it fails.
    Baselines are the running prior and the champion's own spec frozen after `frozen_after` labels.
    """

    champion: Member
    challengers: Sequence[Member] = ()
    frozen_after: int = 10_000
    baselines: bool = True
    metrics: bool = True
    monitors: bool = True
    delta: float = MONITOR_DELTA
    unmonitored: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = [member.name for member in (self.champion, *self.challengers)]
        if len(set(names)) < len(names):
            raise ModelsError(f"two members share a name: {names}")


@dataclass(frozen=True, slots=True)
class Shared(PerKey):
    """One pool for the whole case."""
