"""An operator's commands to a pool: each takes effect at once, and returns its result."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

from driftline.online_models.errors import ModelsError, reason_of
from driftline.online_models.pool.roster import Roster
from driftline.online_models.pool.seat import EVERY, Seat
from driftline.online_models.pool.serving_change import ModelChange, refused


def obey(roster: Roster, action: str, member: str = "", budget: float | None = None) -> ModelChange:
    """Carry out an `action` of `driftline.streams.declare.events.Action`."""
    actions: dict[str, Callable[[], ModelChange]] = {
        "promote": lambda: promote(roster, member),
        "rollback": lambda: rollback(roster),
        "freeze": lambda: freeze(roster),
        "unfreeze": lambda: unfreeze(roster),
        "add": lambda: add(roster, member),
        "remove": lambda: remove(roster, member),
        "budget": lambda: set_budget(roster, budget),
    }
    return actions[action]()


def promote(roster: Roster, name: str) -> ModelChange:
    """Let a live member serve from here on."""
    index, seat = _found(roster, name)
    if seat is None or not seat.state.live or seat.state.follows:
        return refused(name, "no live member has this name" if seat is None else _state_of(seat))
    serving = roster.state.serving
    if index == serving:
        return refused(name, "it serves already")
    roster.elect(index, serving if serving < len(roster.seats) else None)
    return ModelChange("promotion", name, "command", "")


def rollback(roster: Roster) -> ModelChange:
    """Undo the last promotion."""
    previous = roster.state.previous
    if previous is None:
        return refused("", "there is no promotion to undo")
    seat = roster.seats[previous]
    if not seat.state.live or previous == roster.state.serving:
        return refused(seat.name, _state_of(seat))
    roster.elect(previous, None)
    return ModelChange("rollback", seat.name, "command", "")


def freeze(roster: Roster) -> ModelChange:
    """Promote nothing by evidence any more."""
    return _set_frozen(roster, True, "freeze", "promotions are frozen already")


def unfreeze(roster: Roster) -> ModelChange:
    """Promote by evidence again."""
    return _set_frozen(roster, False, "unfreeze", "promotions are not frozen")


def _set_frozen(roster: Roster, frozen: bool, kind: str, otherwise: str) -> ModelChange:
    referee = roster.referee
    if referee is None:
        return refused("", "no promotion is declared, so none happens by evidence")
    if referee.state.is_frozen == frozen:
        return refused("", otherwise)
    referee.state.is_frozen = frozen
    return ModelChange(kind, "", "command", "")


def add(roster: Roster, name: str) -> ModelChange:
    """A declared member that is not live starts again: one in reserve or removed at once, one in quarantine
    on probation, as after its pause."""
    index, seat = _found(roster, name)
    if seat is None or seat.role == "baseline":
        return refused(name, "no declared member has this name")
    if seat.state.live:
        return refused(name, "it is live already")
    failures = seat.state.failures
    if failures is not None and failures.is_confined:
        return roster.release(index, "command")
    try:
        roster.enter(index)
    except ModelsError as error:
        return refused(name, reason_of(error))
    return ModelChange("add", name, "command", "")


def remove(roster: Roster, name: str) -> ModelChange:
    """A challenger neither answers nor learns any more; one in quarantine does not return by itself."""
    index, seat = _found(roster, name)
    if seat is not None and seat.state.failures is not None and seat.state.failures.is_confined:
        roster.dismiss(index)
        return ModelChange("remove", name, "command", "")
    if seat is None or seat.role == "baseline" or not seat.state.live:
        return refused(name, "no live challenger has this name")
    if index == roster.state.serving:
        return refused(name, "it serves: promote another one first")
    if index == roster.first and any(other.state.follows for other in roster.seats):
        return refused(name, "the frozen baseline, which is to be its copy, has not been made yet")
    alone = [other for other in roster.combined if roster.seats[other].state.live] == [index]
    if alone and any(roster.seats[other].state.live for other in roster.combinations):
        return refused(name, "it is the last one that a combination has")
    roster.leave(index)
    return ModelChange("remove", name, "command", "")


def set_budget(roster: Roster, budget: float | None) -> ModelChange:
    """Bound the cost of the members that do not serve; None: no bound."""
    if budget is not None and not (isfinite(budget) and budget > 0):
        return refused("", f"a budget must be a finite number above 0, not {budget!r}")
    roster.state.budget = budget
    roster.apportion()
    rates = ", ".join(f"{seat.name} {seat.reach / EVERY:.4g}" for seat in roster.seats if seat.state.live)
    return ModelChange("budget", "", "command", f"share of requests that each answers: {rates}")


def _found(roster: Roster, name: str) -> tuple[int, Seat | None]:
    for index, seat in enumerate(roster.seats):
        if seat.name == name:
            return index, seat
    return -1, None


def _state_of(seat: Seat) -> str:
    """Why a seat cannot take over."""
    if seat.state.follows:
        return "it has not been frozen yet"
    return "it serves already" if seat.state.live else "it is not live: add it first"
