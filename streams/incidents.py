"""Incidents and estimates as the topics tell them."""

from __future__ import annotations

from online_models import drift as found
from streams.bounds import shortened
from streams.events import moment
from streams.messages import AlarmBudget, DriftEvent, Estimate, Position, Side, Span, Suspect, Toll


def drift_event(case: str, partition: int, key: str, drift: found.Drift, ordinal: int) -> DriftEvent:
    """The record of a turn of an incident of the pool `key`, the `ordinal`th one at its source position."""
    budget, toll = drift.budget, drift.toll
    return DriftEvent(
        id=f"{case}:{partition}:{drift.offset}:{ordinal}",
        at=moment(drift.at),
        key=key,
        subject=shortened(drift.subject),
        detector=drift.detector,
        severity=drift.severity,
        before=_side(drift.before),
        after=_side(drift.after),
        first_offset=drift.first_offset,
        offset=drift.offset,
        incident=f"{case}:{key}:{drift.incident}",
        kind=drift.kind,
        suspects=tuple(_suspect(suspect) for suspect in drift.suspects),
        predictions=_span(drift.predictions),
        labels=None if drift.labels is None else _span(drift.labels),
        budget=AlarmBudget(
            budget.false_alarm_every, budget.requests, budget.incidents, budget.monitors, budget.evidence
        ),
        toll=None if toll is None else Toll(toll.labels, toll.served, toll.members),
    )


def estimate_of(estimate: found.Estimate) -> Estimate:
    """The estimate that an outcome carries."""
    return Estimate(
        estimate.predictions, estimate.labels, estimate.loss, estimate.accuracy, estimate.withheld
    )


def _side(level: found.Level) -> Side:
    return Side(level.mean, level.count)


def _suspect(suspect: found.SuspectStream) -> Suspect:
    return Suspect(
        shortened(suspect.subject),
        suspect.change,
        round(suspect.evidence, 3),
        _side(suspect.before),
        _side(suspect.after),
    )


def _span(span: found.BlockSpan) -> Span:
    return Span(
        Position(moment(span.first_at), span.first_offset), Position(moment(span.last_at), span.last_offset)
    )
