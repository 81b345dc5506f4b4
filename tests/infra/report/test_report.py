"""The report: what its curves mean, and that the page stands alone."""

from __future__ import annotations

import json
import math
import re
import resource
import time
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import shop

from driftline.infra.report.axes import nice_ticks, time_ticks
from driftline.infra.report.charts import calibration_chart, time_chart
from driftline.infra.report.members import member_styles
from driftline.infra.report.plot import Line
from driftline.infra.report.run import run_page, write_report
from driftline.infra.report.run_records import RunRecords, feature_of
from driftline.infra.report.samples import INTERVALS, Sample, memory, over_time, rolling
from driftline.online_models.drift.surveillance import DETECTOR
from driftline.streams.simulation.simulate import Progress, simulate

START = datetime(2013, 1, 1, tzinfo=UTC)
DAY = 86_400.0


def at(days: float) -> float:
    return START.timestamp() + days * DAY


def sample(days: float, n: int, log_loss: float | None, **more: Any) -> Sample:
    models = {
        name: {
            "role": role,
            "n": n,
            "log_loss": log_loss,
            "roc_auc": None if n == 0 else 0.8,
            "accuracy": 0.8,
        }
        for name, role in (("logistic", "champion"), ("frozen", "frozen"), ("prior", "prior"))
    }
    return Sample(at(days), days, n * 3, more.pop("rss", 100_000_000), models)


def asked(number: int, p: float, **features: Any) -> bytes:
    when = START + timedelta(hours=number)
    return json.dumps(
        {
            "id": f"e{number}:late",
            "event_id": f"e{number}",
            "at": when.isoformat(),
            "keys": {"origin": "EWR"},
            "prediction": p >= 0.5,
            "probabilities": {"false": 1 - p, "true": p},
            "features": features,
        }
    ).encode()


def became(number: int, label: Any, status: str = "labelled", **more: Any) -> bytes:
    return json.dumps(
        {"prediction_id": f"e{number}:late", "status": status, "prediction": True, "label": label} | more
    ).encode()


def drifted(days: float, subject: str, before: float, after: float, count: int = 50) -> bytes:
    return json.dumps(
        {
            "id": f"flights:0:{int(days)}:0",
            "at": (START + timedelta(days=days)).isoformat(),
            "key": "EWR",
            "subject": subject,
            "detector": DETECTOR,
            "severity": "drift",
            "before": {"mean": before, "count": 1000},
            "after": {"mean": after, "count": count},
            "first_offset": 1,
            "offset": 2,
        }
    ).encode()


RESULT: dict[str, Any] = {
    "case": "flights",
    "events": 3000,
    "predictions": 1000,
    "labelled": 990,
    "unlabelled": 4,
    "void": 6,
    "pending": 0,
    "dead_letters": 0,
    "duplicates": 0,
    "late": 0,
    "drift_events": 2,
    "seconds": 1.5,
    "events_per_second": 2000.0,
    "cpu_us_per_event": 50.0,
    "models": sample(10, 990, 0.44).models,
    "digest": "0f" * 32,
    "digests": {"predictions": "0f" * 32, "drift": "1e" * 32, "models": "2d" * 32},
    "served": sample(10, 990, 0.42).models["logistic"],
}


class _Outline(HTMLParser):
    """Headings and every attribute that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "data")]


@pytest.fixture(scope="module")
def html() -> str:
    """The page of a run in which a feature drifts."""
    evidence, samples = RunRecords(), []
    started = time.perf_counter()

    def look(simulation: Progress) -> None:
        summary = simulation.summary()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        wall = time.perf_counter() - started
        samples.append(Sample(evidence.last_at, wall, summary.counts["events"], rss, summary.models))

    result = simulate(shop.orders, "shop:dearer", chunk=250, on_outputs=evidence.add, on_progress=look)
    result["served"] = evidence.served(shop.orders.task)
    return run_page("orders", result, samples, evidence, description="Orders of <two> shops")


def test_a_rolling_loss_is_the_mean_over_the_labels_of_each_interval() -> None:
    samples = [sample(0, 0, None), sample(1, 1000, 0.6), sample(2, 3000, 0.5)]
    first, second = rolling(samples, "logistic", "log_loss")
    assert first == pytest.approx((at(0.5), 0.6))
    assert second == pytest.approx((at(1.5), (3000 * 0.5 - 1000 * 0.6) / 2000))


def test_intervals_without_enough_labels_are_joined() -> None:
    samples = [sample(i / 10, i * 37, 0.5) for i in range(1, 4000)]
    points = rolling(samples, "logistic", "log_loss")
    assert INTERVALS / 2 <= len(points) <= INTERVALS * 1.3
    assert all(value == pytest.approx(0.5) for _, value in points)


def test_an_unknown_member_has_no_curve() -> None:
    assert rolling([sample(1, 1000, 0.5)], "absent", "log_loss") == []
    assert over_time([sample(1, 1000, 0.5)], "absent", "roc_auc") == []


def test_the_fading_window_is_shown_where_there_is_one() -> None:
    state = {"role": "champion", "n": 1000, "roc_auc": 0.7, "fading": {"roc_auc": 0.9}}
    assert over_time([Sample(at(1), 1.0, 1, None, {"m": state})], "m", "roc_auc") == [(at(1), 0.9)]


def test_a_sample_is_dated_by_where_its_partitions_are_on_average() -> None:
    evidence = RunRecords()
    for hour in range(10):
        for partition in (0, 1):
            evidence.prediction(b"EWR", asked(hour, 0.5), partition, hour * 100)
    ahead = Sample(at(1), 1.0, 1, None, {}, {0: 1000, 1: 101})
    assert evidence.dated(ahead).at == START.timestamp() + (9 + 1) / 2 * 3600
    assert RunRecords().dated(ahead) == ahead


def test_calibration_compares_what_was_said_with_what_came() -> None:
    evidence = RunRecords()
    for number in range(100):
        evidence.prediction(b"EWR", asked(number, 0.22))
        evidence.outcome(became(number, number < 25))
    (bin_,) = evidence.calibration()
    assert (bin_.predicted, bin_.observed, bin_.count) == pytest.approx((0.22, 0.25, 100))


def test_a_correction_replaces_its_outcome_and_a_void_has_none() -> None:
    evidence = RunRecords()
    for number in range(2):
        evidence.prediction(b"EWR", asked(number, 0.9))
    evidence.outcome(became(0, False))
    evidence.outcome(became(0, True, revision=1, corrects=0))
    evidence.outcome(became(1, None, status="void"))
    (bin_,) = evidence.calibration()
    assert (bin_.observed, bin_.count) == (1.0, 1)


def test_a_regression_is_calibrated_over_its_own_range() -> None:
    evidence = RunRecords()
    for number in range(100):
        record = json.loads(asked(number, 0.5)) | {"prediction": number * 2.0, "probabilities": None}
        evidence.prediction(None, json.dumps(record).encode())
        evidence.outcome(became(number, number * 2.0 + 1))
    bins = evidence.calibration()
    assert sum(b.count for b in bins) == 100
    assert all(b.observed == pytest.approx(b.predicted + 1) for b in bins)


def test_the_biggest_drift_is_measured_in_standard_deviations() -> None:
    evidence = RunRecords()
    for number in range(200):
        evidence.prediction(b"EWR", asked(number, 0.5, wind=float(number % 2), miles=number * 100.0))
    evidence.drift(drifted(1, "feature miles: mean", 0.0, 1000.0))
    evidence.drift(drifted(2, "feature wind: mean", 0.2, 0.9))
    evidence.drift(drifted(3, "loss", 0.1, 9.0))
    shift = evidence.biggest_shift()
    assert shift is not None
    assert shift.feature == "wind"
    assert shift.size == pytest.approx(0.7 / 0.5)


def test_a_lasting_drift_goes_before_a_bigger_gust() -> None:
    evidence = RunRecords()
    for number in range(200):
        evidence.prediction(b"EWR", asked(number, 0.5, wind=float(number % 2)))
    evidence.drift(drifted(1, "feature wind: mean", 0.0, 9.0, count=32))
    evidence.drift(drifted(2, "feature wind: mean", 0.2, 0.9, count=500))
    shift = evidence.biggest_shift()
    assert shift is not None
    assert shift.event.after.count == 500


def test_only_one_prediction_in_so_many_keeps_its_features() -> None:
    evidence = RunRecords(every=10)
    for number in range(100):
        evidence.prediction(b"EWR", asked(number, 0.5, wind=1.0))
    assert len(evidence.features) == 10
    assert [mean for _, mean in evidence.feature_over_time("wind", "EWR")] == [1.0] * 10


def test_the_page_stands_alone_and_is_well_formed(html: str) -> None:
    outline = _Outline(html)
    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert outline.loads == []
    assert "url(" not in html
    assert "@import" not in html
    charts = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(charts) == 6
    for chart in charts:
        ElementTree.fromstring(chart)
    assert not re.search(r"\bnan\b|\binf\b", html)


def test_the_page_names_members_drift_calibration_memory_and_digests(html: str) -> None:
    for text in (
        "Rolling log loss", "Rolling ROC AUC", "logistic (champion)", "frozen", "prior", "Digests",
        "Calibration of what served", "Biggest drift of a feature: amount", f"by {DETECTOR}",
        "covariate drift", "feature amount: mean", "Memory of the worker", "Throughput",
        "logistic, never replaced",
    ):  # fmt: skip
        assert text in html
    assert "prefers-color-scheme: dark" in html


def test_text_of_users_is_escaped() -> None:
    evidence = RunRecords()
    evidence.prediction(b"<u>key</u>", asked(1, 0.5, wind=1.0))
    evidence.drift(drifted(1, "feature <u>wind</u>: mean", 0.0, 1.0))
    models = {f"<u>{name}</u>": state for name, state in RESULT["models"].items()}
    samples = [
        Sample(at(day), day, 1, None, {f"<u>{name}</u>": state for name, state in one.models.items()})
        for day in range(9)
        for one in [sample(day, 200 * day, 0.5 if day else None)]
    ]
    html = run_page("<u>flights</u>", RESULT | {"models": models}, samples, evidence, description="<u>&</u>")
    assert "<u>" not in html
    assert '<p class="lead">&lt;u&gt;&amp;&lt;/u&gt;</p>' in html
    assert "<title>&lt;u&gt;logistic&lt;/u&gt; (champion)</title>" in html


def test_a_run_without_samples_labels_or_drift_still_has_a_page() -> None:
    html = run_page("empty", RESULT | {"drift_events": 0}, [], RunRecords())
    assert "None was confirmed" in html
    assert "no predictions" in html


def test_memory_is_flat_when_it_ends_within_a_tenth_of_where_it_was_warm() -> None:
    flat = [sample(day, 1, 0.5, rss=int(100e6 + min(day, 3) * 10e6)) for day in range(30)]
    growing = [sample(day, 1, 0.5, rss=int(100e6 + day * 10e6)) for day in range(30)]
    for samples, expected in ((flat, True), (growing, False)):
        seen = memory(samples)
        assert seen is not None
        assert seen.is_flat is expected
    assert memory(flat[:3]) is None


def test_a_page_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "flights.html"
    for _ in range(2):
        write_report(path, "flights", RESULT, [], RunRecords())
    assert [entry.name for entry in path.parent.iterdir()] == ["flights.html"]


@pytest.mark.parametrize(
    ("subject", "feature"),
    [
        ("feature wind: mean", "wind"),
        ("feature odd: name: mean", "odd: name"),
        ("feature wind: spread", None),
        ("loss", None),
    ],
)
def test_a_drift_subject_names_its_feature(subject: str, feature: str | None) -> None:
    assert feature_of(subject) == feature


def test_members_are_coloured_by_role() -> None:
    models = {name: {"role": role} for name, role in (("p", "prior"), ("b", "challenger"), ("a", "champion"))}
    assert member_styles(models) == {"a": "champion", "b": "challenger1", "p": "prior"}


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.411, 0.437), (-3.0, 1e6), (5.0, 5.0), (0.0, 0.0)])
def test_ticks_are_round_and_cover_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 3 <= len(ticks) <= 9
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(math.isclose(step, steps[0]) for step in steps)


@pytest.mark.parametrize("days", [0.001, 0.05, 0.5, 3, 20, 80, 365, 2000])
def test_time_ticks_lie_within_the_span_and_are_few(days: float) -> None:
    ticks = time_ticks(at(0.3), at(0.3 + days))
    assert len(ticks) <= 13
    assert all(at(0.3) <= moment <= at(0.3 + days) for moment, _ in ticks)


def test_what_is_above_the_ceiling_is_drawn_at_the_edge() -> None:
    lines = [
        Line("good", "champion", [(0.0, 0.2), (1.0, 0.4)]),
        Line("bad", "prior", [(0.0, 9.0), (1.0, 8.0)]),
    ]
    bounded, unbounded = (
        str(time_chart(lines, (0.0, 1.0), label="loss", ceiling=ceiling)) for ceiling in (0.6, None)
    )
    assert "M58.0 14.0L1024.0 14.0" in bounded
    assert ">0.6<" in bounded
    assert ">0.6<" not in unbounded


def test_a_chart_without_points_is_empty() -> None:
    assert time_chart([], (0.0, 1.0), label="nothing") == ""
    assert calibration_chart([], label="nothing") == ""
