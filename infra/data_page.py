"""Statistics of a case's features as one HTML page that loads nothing: reference and current side by side."""

from __future__ import annotations

from datetime import datetime
from html import escape

from infra.charts import Pair, paired_bars
from infra.data import DataReport, figure
from infra.page import framed
from streams.messages import DataAnomaly, FeatureSummary

SHOWN = 100
TEXTS = 16
"""Texts with bars of their own."""


def render(found: DataReport) -> str:
    """The page of what `driftline data statistics --json` prints."""
    title = f"Data: {found.case}"
    cards = "".join(_card(name, found) for name in found.current.features)
    since = found.reference_span.end if found.start is None else found.start
    until = "now" if found.end is None else _time(found.end)
    spans = f"{_time(found.reference_span.start)} to {_time(found.reference_span.end)}"
    introduction = (
        "<p class=lead>Feature values as they were served.</p>"
        f"<div class=legend><span><i class='key swatch reference'></i>reference: {spans}</span>"
        f"<span><i class='key swatch current'></i>current: {_time(since)} to {until}</span></div>"
    )
    return framed(title, introduction, (_tiles(found), _anomalies(found), f"<div class=pair>{cards}</div>"))


def _time(at: datetime) -> str:
    return f"{at:%-d %b %Y %H:%M}"


def _tiles(found: DataReport) -> str:
    features = len({anomaly.feature for anomaly in found.anomalies})
    tiles = (
        ("anomalies", len(found.anomalies), f"of {features:,} features"),
        ("windows", found.windows, f"closed, {found.open:,} open"),
        ("reference", found.reference.requests, "requests"),
        ("current", found.current.requests, "requests"),
    )
    parts = [f"<div class=tile><span>{what}</span><b>{n:,}</b><i>{note}</i></div>" for what, n, note in tiles]
    return f"<section class=tiles>{''.join(parts)}</section>"


def _anomalies(found: DataReport) -> str:
    if not found.anomalies:
        none = "None: every closed window fits the schema."
        return f"<section><h2>Anomalies</h2><p class=quiet>{none}</p></section>"
    rows = "".join(_anomaly(anomaly) for anomaly in found.anomalies[:SHOWN])
    more = len(found.anomalies) - SHOWN
    note = f"<p class=quiet>and {more:,} more</p>" if more > 0 else ""
    head = "".join(
        f"<th>{name}</th>"
        for name in ("window", "partition", "feature", "kind", "severity", "requests", "expected", "found")
    )
    return (
        f"<section><h2>Anomalies</h2><div class=scroll><table class=told><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}</section>"
    )


def _anomaly(anomaly: DataAnomaly) -> str:
    cells = (
        f"{anomaly.at:%Y-%m-%d %H:%M}", str(anomaly.partition), anomaly.feature, anomaly.kind,
        anomaly.severity, f"{anomaly.count:,} of {anomaly.requests:,}", anomaly.expected, anomaly.found,
    )  # fmt: skip
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _card(name: str, found: DataReport) -> str:
    current, reference = found.current.features[name], found.reference.features.get(name)
    pairs = _pairs(reference, current)
    chart = paired_bars(pairs, label=f"{name}: share of requests, reference and current")
    distance = found.distances.get(name)
    told = ""
    if distance is not None:
        ks = "" if distance.ks is None else f" &middot; KS {distance.ks:.3f}"
        told = f"<p class=quiet>PSI {distance.psi:.3f} &middot; JS {distance.js:.3f}{ks}</p>"
    sides = "".join(_side(what, one) for what, one in (("reference", reference), ("current", current)) if one)
    head = "".join(f"<th>{text}</th>" for text in ("", "missing", *_columns(current)))
    return (
        f"<section><h2>{escape(name)}</h2>{told}{chart}"
        f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{sides}</tbody></table></div>"
        "</section>"
    )


def _columns(one: FeatureSummary) -> tuple[str, ...]:
    return ("distinct",) if one.distinct is not None else ("mean", "std", "min", "median", "max")


def _side(what: str, one: FeatureSummary) -> str:
    missing = "" if one.missing_share is None else f"{one.missing_share:.1%}"
    if one.distinct is not None:
        cells = [f"{one.distinct:,}"]
    else:
        cells = [figure(value) for value in (one.mean, one.std, one.minimum, one.median, one.maximum)]
    return f"<tr><td>{what}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in (missing, *cells))}</tr>"


def _pairs(reference: FeatureSummary | None, current: FeatureSummary) -> list[Pair]:
    """Shares of each bin or text on both sides, the missing last."""
    sides = [_shares(one) for one in (reference, current)]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    names.remove("missing")
    pairs = [Pair(name, sides[0].get(name, 0.0), sides[1].get(name, 0.0)) for name in names]
    if current.histogram is None and len(pairs) > TEXTS:
        rest = pairs[TEXTS:]
        others = Pair("others", sum(p.reference for p in rest), sum(p.current for p in rest))
        pairs = [*pairs[:TEXTS], others]
    return [*pairs, Pair("missing", sides[0].get("missing", 0.0), sides[1].get("missing", 0.0))]


def _shares(one: FeatureSummary | None) -> dict[str, float]:
    if one is None or not one.count + one.missing:
        return {"missing": 0.0}
    requests = one.count + one.missing
    counts: dict[str, int] = {}
    if one.histogram is not None:
        low, step, found = one.histogram.low, one.histogram.step, one.histogram.counts
        last = len(found) - 2
        counts[f"< {low:.6g}"] = found[0]
        counts |= {f"{low + place * step:.6g}": n for place, n in enumerate(found[1:-1])}
        counts[f"≥ {low + last * step:.6g}"] = found[-1]
        # empty tails would only take room
        counts = {name: n for name, n in counts.items() if n or name[0] not in "<≥"}
    else:
        counts = dict(one.top)
        rest = one.count - sum(counts.values())
        counts |= {"others": rest} if rest else {}
    return {name: n / requests for name, n in (counts | {"missing": one.missing}).items()}
