"""The drift detection of one pool: monitors, incidents, and the estimate of its performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driftline.online_models.drift.alarm_budget import AlarmBudget, evidence_for
from driftline.online_models.drift.drift_report import Estimate
from driftline.online_models.drift.incidents import (
    LOSS_OF_FROZEN,
    LOSS_OF_RARE,
    Drift,
    DriftSeverity,
    DriftState,
    IncidentKind,
    Incidents,
    ranked,
)
from driftline.online_models.drift.monitoring import Monitoring
from driftline.online_models.drift.monitors.alarm import Alarm
from driftline.online_models.drift.monitors.blocks import columns_of
from driftline.online_models.drift.monitors.delays import DELAY_OF, Backlog, ClassDelays
from driftline.online_models.drift.monitors.panel import Panel
from driftline.online_models.drift.monitors.rare_labels import RANKING_OF_RARE, RareRanks
from driftline.online_models.drift.monitors.windows import BLOCK
from driftline.online_models.drift.performance import Performance
from driftline.online_models.drift.spans import BlockSpan, Spans
from driftline.online_models.tasks.protocol import Task

DETECTOR = "windows"


_Labelled = tuple[Any, Any, float, Sequence[float | None], float, int, float, int, Sequence[Any]]

_STATE = (
    "_answers", "_apart", "_backlog", "_delays", "_heard", "_incidents", "_judges_labels", "_known",
    "_label_spans", "_labelled", "_labels", "_learned", "_learns_from", "_mature_from", "_performance",
    "_ranks", "_rare", "_request_spans", "_requests", "_rows", "_seen", "_started", "_times", "_trues",
)  # fmt: skip
MATURE = 512
"""Labels after which a model's answers are watched: before, its scores and losses change as it learns."""
RARE = 0.1
"""A class of fewer than this share of the first `MATURE` labels of a binary task has its losses watched
apart."""
FROZEN = "frozen"
"""The baseline whose losses are watched too."""


class DriftManager:
    """Watches the requests and the labels of one pool, in blocks of `BLOCK`.

    What needs no label (features, scores) is tested as requests come, so it warns first; losses, the
    label's own distribution and calibration as labels come, each with the position of the request and of
    the label. Every monitor has an equal share of the budget of false alarms.
    """

    def __init__(
        self, monitoring: Monitoring, task: Task, members: Sequence[str], baselines: Sequence[str] = ()
    ) -> None:
        self._monitoring = monitoring
        self._task = task
        self._names = (*members, *baselines)
        losses = tuple(f"loss of {name}" for name in members) if len(members) > 1 else ()
        self._losses = losses
        most = monitoring.categories
        self._frozen = self._names.index(FROZEN) if FROZEN in baselines else None
        self._requests = Panel(True, most, frozenset(), season=monitoring.season)
        self._labels = Panel(
            False,
            most,
            frozenset(("loss", *losses, LOSS_OF_FROZEN, LOSS_OF_RARE)),
            frozenset((LOSS_OF_FROZEN,)),
            monitoring.season,
        )
        self._by_deadline = task.label.learns_at == "deadline"
        self._classes = task.kind != "regression"
        self._delays = ClassDelays(most)
        self._backlog = Backlog()
        self._heard: list[tuple[Any, float]] = []  # labels that are learned later, and how long they took
        self._ranks = RareRanks()
        self._apart: list[Alarm] = []  # of delays and ranks, since the newest block of labels
        self._incidents = Incidents()
        self._performance = Performance()
        self._rows: list[dict[str, Any]] = []
        self._times: list[float] = []
        self._answers: list[Any] = []
        self._labelled: list[_Labelled] = []
        self._known: dict[str, str] = {}  # features watched, and their streams
        self._started = (0.0, 0)
        self._request_spans = Spans()
        self._label_spans = Spans()
        self._seen = 0
        self._judges_labels = False
        self._learns_from: int | None = None  # offset of the first label
        self._learned = 0
        self._trues = 0  # among the first labels of a binary task
        self._rare: bool | None = None
        self._mature_from: int | None = None if task.is_supervised else -1  # offset of the last label before
        self._thresholds = (0, 0.0, 0.0)

    @property
    def state(self) -> DriftState:
        """stable, warning, drift or recovered."""
        return self._incidents.state

    @property
    def open_incident(self) -> IncidentKind | None:
        """Kind of the confirmed incident that is not over; None without one."""
        current = self._incidents.current
        return current.kind if current is not None and current.confirmed else None

    @property
    def suspected(self) -> list[str]:
        """The suspects of the open incident, each by its kind: feature, score, label, loss ..."""
        current = self._incidents.current
        return [] if current is None else [stream.partition(" ")[0] for stream in current.suspects]

    @property
    def restarts(self) -> int:
        """How many confirmed incidents made comparisons of losses invalid: these start again with each."""
        return self._incidents.restarts

    def observe(self, x: dict[str, Any], output: Any, at: float, offset: int) -> Sequence[Drift]:
        """Watch a request and its answer; returns the drift that they show. `x` is kept for a while, not
        copied."""
        rows = self._rows
        if not rows:
            self._started = (at, offset)
        rows.append(x)
        self._times.append(at)
        self._answers.append(output)
        if len(rows) < BLOCK:
            return ()
        return self._close_requests(at, offset)

    def learn(
        self,
        y: Any,
        output: Any,
        loss: float,
        losses: Sequence[float | None],
        predicted_at: float,
        predicted_offset: int,
        at: float,
        offset: int,
        outputs: Sequence[Any],
    ) -> Sequence[Drift]:
        """Watch a label of an answer given at `predicted_at` (offset `predicted_offset`); returns the drift
        that it shows. `losses` are those of the members, `outputs` of members and baselines; None for one
        without an answer.
        """
        if self._learned < MATURE:
            self._ripen(y, offset)
        labelled = self._labelled
        mature = self._mature_from
        if mature is None or 0 <= predicted_offset <= mature:
            # where labels are late, most of these are of answers from before anything was learned, which say
            # nothing of what losses are like, not even of their scale
            if self._judges_labels or 0 <= predicted_offset < (self._learns_from or 0):
                return ()
        elif not self._judges_labels:
            self._judges_labels = True
            labelled.clear()
        labelled.append((y, output, loss, losses, predicted_at, predicted_offset, at, offset, outputs))
        if len(labelled) < BLOCK:
            return ()
        return self._close_labels()

    def _ripen(self, y: Any, offset: int) -> None:
        """Take one of the first labels, with which the model learns what it answers."""
        if self._learns_from is None:
            self._learns_from = offset
        self._learned += 1
        if self._task.kind == "binary":
            self._trues += y
        if self._learned == MATURE:
            self._rare = _rare(self._trues / MATURE) if self._task.kind == "binary" else None
            self._mature_from = offset if self._mature_from is None else self._mature_from

    def label_arrived(self, y: Any, delay: float, at: float) -> None:
        """A label came at `at`, `delay` seconds after its request, that is learned later: at its deadline."""
        self._heard.append((y, delay))
        if len(self._heard) == BLOCK:
            labels, delays = zip(*self._heard, strict=True)
            self._heard = []
            self._hear(labels, delays, at)

    def _hear(self, labels: Sequence[Any], delays: Sequence[float], at: float) -> None:
        """Labels and their delays; alarms from these come with the next block of labels."""
        if self._classes:
            _, least, _ = self._needed()
            self._apart += self._delays.update(labels, delays, at, least)

    def _is_mature(self, asked: int) -> bool:
        """Whether the model had learned enough when that was asked, or was not observed."""
        return self._mature_from is not None and not 0 <= asked <= self._mature_from

    def estimate(self) -> Estimate:
        """The expected performance of the newest answers; withheld while an incident makes earlier labels
        invalid."""
        incident = self._incidents.current
        spoiled = incident is not None and incident.spoils_losses
        invalid = (
            f"{incident.kind} since request {incident.began}" if incident is not None and spoiled else ""
        )
        return self._performance.estimate(
            self._monitoring.estimate_labels, invalid, self._task.kind != "regression"
        )

    def _close_requests(self, at: float, offset: int) -> list[Drift]:
        rows, answers, times = self._rows, self._answers, self._times
        self._rows, self._answers, self._times = [], [], []
        self._seen += BLOCK
        first_at, first_offset = self._started
        self._request_spans.add(BlockSpan(first_at, first_offset, at, offset))
        if not self._by_deadline:
            self._backlog.asked(first_offset, (first_at + at) / 2.0)
        known = self._known
        if not rows[-1].keys() <= known.keys():  # a rare feature is met when it comes last in a block
            self._meet(rows)
        columns: dict[str, Sequence[Any]] = {}
        if self._is_mature(first_offset):
            columns["score"] = self._scores(answers)
            if self._task.kind == "multiclass":
                columns["answer"] = [self._task.point(output) for output in answers]
            self._performance.requests(np.array(columns["score"]))
        watched = [name for name, stream in known.items() if stream]
        for name, column in zip(watched, columns_of(rows, watched), strict=True):
            columns[known[name]] = column
        alarms = self._judge(self._requests, columns, at, offset, times)
        settling = self._incidents.settling
        if settling:
            newest = {stream: self._requests.newest(stream) for stream in settling}
            if self._incidents.settle(newest, self._seen):
                alarms.append(self._drift("drift", at, offset, 1, labels=False))
        over = self._incidents.end(self._seen, self._monitoring.cooldown)
        if over is not None:
            self._incidents.current = over
            alarms.append(self._drift("recovered", at, offset, 1, labels=False))
            self._incidents.current = None
        return alarms

    def _scores(self, outputs: Sequence[Any]) -> Sequence[float]:
        """The watched value of each answer: p(True), the number, or the probability of the likeliest
        label."""
        if self._task.kind == "multiclass":
            return [max(output.values(), default=0.0) for output in outputs]
        return outputs

    def _meet(self, rows: Sequence[dict[str, Any]]) -> None:
        for x in rows:
            for name in x:
                if name not in self._known:
                    watched = name not in self._monitoring.unwatched
                    self._known[name] = f"feature {name}" if watched else ""

    def _close_labels(self) -> list[Drift]:
        labelled, self._labelled = self._labelled, []
        truths, outputs, losses, by_member, asked_at, asked, known_at, known, answers = zip(
            *labelled, strict=True
        )
        scores = self._scores(outputs)
        point = self._task.point
        right = [1.0 if point(output) == y else 0.0 for y, output in zip(truths, outputs, strict=True)]
        columns: dict[str, Sequence[Any]] = {"loss": losses}
        for stream, of_member in zip(self._losses, zip(*by_member, strict=True), strict=False):
            columns[stream] = of_member
        if self._frozen is not None:
            columns[LOSS_OF_FROZEN] = self._frozen_losses(truths, answers)
        rare = self._rare
        if rare is not None and not self._by_deadline:
            columns[LOSS_OF_RARE] = [
                loss if y == rare else None for y, loss in zip(truths, losses, strict=True)
            ]
        named = self._task.kind == "multiclass"
        columns["label"] = truths if named else [float(y) for y in truths]
        expected = right if named else columns["label"]
        columns["calibration"] = [y - score for y, score in zip(expected, scores, strict=True)]
        if not self._judges_labels:
            self._labels.prime(columns)
            return []
        first, last = asked.index(min(asked)), asked.index(max(asked))
        self._label_spans.add(
            BlockSpan(asked_at[first], asked[first], asked_at[last], asked[last]),
            BlockSpan(known_at[0], known[0], known_at[-1], known[-1]),
        )
        self._tally(truths, losses, answers)
        if self._by_deadline and rare is not None:
            _, least, _ = self._needed()
            self._apart += self._ranks.update(truths, scores, rare, least)
        if not self._by_deadline:
            delays = [known - asked for known, asked in zip(known_at, asked_at, strict=True)]
            self._backlog.answered(asked, delays)
            self._hear(truths, delays, known_at[-1])
        restarts = self._incidents.restarts
        alarms = self._judge(self._labels, columns, known_at[-1], known[-1], asked_at)
        if self._incidents.restarts > restarts:
            self._performance.forget()
        self._performance.labels(np.array(scores), np.array(losses), np.array(right))
        return alarms

    def _frozen_losses(self, truths: Sequence[Any], answers: Sequence[Sequence[Any]]) -> list[float | None]:
        """The frozen baseline's losses, by label."""
        assert self._frozen is not None
        loss, place = self._task.loss, self._frozen
        return [
            None if outputs[place] is None else loss(y, outputs[place])
            for y, outputs in zip(truths, answers, strict=True)
        ]

    def _tally(
        self, truths: Sequence[Any], served: Sequence[float], answers: Sequence[Sequence[Any]]
    ) -> None:
        """Everyone's losses on a block of labels, while an incident lasts."""
        incident = self._incidents.current
        if incident is not None and incident.confirmed:
            loss = self._task.loss
            incident.losses.add(
                served,
                [
                    [
                        None if output is None else loss(y, output)
                        for y, output in zip(truths, column, strict=True)
                    ]
                    for column in zip(*answers, strict=True)
                ],
            )

    def _judge(
        self,
        panel: Panel,
        columns: Mapping[str, Sequence[Any]],
        at: float,
        offset: int,
        times: Sequence[float],
    ) -> list[Drift]:
        _, warning, needed = self._needed()
        alarms = panel.update(columns, warning, times)
        if panel is self._labels:
            alarms += self._from_apart(alarms, at)
        if not alarms:
            return []
        confirmed = [alarm for alarm in alarms if alarm.evidence >= needed]
        warnings = [alarm for alarm in alarms if alarm.evidence < needed]
        blocks = max(alarm.blocks for alarm in alarms)
        incidents = self._incidents
        severity: DriftSeverity | None = None
        if confirmed:
            for alarm in confirmed:
                self._restart(alarm, panel)
            if incidents.alarmed(confirmed, self._seen):
                severity = "drift"
        elif incidents.warned(warnings, self._seen):
            severity = "warning"
        labels = panel is self._labels
        return [self._drift(severity, at, offset, blocks, labels=labels)] if severity else []

    def _restart(self, alarm: Alarm, panel: Panel) -> None:
        """Compare what comes with what comes from here on."""
        if alarm.stream == RANKING_OF_RARE:
            self._ranks.restart()
        elif alarm.stream.startswith(DELAY_OF):
            self._delays.restart(alarm)
        elif alarm.column >= 0 or alarm.aspect == "calendar":
            panel.restart(alarm)

    def _from_apart(self, alarms: Sequence[Alarm], now: float) -> list[Alarm]:
        """What monitors with blocks of their own found, and labels that are missing where labels seem to have
        changed."""
        apart, self._apart = self._apart, []
        if alarms and not self._by_deadline:
            shortfall = self._backlog.shortfall(now)
            apart += [] if shortfall is None else [shortfall]
        return apart

    def _needed(self) -> tuple[int, float, float]:
        """(monitors, evidence of each for a warning, for a drift): an equal share of the budget."""
        ranks = self._rare is not None and self._by_deadline
        monitors = max(1, self._requests.monitors + self._labels.monitors + self._delays.monitors + ranks)
        if self._thresholds[0] != monitors:
            blocks = self._monitoring.false_alarm_every * monitors / BLOCK
            self._thresholds = (
                monitors,
                evidence_for(blocks / self._monitoring.warnings),
                evidence_for(blocks),
            )
        return self._thresholds

    def _drift(self, severity: DriftSeverity, at: float, offset: int, blocks: int, *, labels: bool) -> Drift:
        incident = self._incidents.current
        assert incident is not None
        suspects = ranked(incident.suspects.values())
        lead = suspects[0]
        predictions, *answers = (self._label_spans if labels else self._request_spans).newest(blocks)
        monitors, _, needed = self._needed()
        return Drift(
            subject=lead.subject,
            detector=DETECTOR,
            severity=severity,
            before=lead.before,
            after=lead.after,
            at=at,
            first_offset=predictions.first_offset,
            offset=offset,
            incident=incident.number,
            kind=incident.kind,
            suspects=suspects,
            predictions=predictions,
            labels=answers[0] if answers else None,
            budget=AlarmBudget(
                self._monitoring.false_alarm_every,
                self._seen,
                self._incidents.confirmed,
                monitors,
                round(needed, 3),
            ),
            toll=incident.losses.toll(self._names) if severity == "recovered" else None,
        )

    def snapshot(self) -> dict[str, Any]:
        """All that later calls depend on; nothing is copied."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `snapshot` returned."""
        for name in _STATE:
            setattr(self, name, state[name])


def _rare(share: float) -> bool | None:
    """The class of a binary task that is rare, given the share of true labels."""
    if min(share, 1.0 - share) >= RARE:
        return None
    return share < 0.5
