"""Groups alarms into one incident: its kind of change, and its likeliest cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cbrt
from typing import Literal, NamedTuple

from driftline.online_models.drift.alarm_budget import AlarmBudget
from driftline.online_models.drift.drift_report import Side, Toll
from driftline.online_models.drift.monitors.alarm import Alarm
from driftline.online_models.drift.monitors.delays import DELAY_OF
from driftline.online_models.drift.monitors.rare_labels import RANKING_OF_RARE
from driftline.online_models.drift.monitors.value_scale import Scale
from driftline.online_models.drift.monitors.windows import BLOCK
from driftline.online_models.drift.spans import BlockSpan

DriftState = Literal["stable", "warning", "drift", "recovered"]
DriftSeverity = Literal["warning", "drift", "recovered"]
IncidentKind = Literal["data break", "label delay", "covariate drift", "label shift", "concept drift"]
SuspectChange = Literal[
    "missing rate",
    "unit",
    "frozen value",
    "calendar",
    "mean",
    "spread",
    "categories",
    "labels",
    "calibration",
    "loss",
    "label delay",
]

LOSS_OF_FROZEN = "loss of frozen"
"""The losses of the baseline that stopped learning: it does not follow the concept as the serving model does,
so its losses show slow changes."""
LOSS_OF_RARE = "loss of rare labels"
"""The losses on the labels of a class that is rare. Among all losses they are lost: what a model loses on one
fraud in two hundred payments is off the scale of the others, right or wrong. Where labels are learned at
their deadline, in the order of their requests, `RANKING_OF_RARE` is watched instead, and needs fewer."""
BREAKS: frozenset[SuspectChange] = frozenset({"missing rate", "unit", "frozen value", "calendar"})
SETTLING = 3
"""Blocks after an alarm whose values show the new level of a stream: the alarm's own block may be half
old."""
UNIT = 1.25
"""A change of a level by a smaller factor is not a change of unit."""
ALIKE = 1.4
"""How much the factors of center and width may differ: so much is chance among a few blocks of values. By a
large factor they may differ by its cube root: the width of counts, where there are more of what is counted,
grows by the square root, and they differ by more."""


class SuspectStream(NamedTuple):
    """The changes of one stream, most evident aspect first; `evidence` is about -ln of their probability by
    chance."""

    subject: str
    stream: str
    change: SuspectChange
    evidence: float
    before: Side
    after: Side


def _sum(losses: Sequence[float | None]) -> float | None:
    """The sum; None where one is None."""
    known = [loss for loss in losses if loss is not None]
    return sum(known) if len(known) == len(losses) else None


@dataclass(slots=True)
class Losses:
    """Sums of the losses of the served answers and of each member's; None for a member that did not answer
    all."""

    labels: int = 0
    served: float = 0.0
    members: list[float | None] = field(default_factory=list)

    def add(self, served: Sequence[float], members: Iterable[Sequence[float | None]]) -> None:
        """Add one block of labels, member by member."""
        sums = [_sum(lost) for lost in members]
        self.members = (
            [None if a is None or b is None else a + b for a, b in zip(self.members, sums, strict=True)]
            if self.labels
            else sums
        )
        self.served += sum(served)
        self.labels += len(served)

    def toll(self, names: Sequence[str]) -> Toll | None:
        """The means, where there are labels."""
        n = self.labels
        if not n:
            return None
        means = {name: lost / n for name, lost in zip(names, self.members, strict=True) if lost is not None}
        return Toll(n, self.served / n, means)


@dataclass(frozen=True, slots=True)
class Drift:
    """A step of an incident: its first suspect, before and after, and its place in the log.

    `predictions` is when what changed was asked, `labels` when its labels came (None: no label was needed).
    `toll` is given when a confirmed incident is over, if labels came during it.
    """

    subject: str
    detector: str
    severity: DriftSeverity
    before: Side
    after: Side
    at: float
    first_offset: int
    offset: int
    incident: int
    kind: IncidentKind
    suspects: tuple[SuspectStream, ...]
    predictions: BlockSpan
    labels: BlockSpan | None
    budget: AlarmBudget
    toll: Toll | None


class Settling(NamedTuple):
    """A stream that has just changed: since which request, its center and width before, values after."""

    since: int
    scale: tuple[float, float]
    values: list[float]


@dataclass(slots=True)
class Incident:
    """One change of the requests, and the streams that show it."""

    number: int
    began: int
    suspects: dict[str, SuspectStream]
    kind: IncidentKind
    quiet_since: int
    confirmed: bool = False
    spoils_losses: bool = False
    losses: Losses = field(default_factory=Losses)


def _change(alarm: Alarm) -> SuspectChange:
    rises = alarm.after.mean > alarm.before.mean
    if alarm.aspect == "missing":
        return "missing rate" if rises else "categories"
    if alarm.aspect == "frozen":
        return "frozen value"
    if alarm.aspect == "delay" or alarm.stream.startswith(DELAY_OF):
        return "label delay"
    if alarm.stream == "label":
        return "labels"
    if alarm.stream == "calibration":
        return "calibration"
    if alarm.stream in ("loss", RANKING_OF_RARE) or alarm.stream.startswith("loss of "):
        return "loss"
    return alarm.aspect


def _place(suspect: SuspectStream) -> tuple[int, float, str]:
    """Causes before what they cause: broken data, late labels, other features, labels, losses, scores; then
    evidence. The frozen baseline's losses do not count if there is another suspect."""
    if suspect.stream == LOSS_OF_FROZEN:
        step = 6
    elif suspect.change in BREAKS and suspect.stream != "score":
        step = 0
    elif suspect.change == "label delay":
        step = 1
    elif suspect.stream.startswith("feature "):
        step = 2
    elif suspect.change == "labels":
        step = 3
    elif suspect.change in ("calibration", "loss"):
        step = 4
    else:
        step = 5
    return step, -suspect.evidence, suspect.subject


def ranked(suspects: Iterable[SuspectStream]) -> tuple[SuspectStream, ...]:
    """The suspects, likeliest cause first."""
    return tuple(sorted(suspects, key=_place))


def kind_of_change(suspects: Iterable[SuspectStream]) -> IncidentKind:
    """The kind of change that these suspects show.

    A label shift leaves P(x | y) alone, so inputs and scores move with the labels, and the model, which does
    not know the new shares, is wrong. Labels that move while inputs stay, or a model that is wrong while
    neither moves, are a change of P(y | x): concept drift. Inputs that move while the model stays right, even
    if the labels move with them, are a covariate drift.
    """
    remaining = list(suspects)
    changes = {suspect.change for suspect in remaining}
    if any(suspect.change in BREAKS and suspect.stream != "score" for suspect in remaining):
        return "data break"
    if "label delay" in changes:
        return "label delay"
    inputs = any(suspect.stream.startswith("feature ") or suspect.stream == "score" for suspect in remaining)
    if changes & {"loss", "calibration"}:
        return "label shift" if "labels" in changes and inputs else "concept drift"
    if "labels" in changes and not inputs:
        return "label shift"
    return "covariate drift"


def is_unit_change(before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether values of this (center, width) may be earlier ones times one factor: both changed by it.

    Around 0 only the width shows it. A negative factor is a flipped sign.
    """
    (old_center, old_width), (center, width) = before, after
    wider = width / old_width
    if abs(old_center) < old_width / 6.0:
        return not 1.0 / UNIT < wider < UNIT and abs(center) < width / 3.0
    factor = center / old_center
    if factor == 0.0 or 1.0 / UNIT < factor < UNIT:
        return False
    factor = abs(factor)
    alike = max(ALIKE, cbrt(factor), 1.0 / cbrt(factor))
    return 1.0 / alike < wider / factor < alike


class Incidents:
    """The state of one pool: stable, warning, drift, recovered, and the open incident. `restarts` counts the
    incidents that made comparisons of losses invalid: these start again with each.
    """

    __slots__ = ("_recovered_until", "_settling", "confirmed", "current", "number", "restarts", "state")

    def __init__(self) -> None:
        self.state: DriftState = "stable"
        self.current: Incident | None = None
        self.number = 0
        self.confirmed = 0
        self.restarts = 0
        self._recovered_until = 0
        self._settling: dict[str, Settling] = {}

    def warned(self, alarms: Sequence[Alarm], now: int) -> bool:
        """Take alarms that are warnings; returns whether that changes anything. `now` is in requests."""
        if self.current is not None:
            if not self.current.confirmed:
                self._suspect(self.current, alarms, now)
                self.current.quiet_since = now
            return False
        self._open(alarms, now)
        self.state = "warning"
        return True

    def alarmed(self, alarms: Sequence[Alarm], now: int) -> bool:
        """Take confirmed alarms; returns whether that changes anything: a new incident, or another kind of
        one."""
        if self.current is None:
            self._open((), now)
        incident = self.current
        assert incident is not None
        if not incident.confirmed:
            incident.confirmed = True
            self.confirmed += 1
            self.state = "drift"
            news = True
        else:
            news = False
        self._suspect(incident, alarms, now)
        incident.quiet_since = now
        return self._judge(incident) or news

    def settle(self, newest: Mapping[str, Sequence[float]], now: int) -> bool:
        """Look at the newest values of streams that have just changed; returns whether that changes
        anything."""
        incident = self.current
        assert incident is not None
        for stream, values in newest.items():
            settling = self._settling[stream]
            if now > settling.since:
                settling.values.extend(values)
            suspect = incident.suspects[stream]
            if now - settling.since < SETTLING * BLOCK:
                continue
            del self._settling[stream]
            if settling.values and suspect.change not in BREAKS:
                scale = Scale.of(settling.values)
                if is_unit_change(settling.scale, (scale.center, scale.width)):
                    incident.suspects[stream] = suspect._replace(change="unit")
        return self._judge(incident) and incident.confirmed

    @property
    def settling(self) -> Sequence[str]:
        """Streams that have just changed."""
        return tuple(self._settling)

    def end(self, now: int, cooldown: int) -> Incident | None:
        """The incident, when it has been quiet for the cooldown: it is over."""
        incident = self.current
        if incident is None:
            if self.state == "recovered" and now >= self._recovered_until:
                self.state = "stable"
            return None
        if now - incident.quiet_since < cooldown:
            return None
        self.current = None
        self._settling.clear()
        self.state = "recovered" if incident.confirmed else "stable"
        self._recovered_until = now + cooldown
        return incident

    def _open(self, alarms: Sequence[Alarm], now: int) -> None:
        self.number += 1
        self.current = Incident(self.number, now, {}, "covariate drift", now)
        self._suspect(self.current, alarms, now)
        self._judge(self.current)

    def _suspect(self, incident: Incident, alarms: Sequence[Alarm], now: int) -> None:
        for alarm in alarms:
            known = incident.suspects.get(alarm.stream)
            change = _change(alarm)
            if alarm.scale is not None and alarm.aspect in ("mean", "spread"):
                self._settling.setdefault(alarm.stream, Settling(now, alarm.scale, []))
            weaker = known is not None and (
                (known.change in BREAKS and change not in BREAKS)
                or (
                    known.evidence >= alarm.evidence and not (change in BREAKS and known.change not in BREAKS)
                )
            )
            if not weaker:
                incident.suspects[alarm.stream] = SuspectStream(
                    alarm.subject, alarm.stream, change, alarm.evidence, alarm.before, alarm.after
                )

    def _judge(self, incident: Incident) -> bool:
        """Judge the kind again; returns whether it has changed."""
        before = incident.kind
        incident.kind = kind_of_change(incident.suspects.values())
        changes = {s.change for s in incident.suspects.values() if s.stream != LOSS_OF_FROZEN}
        if incident.confirmed and not incident.spoils_losses and changes & {"loss", "calibration", "labels"}:
            incident.spoils_losses = True
            self.restarts += 1
        return incident.kind != before
