"""What a run's report says of adaptation: what changed, when, and what the system did about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from driftline.infra.report.figures import lasting
from driftline.streams.records.messages import DriftEvent, ModelEvent

SPOILING = frozenset({"loss", "calibration", "labels"})
"""Changes that make comparisons of losses start again."""
MOVES = {
    "promotion": "took over",
    "rollback": "serves again",
    "quarantine": "failed",
    "return": "serves again",
}
"""Changes of what serves."""


class Course(msgspec.Struct, frozen=True):
    """An incident from its first event to its last; `over` is None while it is open.

    `changes` are those of the same key's pool until its next incident.
    """

    began: datetime
    confirmed: datetime
    over: datetime | None
    last: DriftEvent
    changes: tuple[ModelEvent, ...] = ()


def courses(drifts: Sequence[DriftEvent], changes: Sequence[ModelEvent] = ()) -> list[Course]:
    """The incidents that were confirmed, oldest first: warnings that were never confirmed are left out."""
    by_incident: dict[str, list[DriftEvent]] = {}
    for event in sorted(drifts, key=lambda e: (e.at, e.id)):
        by_incident.setdefault(event.incident or event.id, []).append(event)
    confirmed_ones = []
    for events in by_incident.values():
        confirmed = next((e.at for e in events if e.severity == "drift"), None)
        if confirmed is not None:
            last = events[-1]
            over = last.at if last.severity == "recovered" else None
            confirmed_ones.append(Course(events[0].at, confirmed, over, last))
    confirmed_ones.sort(key=lambda course: (course.confirmed, course.last.id))
    return [
        msgspec.structs.replace(course, changes=_answers(course, confirmed_ones, changes))
        for course in confirmed_ones
    ]


def _answers(
    course: Course, all_courses: Sequence[Course], changes: Sequence[ModelEvent]
) -> tuple[ModelEvent, ...]:
    key, start = course.last.key, course.confirmed
    until = min((c.confirmed for c in all_courses if c.last.key == key and c.confirmed > start), default=None)
    return tuple(
        change
        for change in sorted(changes, key=lambda c: (c.at, c.offset))
        if change.key == key and change.at >= start and (until is None or change.at < until)
    )


class Move(NamedTuple):
    """A change of what serves; `gain` is the expected reduction of loss, `interval` its confidence
    interval."""

    at: datetime
    key: str
    what: str
    reason: str
    gain: float | None = None
    interval: tuple[float, float] | None = None


def moves(changes: Sequence[ModelEvent]) -> list[Move]:
    """Who took over when, and on what evidence, oldest first."""
    return [
        Move(
            change.at,
            change.key,
            f"{change.member} {MOVES[change.kind]}",
            change.reason,
            None if change.evidence is None else change.evidence.gain,
            None if change.evidence is None else change.evidence.interval,
        )
        for change in sorted(changes, key=lambda c: (c.at, c.id))
        if change.kind in MOVES
    ]


class IncidentRow(NamedTuple):
    """A row of the table of incidents; durations in seconds.

    `warned` is how long before confirmation it was warned of, `lasted` how long it lasted from then (None:
    still open). `losses` are means over its labels: as served, of the champion never replaced, of it frozen.
    """

    at: datetime
    key: str
    kind: str
    suspects: list[str]
    before: float
    after: float
    warned: float
    lasted: float | None
    response: str
    losses: tuple[float | None, float | None, float | None]


class IncidentTable(NamedTuple):
    """The incidents of a run, their number by kind, and the promised rate of false ones."""

    rows: list[IncidentRow]
    kinds: list[tuple[str, int]]
    promise: str


def incidents(
    drifts: Sequence[DriftEvent], changes: Sequence[ModelEvent], champion: str | None
) -> IncidentTable:
    """The confirmed incidents, oldest first; `champion` is the member that was declared as such."""
    rows = [_incident(course, champion) for course in courses(drifts, changes)]
    kinds: dict[str, int] = {}
    for row in rows:
        kinds[row.kind] = kinds.get(row.kind, 0) + 1
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return IncidentTable(rows, ranked, _promise(drifts))


def _promise(drifts: Sequence[DriftEvent]) -> str:
    budgets = {event.key: event.budget for event in sorted(drifts, key=lambda e: e.at) if event.budget}
    if not budgets:
        return ""
    promised = max(budget.false_alarm_every for budget in budgets.values())
    requests = sum(budget.requests for budget in budgets.values())
    return (
        f"The promise: at most one false incident in {promised:,} requests of a key, which is "
        f"{requests / promised:.1f} in the {requests:,} requests up to the last event."
    )


def _incident(course: Course, champion: str | None) -> IncidentRow:
    event, toll = course.last, course.last.toll
    suspects = [suspect.subject for suspect in event.suspects] or [event.subject]
    return IncidentRow(
        at=course.confirmed,
        key=event.key,
        kind=event.kind or "drift",
        suspects=suspects,
        before=event.before.mean,
        after=event.after.mean,
        warned=(course.confirmed - course.began).total_seconds(),
        lasted=None if course.over is None else (course.over - course.confirmed).total_seconds(),
        response=_response(course),
        losses=(None, None, None)
        if toll is None
        else (toll.served, toll.members.get(champion or ""), toll.members.get("frozen")),
    )


def _response(course: Course) -> str:
    """What the system did about an incident, in words."""
    steps = [_step(course, change) for change in course.changes if change.kind in (*MOVES, "withheld")]
    if SPOILING & {suspect.change for suspect in course.last.suspects}:
        steps = ["compared all members again", *steps]
    return "; ".join(steps) or "continued to learn"


def _step(course: Course, change: ModelEvent) -> str:
    after = lasting((change.at - course.confirmed).total_seconds())
    if change.kind == "withheld":
        return f"held {change.member} back after {after}: {change.reason}"
    return f"{change.member} {MOVES[change.kind]} after {after}"
