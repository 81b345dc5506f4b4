"""Dashboard and alert rules name metrics that exist; an alert is raised by its example, and no other is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from driftline.infra.observe.alerts import ALERTS, Alert
from driftline.infra.observe.dashboard import dashboard
from driftline.infra.observe.files import RULES, contents
from driftline.infra.observe.measures import ALL_MEASURES
from driftline.online_models.tasks.metrics import metrics_of
from driftline.online_models.tasks.task import Binary, Label
from driftline.streams.declare.events import Event

GENERATED = Path(__file__).parents[3] / "infra/observe"
SERIES = {measure.series: measure for measure in ALL_MEASURES.values()}


def named(text: str) -> set[str]:
    return set(re.findall(r"driftline_\w+", text))


def queries() -> list[str]:
    """All queries of panels and alerts, and the series of the alerts' examples."""
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return shown + [alert.expr for alert in ALERTS] + [name for alert in ALERTS for name in alert.example]


class Asked(Event, tag="asked"):
    """What members answer."""


def test_the_generated_files_are_those_of_the_declarations() -> None:
    """`driftline observe infra/observe` makes them anew."""
    for name, text in contents().items():
        assert (GENERATED / name).read_text("utf-8") == text


def test_every_series_that_is_named_is_declared() -> None:
    assert queries()
    for query in queries():
        assert named(query), query
        assert named(query) <= set(SERIES), query


def test_every_figure_that_is_named_is_one_that_members_have() -> None:
    task = Binary("bad", ask=Asked, label=Label(Asked, on="id", value=lambda asked: True, wait=1.0))
    metrics = metrics_of(task)
    for p, y in ((0.9, True), (0.2, False)):
        metrics.update(y, p)
    known = {name for name, value in metrics.fading().items() if isinstance(value, float)}
    named_figures = set(re.findall(r'figure="(\w+)"', "".join(query for query in queries())))
    assert named_figures
    assert named_figures <= known


def test_labels_of_examples_are_those_of_the_metrics() -> None:
    for series in (series for alert in ALERTS for series in alert.example):
        name, _, labels = series.partition("{")
        given = set(re.findall(r'(\w+)="', labels))
        assert given == {"case", *SERIES[name].labels}, series


def test_panels_are_not_one_upon_the_other() -> None:
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_raised_by_its_example_alone(alert: Alert, tmp_path: Path) -> None:
    (tmp_path / RULES).write_text(contents()[RULES])
    firing = 'count(ALERTS{alertstate="firing"}) by (alertname)'
    test = {
        "rule_files": [RULES],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in alert.example.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": firing,
                        "eval_time": "119m",
                        "exp_samples": [{"labels": f'{{alertname="{alert.name}"}}', "value": 1}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))
    ran = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
