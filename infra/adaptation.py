"""What a run's report says of adaptation: what changed, when, what the system did, and what that gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import msgspec

from infra.figures import figure, lasting, role_of
from streams.messages import DriftEvent, ModelEvent

SPOILING = frozenset({"loss", "calibration", "labels"})
"""Changes that make comparisons of losses start anew."""
MOVES = {
    "promotion": "took over",
    "rollback": "serves again",
    "quarantine": "failed",
    "return": "serves again",
}
"""Changes of what serves."""
ALONE = "never promoted"


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
    """The incidents that were confirmed, oldest first: warnings that came to nothing are left out."""
    by_incident: dict[str, list[DriftEvent]] = {}
    for event in sorted(drifts, key=lambda e: (e.at, e.id)):
        by_incident.setdefault(event.incident or event.id, []).append(event)
    found = []
    for events in by_incident.values():
        confirmed = next((e.at for e in events if e.severity == "drift"), None)
        if confirmed is not None:
            last = events[-1]
            over = last.at if last.severity == "recovered" else None
            found.append(Course(events[0].at, confirmed, over, last))
    found.sort(key=lambda course: (course.confirmed, course.last.id))
    return [msgspec.structs.replace(course, changes=_answers(course, found, changes)) for course in found]


def _answers(
    course: Course, found: Sequence[Course], changes: Sequence[ModelEvent]
) -> tuple[ModelEvent, ...]:
    key, start = course.last.key, course.confirmed
    until = min((c.confirmed for c in found if c.last.key == key and c.confirmed > start), default=None)
    return tuple(
        change
        for change in sorted(changes, key=lambda c: (c.at, c.offset))
        if change.key == key and change.at >= start and (until is None or change.at < until)
    )


def gains(models: Mapping[str, dict[str, Any]], served: Mapping[str, Any]) -> str:
    """What was served beside the champion as declared, never replaced, and the baselines."""
    champion = next((name for name in models if role_of(name, models[name]) == "champion"), None)
    loss = next((name for name in ("log_loss", "rmse") if served.get(name) is not None), None)
    if champion is None or loss is None:
        return ""
    rows = [("as served", served), (f"{champion}, {ALONE}", models[champion])]
    rows += [(name, models[name]) for name in ("frozen", "prior") if name in models]
    columns = [
        (name, title)
        for name, title in (
            ("roc_auc", "ROC AUC"), ("log_loss", "log loss"), ("rmse", "RMSE"), ("accuracy", "accuracy"),
            ("n", "labels"),
        )
        if served.get(name) is not None
    ]  # fmt: skip
    head = "".join(f"<th>{title}</th>" for _, title in columns)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{figure(state.get(column), 4)}</td>" for column, _ in columns)
        + f"<td>{_less(served[loss], state.get(loss))}</td></tr>"
        for name, state in rows
    )
    return (
        "<section><h2>What adapting gained</h2><p class=quiet>What was answered, whichever member did, "
        "beside what the champion as declared would have answered had nothing replaced it, the same frozen "
        "early, and the shares of the labels. All are scored on the same labels; gain is by how much less "
        f"was lost.</p><div class=scroll><table><thead><tr><th></th>{head}<th>gain over it</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _less(served: float, other: float | None) -> str:
    """By how much less was lost than `other`, in percent of it; a dash where it is the same."""
    if not other or served == other:
        return "&ndash;"
    return f"{(other - served) / other * 100 + 0.0:+.2f} %"


def moves(changes: Sequence[ModelEvent], most: int = 100) -> str:
    """Who took over when, and on what evidence."""
    found = sorted((change for change in changes if change.kind in MOVES), key=lambda c: (c.at, c.id))
    if not found:
        return ""
    rows = "".join(
        f"<tr><td>{change.at:%Y-%m-%d %H:%M}</td><td>{escape(change.key)}</td>"
        f"<td>{escape(change.member)} {MOVES[change.kind]}</td><td>{_interval(change)}</td>"
        f"<td class=words>{escape(change.reason)}</td></tr>"
        for change in found[:most]
    )
    shown = f"first {most} of {len(found):,}" if len(found) > most else f"all {len(found):,}"
    return (
        f"<section><h2>Who served</h2><p class=quiet>Changes of what serves ({shown}), each an event with "
        "its evidence. Gain: by how much less the new one is expected to lose, with its interval.</p>"
        "<div class=scroll><table><thead><tr><th>when (UTC)</th><th>key</th><th>what</th><th>gain</th>"
        f"<th class=words>why</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _interval(change: ModelEvent) -> str:
    evidence = change.evidence
    if evidence is None:
        return "&ndash;"
    low, high = evidence.interval
    return f"{evidence.gain:.4f} ({low:.4f} to {high:.4f})"


def incidents(
    drifts: Sequence[DriftEvent], changes: Sequence[ModelEvent], champion: str | None, most: int = 200
) -> str:
    """The incidents by kind, and a row for each; `champion` is the member that was declared as such."""
    found = courses(drifts, changes)
    if not found:
        return "<section><h2>Incidents</h2><p class=quiet>None were found.</p></section>"
    rows = "".join(_row(course, champion) for course in found[:most])
    shown = f"first {most} of {len(found):,}" if len(found) > most else f"all {len(found):,}"
    return (
        "<section><h2>Incidents</h2><p class=quiet>One incident is all that changes at a time, its "
        f"likeliest cause first. {_promise(drifts)}</p>{_kinds(found)}"
        f"<details open><summary>The incidents ({shown})</summary><p class=quiet>What the system did, until "
        "the same key's next incident; and the mean loss on the labels that came from confirmation to end: "
        "as served, of the champion never replaced, of it frozen.</p>"
        "<div class=scroll><table><thead><tr><th>confirmed (UTC)</th><th>key</th><th>kind</th>"
        "<th class=words>suspects</th><th>before</th><th>after</th><th>warned before</th>"
        "<th>over after</th><th class=words>what the system did</th><th>served</th>"
        f"<th>{ALONE}</th><th>frozen</th></tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _kinds(found: Sequence[Course]) -> str:
    """A bar for each kind, as long as there are many."""
    kinds: dict[str, int] = {}
    for course in found:
        kind = course.last.kind or "drift"
        kinds[kind] = kinds.get(kind, 0) + 1
    top = max(kinds.values())
    bars = "".join(
        f"<tr><td>{escape(kind)}</td><td class=wide>"
        f"<i class=barline style='width:{n / top * 100:.1f}%'></i></td><td>{n:,}</td></tr>"
        for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"<table class=counts><tbody>{bars}</tbody></table>"


def _promise(drifts: Sequence[DriftEvent]) -> str:
    budgets = {event.key: event.budget for event in sorted(drifts, key=lambda e: e.at) if event.budget}
    if not budgets:
        return ""
    promised = max(budget.false_alarm_every for budget in budgets.values())
    requests = sum(budget.requests for budget in budgets.values())
    return (
        f"The promise: at most one false one in {promised:,} requests of a key, which is "
        f"{requests / promised:.1f} in the {requests:,} requests up to the last event."
    )


def _row(course: Course, champion: str | None) -> str:
    event, toll = course.last, course.last.toll
    suspects = [suspect.subject for suspect in event.suspects] or [event.subject]
    named = escape(", ".join(suspects[:3])) + (f" and {len(suspects) - 3} more" if len(suspects) > 3 else "")
    over = "open" if course.over is None else lasting((course.over - course.confirmed).total_seconds())
    warned = (course.confirmed - course.began).total_seconds()
    lost = (
        (None, None, None)
        if toll is None
        else (toll.served, toll.members.get(champion or ""), toll.members.get("frozen"))
    )
    return (
        f"<tr><td>{course.confirmed:%Y-%m-%d %H:%M}</td><td>{escape(event.key)}</td>"
        f"<td>{escape(event.kind or 'drift')}</td><td class=words>{named}</td>"
        f"<td>{event.before.mean:.4g}</td><td>{event.after.mean:.4g}</td>"
        f"<td>{lasting(warned) if warned else '&ndash;'}</td><td>{over}</td>"
        f"<td class=words>{escape(_did(course))}</td>"
        + "".join(f"<td>{figure(value, 4)}</td>" for value in lost)
        + "</tr>"
    )


def _did(course: Course) -> str:
    """What followed an incident, in words."""
    told = [_said(course, change) for change in course.changes if change.kind in (*MOVES, "withheld")]
    if SPOILING & {suspect.change for suspect in course.last.suspects}:
        told = ["compared all members anew", *told]
    return "; ".join(told) or "told; what served went on learning"


def _said(course: Course, change: ModelEvent) -> str:
    after = lasting((change.at - course.confirmed).total_seconds())
    if change.kind == "withheld":
        return f"held {change.member} back after {after}: {change.reason}"
    return f"{change.member} {MOVES[change.kind]} after {after}"
