"""What the report says of adaptation: what changed, when, what the system did, what it gained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tasks import LABEL, TASK, Ask

from driftline import Multiclass
from infra.adaptation import courses, gains, incidents, moves
from infra.report import RunRecords
from online_models.drift_report import Side, Toll
from online_models.promotion import Evidence as Comparison
from streams.messages import DriftEvent, ModelEvent, Suspect

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
    told = [
        turn(1, "warning", names[:1]),
        turn(1.5, "drift", names[:2]),
        turn(2, "drift", names, kind="concept drift"),
        turn(6, "recovered", names, kind="concept drift"),
        turn(7, "warning", names[:1], incident="i2"),
        turn(8, "recovered", names[:1], incident="i2"),
    ]
    (course,) = courses(told)
    assert (course.last.kind, course.confirmed - course.began) == ("concept drift", timedelta(hours=12))
    html = incidents(told, [], "a")
    assert "feature wind: mean, feature miles: mean, score: mean and 1 more" in html
    assert "<td>12 h</td><td>4 d</td>" in html


def test_what_follows_belongs_to_the_same_key_s_latest_incident() -> None:
    told = [
        turn(1, "drift", ["loss"]),
        turn(5, "drift", ["loss"], incident="i2"),
        turn(4, "drift", ["loss"], incident="i3", key="JFK"),
    ]
    before, between, after = (changed(day, "promotion", "b") for day in (0.5, 2.0, 6.0))
    elsewhere = changed(2.5, "promotion", "b", key="JFK")
    found = {
        course.last.incident: course.changes for course in courses(told, [after, elsewhere, before, between])
    }
    assert found == {"i1": (between,), "i2": (after,), "i3": ()}


def test_a_row_says_what_the_system_did_and_what_was_lost_meanwhile() -> None:
    toll = Toll(640, 0.41, {"a": 0.45, "b": 0.41, "frozen": 0.52})
    told = [
        turn(1, "drift", ["loss: mean"], change="loss", kind="concept drift"),
        turn(9, "recovered", ["loss: mean"], change="loss", kind="concept drift", toll=toll),
        turn(2, "drift", ["feature wind: mean"], incident="i2", key="JFK"),
    ]
    held = changed(1.5, "withheld", "c", reason="loses 0.1 more than the baseline prior")
    html = incidents(told, [held, changed(3, "promotion", "b")], "a")
    assert (
        "compared all members anew; held c back after 12 h: loses 0.1 more than the baseline prior; "
        "b took over after 2 d" in html
    )
    assert "<td>0.4100</td><td>0.4500</td><td>0.5200</td>" in html
    assert "told; what served went on learning</td><td>&ndash;</td><td>&ndash;</td><td>&ndash;</td>" in html


def test_who_took_over_is_told_with_the_interval_of_the_gain() -> None:
    html = moves(
        [
            changed(3, "quarantine", "b", reason="it said NaN"),
            changed(2, "promotion", "b"),
            changed(1, "freeze", ""),
        ]
    )
    assert html.index("b took over</td><td>0.0200 (0.0100 to 0.0300)") < html.index(
        "b failed</td><td>&ndash;"
    )
    assert "all 2" in html
    assert moves([changed(1, "withheld", "b")]) == ""


def test_gains_are_over_the_champion_as_declared_and_the_baselines() -> None:
    models = {
        "a": {"role": "champion", "log_loss": 0.40, "roc_auc": 0.8, "n": 1000},
        "b": {"role": "challenger", "log_loss": 0.37, "roc_auc": 0.9, "n": 1000},
        "frozen": {"role": "baseline", "log_loss": 0.50, "roc_auc": 0.7, "n": 1000},
    }
    html = gains(models, {"log_loss": 0.38, "roc_auc": 0.85, "n": 1000})
    assert "<td>as served</td><td>0.8500</td><td>0.3800</td><td>1,000</td><td>&ndash;</td>" in html
    assert "<td>a, never promoted</td><td>0.8000</td><td>0.4000</td><td>1,000</td><td>+5.00 %</td>" in html
    assert "<td>frozen</td><td>0.7000</td><td>0.5000</td><td>1,000</td><td>+24.00 %</td>" in html
    assert gains(models, {"n": 0}) == ""


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
