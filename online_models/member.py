"""Models as a use case declares them."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from zlib import crc32

from online_models.drift.monitoring import Monitoring
from online_models.errors import ModelsError, reason_of


def copied(estimator: Any, name: str) -> Any:
    """The estimator by way of its pickle; `name` is the member's, for the error."""
    try:
        return pickle.loads(pickle.dumps(estimator, protocol=5))  # our own bytes of a moment ago
    except Exception as error:
        raise ModelsError(
            f"member {name!r} cannot be pickled, so it could not be recovered: {reason_of(error)}"
        ) from error


def accepts_weight(estimator: Any) -> bool:
    """Whether it learns with a weight `w`: of a pipeline the last step, of a wrapper what it wraps."""
    steps = getattr(estimator, "steps", None)
    if steps:
        return accepts_weight(list(steps.values())[-1])
    if "w" not in inspect.signature(estimator.learn_one).parameters:
        return False
    wrapped = getattr(estimator, "_wrapped_model", None)
    return wrapped is None or accepts_weight(wrapped)


@dataclass(frozen=True, slots=True)
class Member:
    """A named estimator: `build` makes a new one, of any River kind.

    `class_weight` multiplies what a label teaches. `sampling` learns only that share, in (0, 1], of a
    label's examples, chosen by a hash of the prediction id, and corrects the probability for it.
    Labels that are not named have 1. Raises ModelsError where a number is out of range.
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
        for weight in (self.class_weight or {}).values():
            if not (isfinite(weight) and weight >= 0):
                raise ModelsError(
                    f"member {self.name!r}: a class weight must be finite and not below 0, not {weight!r}"
                )

    def check(self, kind: str) -> None:
        """Raises ModelsError when weights or shares name labels that a task of this kind has not."""
        for what, given in (("class_weight", self.class_weight), ("sampling", self.sampling)):
            if given and kind == "regression":
                raise ModelsError(f"member {self.name!r}: {what} is for classes; the task is a regression")
            for label in given or ():
                if not (label in (True, False) if kind == "binary" else isinstance(label, str)):
                    raise ModelsError(
                        f"member {self.name!r}: {what} names {label!r}, which is no label of a {kind} task"
                    )

    def born(self) -> Any:
        """A new estimator that shares no object with any other; raises ModelsError when none can be made."""
        try:
            estimator = self.build()
        except Exception as error:
            raise ModelsError(f"member {self.name!r} cannot be made: {reason_of(error)}") from error
        return copied(estimator, self.name)

    def learns(self, y: Any, prediction_id: str) -> bool:
        """Whether sampling keeps this example."""
        share = self.sampling.get(y, 1.0) if self.sampling else 1.0
        return share >= 1.0 or crc32(prediction_id.encode()) < share * 2**32

    def corrected(self, output: Any) -> Any:
        """An output (p(True), or p by label) as it would be had all examples been learned.

        Keeping a share s(c) of the examples of class c multiplies its odds by s(c), so
        p(c) = (q(c) / s(c)) / sum over k of q(k) / s(k) for the estimator's own q (Elkan 2001, theorem 2;
        Dal Pozzolo et al. 2015, Calibrating probability with undersampling for unbalanced classification).
        """
        shares = self.sampling
        if not shares:
            return output
        if isinstance(output, float):
            positive = output / shares.get(True, 1.0)
            return positive / (positive + (1.0 - output) / shares.get(False, 1.0))
        odds = {label: p / shares.get(label, 1.0) for label, p in output.items()}
        everything = sum(odds.values())
        return {label: odd / everything for label, odd in odds.items()} if everything > 0 else output


@dataclass(frozen=True, slots=True)
class PerKey:
    """One pool for each value of the partition key.

    The champion serves; challengers learn from the same examples and stand in when it fails.
    Baselines are the running prior and the champion's own spec frozen after `frozen_after` labels.
    `monitoring` watches for drift; None watches nothing.
    Raises ModelsError for a name used twice or a number out of range.
    """

    champion: Member
    challengers: Sequence[Member] = ()
    frozen_after: int = 10_000
    baselines: bool = True
    metrics: bool = True
    monitoring: Monitoring | None = field(default_factory=Monitoring)

    def __post_init__(self) -> None:
        names = [member.name for member in (self.champion, *self.challengers)]
        if len(set(names)) < len(names):
            raise ModelsError(f"two members share a name: {names}")
        if self.frozen_after < 1:
            raise ModelsError(f"frozen_after must be 1 label or more, not {self.frozen_after!r}")


@dataclass(frozen=True, slots=True)
class Shared(PerKey):
    """One pool for the whole case."""
