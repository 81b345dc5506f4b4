"""The seats of a pool: which one serves, which are next in line, which are in quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from driftline.online_models.combine.combination import Combiner
from driftline.online_models.errors import ModelsError, reason_of
from driftline.online_models.members.failures import Failures
from driftline.online_models.members.member import PerKey, copied
from driftline.online_models.pool.seat import EVERY, Seat, SeatState, seats_of
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import Referee, RefereeState
from driftline.online_models.tasks.protocol import Task


class RosterState(msgspec.Struct):
    """All of a roster that changes. Seats are known by their numbers.

    `serving` answers; `elected` is the one that does so by declaration, evidence or command, and is another
    while that one is in quarantine. A rollback goes to `previous`. `requests` counts those of the pool;
    `troubled` are the seats with failures that are not over.
    """

    seats: list[SeatState]
    budget: float | None
    serving: int = 0
    elected: int = 0
    previous: int | None = None
    requests: int = 0
    troubled: list[int] = []
    referee: RefereeState | None = None


class Roster:
    """The seats of one pool and their order.

    `asked` are those that answer requests by themselves, up to their `reach`; `followers` repeat the first.
    """

    def __init__(self, scope: PerKey, task: Task, slices: Sequence[str]) -> None:
        self._scope = scope
        self._task = task
        self.seats = seats_of(scope, task)
        declared = [seat for seat in self.seats if seat.role != "baseline"]
        self.members = len(declared)
        self.combined = [index for index, seat in enumerate(declared) if seat.member is not None]
        self.combinations = [index for index in range(self.members) if index not in self.combined]
        self.first = self.combined[0]
        self.frozen = self.members if scope.baselines else None
        self.state = RosterState([seat.state for seat in self.seats], scope.budget)
        self.by_chance = False
        self.asked: list[tuple[int, Seat]] = []
        self.followers: list[int] = []
        self.referee = self._new_referee(slices)
        self.apportion()

    def _new_referee(self, slices: Sequence[str]) -> Referee | None:
        if self._scope.promotion is None:
            return None
        names = [seat.name for seat in self.seats]
        baselines = [index for index, seat in enumerate(self.seats) if seat.role == "baseline"]
        referee = Referee(self._scope.promotion, self._task.kind, names, baselines, slices)
        referee.begin(self.state.serving, self._candidates())
        self.state.referee = referee.state
        return referee

    def restore(self, state: RosterState) -> None:
        """Take over a state, of a roster with the same declaration."""
        self.state = state
        for seat, saved in zip(self.seats, state.seats, strict=True):
            seat.state = saved
            if seat.role == "baseline" and saved.sampled:
                seat.member = self._scope.first  # frozen as a copy of it, sampling and all
        if self.referee is not None and state.referee is not None:
            self.referee.state = state.referee
        self.apportion()

    def name_of(self, index: int) -> str:
        """The seat's; beyond the last one there is the prior."""
        return self.seats[index].name if index < len(self.seats) else "prior"

    def line(self) -> Iterator[int]:
        """The seats that may answer, the serving one first."""
        serving = self.state.serving
        if serving < len(self.seats):
            yield serving
        for index, seat in enumerate(self.seats):
            if index != serving and seat.state.may_serve:
                yield index

    def _candidates(self) -> list[int]:
        """Seats that may take over."""
        return [
            index
            for index, seat in enumerate(self.seats[: self.members])
            if seat.state.live and index != self.state.serving
        ]

    def apportion(self) -> None:
        """Set who is asked, and what share of requests every member answers: the budget, who serves, who is
        live or who follows has changed."""
        serving = self.seats[self.state.serving] if self.state.serving < len(self.seats) else None
        everyone = serving is not None and serving.state.estimator.__class__ is Combiner
        beside = [
            (seat, seat.member)
            for seat in self.seats[: self.members]
            if seat.state.live and seat.member is not None and seat is not serving
        ]
        cost = sum([member.cost * member.rate for _, member in beside])
        budget = self.state.budget
        factor = 1.0 if budget is None or cost <= budget else budget / cost
        for seat in self.seats:
            seat.reach = EVERY
        for seat, member in beside:
            if not everyone:
                seat.reach = int(member.rate * factor * EVERY)
        self.by_chance = any(seat.reach < EVERY for seat in self.seats)
        self.followers = [index for index, seat in enumerate(self.seats) if seat.state.follows]
        # new lists each time: a request that is being answered goes on with those of its start
        self.asked = [
            (index, seat)
            for index, seat in enumerate(self.seats)
            if seat.state.live and index not in self.followers and index not in self.combinations
        ]

    def compare_anew(self) -> None:
        """Comparisons of losses start again."""
        if self.referee is not None:
            self.referee.begin(self.state.serving, self._candidates())

    def elect(self, index: int, previous: int | None) -> None:
        """A live seat serves from here on; `previous` is the one that a rollback would go back to."""
        failures = self.seats[index].state.failures
        if failures is not None:
            failures.trial = 0
        self.state.elected = index
        self.state.previous = previous
        if self.referee is not None:
            self.referee.moved()
        self._serve(index)

    def _serve(self, index: int) -> None:
        self.state.serving = index
        self.apportion()
        self.compare_anew()

    def enter(self, index: int) -> None:
        """A declared member or combination starts again; raises ModelsError when it cannot be made."""
        seat = self.seats[index]
        state = seat.state
        if seat.member is not None:
            state.estimator = self._task.prepared(seat.member.born())
        elif not any(self.seats[other].state.live for other in self.combined):
            raise ModelsError("no live member is there to combine")
        else:
            state.estimator = state.estimator.reborn()
        state.live, state.learning, state.has_learned = True, seat.member is not None, False
        if self.referee is not None and self.state.serving < len(self.seats):
            self.referee.admit(index)
        self.apportion()

    def leave(self, index: int) -> None:
        """A seat is no longer live: if it served, the next in line does."""
        state = self.seats[index].state
        state.live = state.learning = False
        if index == self.state.serving:
            self._serve(self._next())
            return
        if self.referee is not None:
            self.referee.drop(index)
        self.apportion()

    def dismiss(self, index: int) -> None:
        """A member in quarantine does not return by itself."""
        failures = self.seats[index].state.failures
        assert failures is not None
        failures.release(0)
        self.state.troubled = [other for other in self.state.troubled if other != index]

    def fail(self, index: int, stage: str, reason: str, changes: list[ModelChange]) -> None:
        """A member raised, or gave no finite number; too many of that put it in quarantine."""
        seat, rules, request = self.seats[index], self._scope.tolerance, self.state.requests
        failures = seat.state.failures
        if failures is None:
            failures = seat.state.failures = Failures()
        is_first = not failures.recent
        if index not in self.state.troubled:
            self.state.troubled = [*self.state.troubled, index]
        if failures.add(request, reason, rules):
            lasted = request - failures.recent[0] + 1
            pause = failures.confine(request, rules)
            self.leave(index)
            reason += (
                f" (failures: {rules.failures} in {lasted} requests; it comes back after {pause:,} more)"
            )
            changes.append(ModelChange("quarantine", seat.name, stage, reason))
        elif is_first:
            changes.append(ModelChange("failing", seat.name, stage, reason))

    def begin_request(self) -> list[ModelChange]:
        """Count a request; returns which quarantines and runs of failures are over by now."""
        self.state.requests += 1
        changes: list[ModelChange] = []
        for index in self.state.troubled:
            self._look(index, changes)
        return changes

    def _look(self, index: int, changes: list[ModelChange]) -> None:
        seat, rules, request = self.seats[index], self._scope.tolerance, self.state.requests
        failures = seat.state.failures
        assert failures is not None
        if failures.is_confined:
            if request >= failures.returns:
                changes.append(self.release(index, "predict"))
        elif failures.is_over(request, rules):
            failures.recent = []
            if not failures.trial:
                changes.append(self._recovered(index, f"no failure within {rules.within} requests"))

    def release(self, index: int, stage: str) -> ModelChange:
        """A quarantine is over: a member starts again on probation; the frozen baseline goes on as it was."""
        seat, rules = self.seats[index], self._scope.tolerance
        failures = seat.state.failures
        assert failures is not None
        if seat.role == "baseline":
            failures.release(0)
            seat.state.live = True
            self.apportion()
            return self._recovered(index, "its quarantine is over")
        try:
            self.enter(index)
        except ModelsError as error:
            pause = failures.confine(self.state.requests, rules)
            reason = f"{reason_of(error)} (tried again after {pause:,} requests)"
            return ModelChange("quarantine", seat.name, stage, reason)
        failures.release(rules.probation)
        reason = f"starts anew, and learns from {rules.probation:,} examples before it may serve"
        return ModelChange("probation", seat.name, stage, reason)

    def taught(self, index: int) -> Sequence[ModelChange]:
        """A seat that has failed before has learned from an example, which may end its probation."""
        failures = self.seats[index].state.failures
        if failures is None or not failures.trial:
            return ()
        failures.trial -= 1
        if failures.trial:
            return ()
        learned = f"learned from {self._scope.tolerance.probation:,} examples on probation"
        return (self._recovered(index, learned),)

    def _recovered(self, index: int, reason: str) -> ModelChange:
        """It failed and is well again; where it stands before the one that serves, it serves again."""
        failures = self.seats[index].state.failures
        assert failures is not None
        failures.recent = []
        self.state.troubled = [other for other in self.state.troubled if other != index]
        name = self.seats[index].name
        if self._is_served_for() and index == self._next():
            self._serve(index)
            return ModelChange("return", name, "learn", reason)
        return ModelChange("recovered", name, "learn", reason)

    def _is_served_for(self) -> bool:
        """Whether the one that serves stands in for another; evidence, where it decides, leaves that alone
        unless nobody serves."""
        serving = self.state.serving
        return serving >= len(self.seats) or (self.referee is None and serving != self.state.elected)

    def _next(self) -> int:
        """The one that is to serve: the elected one if it may, else the first in line."""
        if self.seats[self.state.elected].state.may_serve:
            return self.state.elected
        in_line = (index for index, seat in enumerate(self.seats) if seat.state.may_serve)
        return next(in_line, len(self.seats))

    def freeze(self, labels: int, through: int) -> list[ModelChange]:
        """Make the frozen baseline, a copy of the first member as it is now."""
        assert self.frozen is not None
        seat, first = self.seats[self.frozen], self.seats[self.first]
        state = seat.state
        state.follows = False
        try:
            state.estimator = copied(first.state.estimator, seat.name)
        except ModelsError as error:
            self.leave(self.frozen)
            return [ModelChange("quarantine", seat.name, "freeze", reason_of(error))]
        seat.member, state.sampled = first.member, first.state.sampled
        state.learning, state.has_learned, state.through = False, True, through
        self.apportion()
        return [ModelChange("frozen", "frozen", "learn", f"after {labels} labels")]

    @property
    def is_to_freeze(self) -> bool:
        """Whether the frozen baseline has not been made yet, and can be."""
        return (
            self.frozen is not None
            and self.seats[self.frozen].state.follows
            and self.seats[self.first].state.live
        )
