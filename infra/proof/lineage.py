"""The lineage of a prediction, for reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from driftline.streams.proof.lineage import At, Epoch, FeatureLineage, Lineage, Revision


def as_text(lineage: Lineage) -> str:
    """Lines for people."""
    return "\n".join(_lines(lineage))


def _lines(lineage: Lineage) -> Iterator[str]:
    prediction, model = lineage.prediction, lineage.model
    yield f"prediction  {lineage.id}"
    place = f"{lineage.topic}-{lineage.partition}, offset {lineage.offset}"
    yield f"            {place}, appended {lineage.appended:%F %T.%f}"
    said = "" if prediction.probabilities is None else f"  {prediction.probabilities}"
    yield f"            {prediction.prediction}{said}  {prediction.keys}"
    yield f"request     log {_event(lineage.request)}"
    yield f"model       {model.version}"
    through = model.learned_through
    yield f"            learned through {'nothing yet' if through is None else _event(through)}"
    yield f"code        {_code(lineage.epoch)}"
    for stop in lineage.stops:
        if len(lineage.stops) > 1:
            yield f"stage       {stop.topic}-{stop.partition}, offset {stop.offset}"
        for name in stop.features:
            yield from _feature(name, lineage.features[name])
    yield from _outcome(lineage.status, lineage.outcomes)


def _outcome(status: str, outcomes: Sequence[Revision]) -> Iterator[str]:
    yield f"outcome     {status}"
    for revision in outcomes:
        outcome = revision.outcome
        yield (
            f"            revision {outcome.revision}: {outcome.status}, label {outcome.label}, "
            f"loss {outcome.loss}, at {outcome.at:%F %T}; offset {revision.offset} (source {revision.source})"
        )


def _event(at: At) -> str:
    return f"offset {at.offset}, {at.id or 'the time'}, at {at.at:%F %T}"


def _code(epoch: Epoch) -> str:
    if epoch.code is None:
        return str(epoch.difference)
    code = epoch.code
    known = (
        f"{code.spec_hash[:12]} in fold {code.fold or '(not recorded)'} under {code.fingerprint.short}, "
        f"from log offset {epoch.from_offset}"
    )
    return known if epoch.difference is None else f"{known}; here: {epoch.difference}"


def _feature(name: str, value: FeatureLineage) -> Iterator[str]:
    verdict = "" if value.agrees else f"  RECOMPUTED {value.recomputed!r}"
    yield f"feature     {name} = {value.used!r}{verdict}  {value.declared}"
    if value.first is None or value.last is None:
        return
    offsets = ", ".join(str(event.offset) for event in value.newest)
    newest = f"; newest at offsets {offsets}" if offsets else ""
    yield f"            {value.count:,} events, {_event(value.first)} to {_event(value.last)}{newest}"
