"""Incidents as the topics report them."""

from __future__ import annotations

from driftline.online_models.drift import BlockSpan, Drift, SuspectStream
from driftline.streams.declare.events import moment
from driftline.streams.records.messages import DriftEvent, Position, Span, Suspect
from driftline.streams.records.output_size import shortened


def drift_event(case: str, partition: int, key: str, drift: Drift, ordinal: int) -> DriftEvent:
    """The record of a turn of an incident of the pool `key`, the `ordinal`th one at its source position."""
    return DriftEvent(
        id=f"{case}:{partition}:{drift.offset}:{ordinal}",
        at=moment(drift.at),
        key=key,
        subject=shortened(drift.subject),
        detector=drift.detector,
        severity=drift.severity,
        before=drift.before,
        after=drift.after,
        first_offset=drift.first_offset,
        offset=drift.offset,
        incident=f"{case}:{key}:{drift.incident}",
        kind=drift.kind,
        suspects=tuple(_suspect(suspect) for suspect in drift.suspects),
        predictions=_span(drift.predictions),
        labels=None if drift.labels is None else _span(drift.labels),
        budget=drift.budget,
        toll=drift.toll,
    )


def _suspect(suspect: SuspectStream) -> Suspect:
    return Suspect(
        shortened(suspect.subject),
        suspect.change,
        round(suspect.evidence, 3),
        suspect.before,
        suspect.after,
    )


def _span(span: BlockSpan) -> Span:
    return Span(
        Position(moment(span.first_at), span.first_offset), Position(moment(span.last_at), span.last_offset)
    )
