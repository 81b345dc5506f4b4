"""A member at work in a pool."""

from __future__ import annotations

from typing import Any

import msgspec

from driftline.online_models.combine.combination import Combination, Combiner
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.failures import Failures
from driftline.online_models.members.member import Member, PerKey, accepts_weight
from driftline.online_models.tasks.baselines import RunningPrior
from driftline.online_models.tasks.metrics import Metrics, metrics_of
from driftline.online_models.tasks.protocol import Task

EVERY = 2**32
"""One above any chance of a request."""


class SeatState(msgspec.Struct):
    """All of a seat that changes, and that a checkpoint has to keep.

    `live` and `learning` end with a quarantine, and `learning` with freezing; a combination, whose estimator
    is a `Combiner`, does not learn from examples. `has_learned` says that it has learned from one.

    Until it is frozen, `follows` says that the frozen baseline is the first member: having learned from
    the same examples, a second estimator would only cost the time. `through` is the offset of the last label
    that the frozen one has learned from; -1 while it is the pool's. `failures` is None before the first.
    """

    estimator: Any
    metrics: Metrics | None
    live: bool = True
    learning: bool = True
    weighted: bool = False
    sampled: bool = False
    follows: bool = False
    has_learned: bool = False
    through: int = -1
    failures: Failures | None = None

    @property
    def may_serve(self) -> bool:
        """Whether it is live, with answers of its own, and not on probation."""
        return self.live and not self.follows and (self.failures is None or self.failures.trial == 0)


class Seat:
    """A name and a role as declared, and the state. Requests whose chance is below `reach` are answered and
    learned from; `member` is None of a combination and of the baselines, but of the frozen one it is the
    member whose copy it is."""

    __slots__ = ("member", "name", "reach", "role", "state")

    def __init__(self, name: str, role: str, member: Member | None, state: SeatState) -> None:
        self.name = name
        self.role = role
        self.member = member
        self.state = state
        self.reach = EVERY

    def teach(self, x: dict[str, Any], y: Any, prediction_id: str) -> None:
        """Learn from an example, weighted and sampled as declared. Raises what the estimator raises."""
        member, state = self.member, self.state
        if member is None:  # the prior, which reads labels alone
            state.estimator.learn_one(x, y)
            return
        x = x.copy()
        if not (state.sampled or state.weighted):
            state.estimator.learn_one(x, y)
        elif member.learns(y, prediction_id):
            if state.weighted and member.class_weight is not None:
                state.estimator.learn_one(x, y, w=member.class_weight.get(y, 1.0))
            else:
                state.estimator.learn_one(x, y)

    def observe(self, x: dict[str, Any]) -> None:
        """Learn from features without a label. Raises what the estimator raises."""
        self.state.estimator.learn_one(x.copy())


def seats_of(scope: PerKey, task: Task) -> list[Seat]:
    """Members and combinations in their order, then the baselines. Raises ModelsError."""

    def metrics() -> Metrics | None:
        return metrics_of(task) if scope.metrics else None

    declared = (scope.champion, *scope.challengers)
    members = sum(isinstance(entry, Member) for entry in declared)
    seats = []
    for number, entry in enumerate(declared):
        role = "challenger" if number else "champion"
        if isinstance(entry, Member):
            seats.append(_of_member(entry, role, task, metrics()))
        else:
            seats.append(_of_combination(entry, role, task, metrics(), members))
    if scope.baselines:
        seats.append(
            Seat("frozen", "baseline", None, SeatState(None, metrics(), learning=False, follows=True))
        )
        seats.append(Seat("prior", "baseline", None, SeatState(RunningPrior(task.kind), metrics())))
    return seats


def _of_combination(
    declared: Combination, role: str, task: Task, metrics: Metrics | None, members: int
) -> Seat:
    combiner = Combiner(declared, members, task.kind)
    return Seat(declared.name, role, None, SeatState(combiner, metrics, learning=False))


def _of_member(member: Member, role: str, task: Task, metrics: Metrics | None) -> Seat:
    member.check(task.kind)
    if not task.is_supervised and (member.class_weight or member.sampling):
        raise ModelsError(
            f"member {member.name!r}: class_weight and sampling need members that learn from labels"
        )
    estimator = member.born()
    weighted = bool(member.class_weight)
    if weighted and not accepts_weight(estimator):
        raise ModelsError(
            f"member {member.name!r}: class_weight needs an estimator that learns with a weight; "
            "use sampling instead"
        )
    is_in = not member.reserve
    state = SeatState(
        task.prepared(estimator), metrics, is_in, is_in, weighted=weighted, sampled=bool(member.sampling)
    )
    return Seat(member.name, role, member, state)
