"""Models as a use case declares them."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from math import isfinite
from typing import Annotated, Any
from zlib import crc32

from driftline.declaration_check import Bounds, check, shown
from driftline.errors import pass_interrupt
from driftline.online_models.combine.combination import Combination
from driftline.online_models.drift.monitoring import Monitoring
from driftline.online_models.errors import ModelDeclarationError, reason_of
from driftline.online_models.members.failures import Tolerance
from driftline.online_models.promote.promotion import Promotion
from driftline.online_models.tasks.baselines import check_name

MOST_REPLICAS = 1_000
"""The most replicas: each is a copy of the pool."""


def copied(estimator: Any, name: str) -> Any:
    """A copy of the estimator by pickle; `name` is the member's, for the error."""
    try:
        return pickle.loads(pickle.dumps(estimator, protocol=5))  # bytes that were pickled here just now
    except BaseException as error:
        pass_interrupt(error)
        raise ModelDeclarationError(
            f"member {name!r} cannot be pickled, so it could not be recovered: {reason_of(error)}"
        ) from error


def accepts_weight(estimator: Any) -> bool:
    """Whether it learns with a weight `w`; decided by the last step of a pipeline, or the wrapped
    estimator."""
    steps = getattr(estimator, "steps", None)
    if steps:
        return accepts_weight(list(steps.values())[-1])
    if "w" not in inspect.signature(estimator.learn_one).parameters:
        return False
    wrapped = getattr(estimator, "_wrapped_model", None)
    return wrapped is None or accepts_weight(wrapped)


def check_build(name: object, build: object) -> None:
    """Raises ModelDeclarationError for an estimator in place of a function that makes one."""
    if hasattr(build, "learn_one") and not isinstance(build, type):
        raise ModelDeclarationError(
            f"member {name!r}: an estimator ({type(build).__name__}) in place of what makes one: each pool "
            f"has estimators of its own. Write a function that returns it: Member({name!r}, lambda: ...)"
        )


def check_members(given: Sequence[object]) -> None:
    """Raises ModelDeclarationError for an estimator, or what makes one, in place of a member."""
    for one in given:
        if callable(one) or hasattr(one, "learn_one"):
            raise ModelDeclarationError(
                f"expected a Member or a Combination, not {shown(one)}: a member has a name too: write "
                f'Member("name", {getattr(one, "__name__", "lambda: ...")})'
            )


def _listed(given: object) -> Sequence[object]:
    return given if isinstance(given, (list, tuple)) else ()


@dataclass(frozen=True, slots=True)
class Member:
    """A named estimator of a pool.

    Parameters
    ----------
    name
        The member's name, which predictions and metrics have.
    build
        A function without arguments that makes a new River estimator, or its class. Each pool calls it.
    class_weight
        The weight of examples by label; 1 for labels that are not named.
    sampling
        The share, in (0, 1], of examples that are learned, by label; 1 for labels that are not named.
        Examples are chosen by a hash of the prediction id, and probabilities are corrected for the sampling.
    cost
        The cost of one answer, in any unit (see `PerKey.budget`).
    rate
        The share of requests, in (0, 1], that the member answers and learns from while it does not serve.
    reserve
        True: the member is idle until an operator adds it.

    Raises ModelDeclarationError for a number out of range.

    >>> from river import linear_model
    >>> member = Member("logistic", linear_model.LogisticRegression)
    >>> type(member.born()).__name__
    'LogisticRegression'
    """

    name: str
    build: Callable[[], Any]
    class_weight: Mapping[Any, float] | None = field(default=None, kw_only=True)
    sampling: Mapping[Any, float] | None = field(default=None, kw_only=True)
    cost: float = field(default=1.0, kw_only=True)
    rate: float = field(default=1.0, kw_only=True)
    reserve: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_build(self.name, self.build)
        check(self, ModelDeclarationError, self.name)
        check_name(self.name)
        if not 0 < self.rate <= 1:
            raise ModelDeclarationError(f"member {self.name!r}: a rate must be in (0, 1], not {self.rate!r}")
        if not (isfinite(self.cost) and self.cost > 0):
            raise ModelDeclarationError(
                f"member {self.name!r}: a cost must be finite and above 0, not {self.cost!r}"
            )
        for share in (self.sampling or {}).values():
            if not 0 < share <= 1:
                raise ModelDeclarationError(
                    f"member {self.name!r}: a sampling share must be in (0, 1], not {share!r}"
                )
        for weight in (self.class_weight or {}).values():
            if not (isfinite(weight) and weight >= 0):
                raise ModelDeclarationError(
                    f"member {self.name!r}: a class weight must be finite and not below 0, not {weight!r}"
                )

    def check(self, kind: str) -> None:
        """Raises ModelDeclarationError if weights or shares name something that is not a label of this kind
        of task."""
        for what, given in (("class_weight", self.class_weight), ("sampling", self.sampling)):
            if given and kind == "regression":
                raise ModelDeclarationError(
                    f"member {self.name!r}: {what} is for classes; the task is a regression"
                )
            for label in given or ():
                if not (label in (True, False) if kind == "binary" else isinstance(label, str)):
                    raise ModelDeclarationError(
                        f"member {self.name!r}: {what} names {label!r}, which is no label of a {kind} task"
                    )

    def born(self) -> Any:
        """A new estimator that shares no object with any other; raises ModelDeclarationError without one."""
        try:
            estimator = self.build()
        except BaseException as error:
            pass_interrupt(error)
            raise ModelDeclarationError(f"member {self.name!r} cannot be made: {reason_of(error)}") from error
        return copied(estimator, self.name)

    def learns(self, y: Any, prediction_id: str) -> bool:
        """Whether sampling keeps this example."""
        share = self.sampling.get(y, 1.0) if self.sampling else 1.0
        return share >= 1.0 or crc32(prediction_id.encode()) < share * 2**32

    @staticmethod
    def chance(prediction_id: str) -> int:
        """A number in [0, 2**32) by the prediction id: a rate r takes those below r * 2**32.

        By another hash than that of `learns`, so that the two are independent; and by a good one, as
        checksums of consecutive ids are far from uniform.
        """
        return int.from_bytes(blake2b(prediction_id.encode(), digest_size=4).digest(), "little")

    def corrected(self, output: Any) -> Any:
        """An output (p(True), or p by label) corrected for sampling, as if all examples had been learned.

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
    """A pool of models for each value of the partition key.

    Parameters
    ----------
    champion
        The member that serves first: a `Member`, or a `Combination` of the members.
    challengers
        Members that learn from the same examples, and answer when the champion fails.
    frozen_after
        The labels after which the frozen baseline, a copy of the first member, stops learning.
    baselines
        Whether the baselines run beside the members: the running prior, and the frozen copy.
    metrics
        Whether metrics of all members are kept.
    monitoring
        How drift is detected; None: it is not.
    promotion
        When a challenger that is proven better takes over; None: only an operator's command changes what
        serves.
    budget
        The bound of the sum of cost x rate of members that do not serve. If it is exceeded, all their rates
        are scaled down by one factor. While a combination serves, all members answer it, whatever the budget.
    tolerance
        How often a member may fail before it is put in quarantine, and how it returns.
    by
        A field of the request to use instead of the partition key. It should have few values, as each value's
        pool has members of its own.

    Raises ModelDeclarationError if two members share a name or a number is out of range.

    >>> from driftline import Member
    >>> pool = PerKey(champion=Member("careful", object), challengers=[Member("bold", object)])
    >>> [member.name for member in (pool.champion, *pool.challengers)]
    ['careful', 'bold']
    """

    champion: Member | Combination
    challengers: Sequence[Member | Combination] = ()
    frozen_after: int = 10_000
    baselines: bool = True
    metrics: bool = True
    monitoring: Monitoring | None = field(default_factory=Monitoring)
    promotion: Promotion | None = None
    budget: float | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    by: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_members((self.champion, *_listed(self.challengers)))
        check(self, ModelDeclarationError)
        names = [member.name for member in (self.champion, *self.challengers)]
        if len(set(names)) < len(names):
            raise ModelDeclarationError(f"two members share a name: {names}")
        members = sum(isinstance(member, Member) for member in (self.champion, *self.challengers))
        if members < 1 + (members < len(names)):
            raise ModelDeclarationError(
                f"a combination needs two members or more beside it; there are {names}"
            )
        if self.first.reserve or getattr(self.champion, "reserve", False):
            raise ModelDeclarationError(
                f"the champion serves from the start: {self.first.name!r} cannot be in reserve"
            )
        if self.budget is not None and not self.budget > 0:
            raise ModelDeclarationError(f"a budget must be above 0, not {self.budget!r}")
        if self.frozen_after < 1:
            raise ModelDeclarationError(f"frozen_after must be 1 label or more, not {self.frozen_after!r}")

    @property
    def first(self) -> Member:
        """The first member that is not a combination, usually the champion: the frozen baseline is its
        copy."""
        everyone = (self.champion, *self.challengers)
        return next(member for member in everyone if isinstance(member, Member))


@dataclass(frozen=True, slots=True)
class Shared(PerKey):
    """One pool of models for the whole case. Its key is "". The parameters are those of `PerKey` without
    `by`, and

    Parameters
    ----------
    replicas
        The number of copies of the pool that answer, at most 1,000, each its share of the requests on a core
        of its own. One learner learns from all of them. 0: one pool answers and learns.
    publish_every
        How often the learner publishes the pool to the replicas: a number of labels (at the start after 1, 2,
        4, ... of them), or a timedelta of event time. It also does so when another member serves.
        `learned_through` of a prediction says which labels its model had learned.

    >>> Shared(Member("logistic", object), by="country")
    Traceback (most recent call last):
    driftline.online_models.errors.ModelDeclarationError: Shared is one pool for all: by= goes with PerKey
    """

    replicas: Annotated[int, Bounds(0, MOST_REPLICAS)] = field(default=0, kw_only=True)
    publish_every: int | timedelta = field(default=1_000, kw_only=True)

    def __post_init__(self) -> None:
        if self.by is not None:
            raise ModelDeclarationError("Shared is one pool for all: by= goes with PerKey")
        PerKey.__post_init__(self)
        every = self.publish_every
        if (every.total_seconds() <= 0.0) if isinstance(every, timedelta) else every < 1:
            raise ModelDeclarationError(
                f"publish_every must be a number of labels from 1 on, or a timedelta above 0, not {every!r}"
            )
