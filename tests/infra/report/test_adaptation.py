"""What the report says of adaptation: what changed, when, what the system did, what it gained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tasks import LABEL, TASK, Ask

from driftline import Multiclass
from driftline.infra.report.adaptation import courses, incidents, moves
from driftline.infra.report.members import gains
from driftline.infra.report.run_records import RunRecords
from driftline.online_models.drift.drift_report import Side, Toll
from driftline.online_models.promote.promotion import Evidence as Comparison
from driftline.streams.records.messages import DriftEvent, ModelEvent, Suspect

START = datetime(2013, 1, 1, tzinfo=UTC)
LEVEL = Side(0.5, 640)


def turn(
    days: float,
    severity: Any,
    subjects: Sequence[str],
    *,
    incident: str = "i1",
    key: str = "EWR",
    kind: Any = "covariate drift",
    change: str = "mean",
    toll: Toll | None = None,
) -> DriftEvent:
    suspects = tuple(Suspect(name, change, 9.0, LEVEL, LEVEL) for name in subjects)
    return DriftEvent(
        id=f"flights:0:{days}:0",
        at=START + timedelta(days=days),
        key=key,
        subject=subjects[0],
        detector="windows",
        severity=severity,
        before=LEVEL,
        after=Side(0.7, 64),
        first_offset=1,
        offset=2,
        incident=incident,
        kind=kind,
        suspects=suspects,
        toll=toll,
    )


def changed(days: float, kind: str, member: str, *, key: str = "EWR", reason: str = "") -> ModelEvent:
    evidence = None
    if kind == "promotion":
        evidence = Comparison("a", 0, 400, 0.5, 0.02, (0.01, 0.03), 99.0, 0.01, 0.03, {}, [])
    at = START + timedelta(days=days)
    return ModelEvent(f"{key}{days}", at, key, kind, member, "promotion", reason, member, 9, evidence)


def test_an_incident_is_one_row_from_its_warning_to_its_end() -> None:
    names = ["feature wind: mean", "feature miles: mean", "score: mean", "loss: mean"]
    drifts = [
        turn(1, "warning", names[:1]),
        turn(1.5, "drift", names[:2]),
        turn(2, "drift", names, kind="concept drift"),
        turn(6, "recovered", names, kind="concept drift"),
        turn(7, "warning", names[:1], incident="i2"),
        turn(8, "recovered", names[:1], incident="i2"),
    ]
    (course,) = courses(drifts)
    assert (course.last.kind, course.confirmed - course.began) == ("concept drift", timedelta(hours=12))
    (row,) = incidents(drifts, [], "a").rows
    assert (row.kind, row.suspects) == ("concept drift", names)
    assert (row.warned, row.lasted) == (12 * 3600, 4.5 * 86_400)


def test_what_follows_belongs_to_the_same_key_s_latest_incident() -> None:
    drifts = [
        turn(1, "drift", ["loss"]),
        turn(5, "drift", ["loss"], incident="i2"),
        turn(4, "drift", ["loss"], incident="i3", key="JFK"),
    ]
    before, between, after = (changed(day, "promotion", "b") for day in (0.5, 2.0, 6.0))
    elsewhere = changed(2.5, "promotion", "b", key="JFK")
    found = {
        course.last.incident: course.changes
        for course in courses(drifts, [after, elsewhere, before, between])
    }
    assert found == {"i1": (between,), "i2": (after,), "i3": ()}


def test_a_row_says_what_the_system_did_and_what_was_lost_meanwhile() -> None:
    toll = Toll(640, 0.41, {"a": 0.45, "b": 0.41, "frozen": 0.52})
    drifts = [
        turn(1, "drift", ["loss: mean"], change="loss", kind="concept drift"),
        turn(9, "recovered", ["loss: mean"], change="loss", kind="concept drift", toll=toll),
        turn(2, "drift", ["feature wind: mean"], incident="i2", key="JFK"),
    ]
    held = changed(1.5, "withheld", "c", reason="loses 0.1 more than the baseline prior")
    found = incidents(drifts, [held, changed(3, "promotion", "b")], "a")
    first, second = found.rows
    assert first.response == (
        "compared all members again; held c back after 12 h: loses 0.1 more than the baseline prior; "
        "b took over after 2 d"
    )
    assert first.losses == (0.41, 0.45, 0.52)
    assert (second.response, second.losses) == ("continued to learn", (None, None, None))
    assert found.kinds == [("concept drift", 1), ("covariate drift", 1)]


def test_who_took_over_is_reported_with_the_interval_of_the_gain() -> None:
    promotion, quarantine = moves(
        [
            changed(3, "quarantine", "b", reason="it said NaN"),
            changed(2, "promotion", "b"),
            changed(1, "freeze", ""),
        ]
    )
    assert (promotion.what, promotion.gain, promotion.interval) == ("b took over", 0.02, (0.01, 0.03))
    assert (quarantine.what, quarantine.interval, quarantine.reason) == ("b failed", None, "it said NaN")
    assert moves([changed(1, "withheld", "b")]) == []


def test_gains_are_over_the_champion_as_declared_and_the_baselines() -> None:
    models = {
        "a": {"role": "champion", "log_loss": 0.40, "roc_auc": 0.8, "n": 1000},
        "b": {"role": "challenger", "log_loss": 0.37, "roc_auc": 0.9, "n": 1000},
        "frozen": {"role": "baseline", "log_loss": 0.50, "roc_auc": 0.7, "n": 1000},
    }
    found = gains(models, {"log_loss": 0.38, "roc_auc": 0.85, "n": 1000})
    assert found is not None
    assert found.columns == ["ROC AUC", "log loss", "labels"]
    served, champion, frozen = found.rows
    assert (served.name, served.figures, served.gain) == ("as served", [0.85, 0.38, 1000], None)
    assert (champion.name, champion.figures) == ("a, never replaced", [0.8, 0.40, 1000])
    assert champion.gain == pytest.approx(5.0)
    assert (frozen.name, frozen.gain) == ("frozen", pytest.approx(24.0))
    assert gains(models, {"n": 0}) is None


def test_what_was_served_is_scored_like_a_member() -> None:
    evidence, classes = RunRecords(), RunRecords()
    for number, (p, y) in enumerate([(0.9, True), (0.2, False), (0.6, False), (0.4, True)]):
        asked = (
            f'{{"id": "{number}", "at": "2013-01-01T00:00:00Z", "keys": {{}}, "features": {{}}, '
            f'"prediction": %s, "probabilities": %s}}'
        )
        became = f'{{"prediction_id": "{number}", "status": "labelled", "prediction": null, "label": %s}}'
        evidence.prediction(None, (asked % ("true", f'{{"false": {1 - p}, "true": {p}}}')).encode())
        evidence.outcome((became % ("true" if y else "false")).encode())
        classes.prediction(None, (asked % ('"x"', f'{{"x": {p}, "y": {1 - p}}}')).encode())
        classes.outcome((became % ('"x"' if y else '"y"')).encode())
    binary = evidence.served(TASK)
    assert (binary["roc_auc"], binary["n"]) == (0.75, 4)
    assert binary["accuracy"] == 0.5
    multiclass = classes.served(Multiclass("m", ask=Ask, label=LABEL))
    assert multiclass["log_loss"] == pytest.approx(binary["log_loss"])
    assert multiclass["accuracy"] == 0.5
