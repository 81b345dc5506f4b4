"""Statistics of a case's features as one HTML page: reference and current side by side."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from driftline.infra.quality.statistics import DataReport, four_digits
from driftline.infra.report.charts import Pair, paired_bars
from driftline.infra.report.page import Tile, render
from driftline.streams.records.messages import FeatureDistance, FeatureSummary

TEXTS_CHARTED = 16
"""Texts with bars of their own."""


class Card(NamedTuple):
    """A feature: its chart, how far it is from the reference, and its figures on both sides."""

    name: str
    chart: Markup
    distance: FeatureDistance | None
    columns: tuple[str, ...]
    sides: list[tuple[str, ...]]


def statistics_page(report: DataReport) -> str:
    """The page of what `driftline data statistics --json` prints."""
    return render(
        "data.html",
        title=f"Data: {report.case}",
        reference=report.reference_span,
        since=report.reference_span.end if report.start is None else report.start,
        until=report.end,
        tiles=_tiles(report),
        anomalies=report.anomalies,
        cards=[_card(name, report) for name in report.current.features],
    )


def _tiles(report: DataReport) -> list[Tile]:
    features = len({anomaly.feature for anomaly in report.anomalies})
    return [
        Tile(
            f"{len(report.anomalies):,}",
            "anomalies",
            f"in {features:,} feature{'' if features == 1 else 's'}",
        ),
        Tile(f"{report.windows:,}", "windows", f"closed, {report.open:,} open"),
        Tile(f"{report.reference.requests:,}", "reference", "requests"),
        Tile(f"{report.current.requests:,}", "current", "requests"),
    ]


def _card(name: str, report: DataReport) -> Card:
    current, reference = report.current.features[name], report.reference.features.get(name)
    chart = paired_bars(_pairs(reference, current), label=f"{name}: share of requests, reference and current")
    columns = ("distinct",) if current.distinct is not None else ("mean", "std", "min", "median", "max")
    sides = [_side(what, one) for what, one in (("reference", reference), ("current", current)) if one]
    return Card(name, chart, report.distances.get(name), ("", "missing", *columns), sides)


def _side(what: str, one: FeatureSummary) -> tuple[str, ...]:
    missing = "" if one.missing_share is None else f"{one.missing_share:.1%}"
    if one.distinct is not None:
        return what, missing, f"{one.distinct:,}"
    figures = (one.mean, one.std, one.minimum, one.median, one.maximum)
    return what, missing, *(four_digits(value) for value in figures)


def _pairs(reference: FeatureSummary | None, current: FeatureSummary) -> list[Pair]:
    """Shares of each bin or text on both sides, the missing last."""
    sides = [_shares(one) for one in (reference, current)]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    names.remove("missing")
    pairs = [Pair(name, sides[0].get(name, 0.0), sides[1].get(name, 0.0)) for name in names]
    if current.histogram is None and len(pairs) > TEXTS_CHARTED:
        rest = pairs[TEXTS_CHARTED:]
        others = Pair("others", sum(p.reference for p in rest), sum(p.current for p in rest))
        pairs = [*pairs[:TEXTS_CHARTED], others]
    return [*pairs, Pair("missing", sides[0].get("missing", 0.0), sides[1].get("missing", 0.0))]


def _shares(one: FeatureSummary | None) -> dict[str, float]:
    if one is None or not one.count + one.missing:
        return {"missing": 0.0}
    requests = one.count + one.missing
    counts: dict[str, int] = {}
    if one.histogram is not None:
        low, step, bins = one.histogram.low, one.histogram.step, one.histogram.counts
        last = len(bins) - 2
        counts[f"< {low:.6g}"] = bins[0]
        counts |= {f"{low + place * step:.6g}": n for place, n in enumerate(bins[1:-1])}
        counts[f"≥ {low + last * step:.6g}"] = bins[-1]
        # empty tails would only take room
        counts = {name: n for name, n in counts.items() if n or name[0] not in "<≥"}
    else:
        counts = dict(one.top)
        rest = one.count - sum(counts.values())
        counts |= {"others": rest} if rest else {}
    return {name: n / requests for name, n in (counts | {"missing": one.missing}).items()}
