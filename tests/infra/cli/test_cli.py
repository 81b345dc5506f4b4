"""The command line: what goes where, and what exit codes mean."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from driftline.infra import cli
from driftline.infra.cli import cases, entry, status
from driftline.infra.errors import InfraError
from driftline.infra.report import summary
from driftline.setting_sources import SettingsError
from tests.commands.forked_command import completed_anew as driftline

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
CASES = str(Path(__file__).parents[2] / "cases")


def counted(number: int) -> dict[str, Any]:
    """The counts of a run, all the same, whose labels found their requests."""
    return {**dict.fromkeys(summary.COUNTS, number), "labels": {"matched": number, "unmatched": 0}}


def test_every_command_has_help() -> None:
    listed = driftline("--help").stdout
    for command in (
        "acl", "up", "down", "status", "worker", "produce", "simulate", "demo", "schema", "bench", "features",
        "archive", "config", "replay", "evaluate", "audit", "lineage", "predictions", "outcomes", "drift",
        "models", "dead-letters", "data", "statistics", "anomalies",
    ):  # fmt: skip
        assert f"\n  {command} " in listed
    assert "..." not in listed.partition("Commands:")[2]  # no summary is cut short


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("simulate",),
        ("simulate", "x:y", "--limit", "0"),
        ("features", "get", "x:y", "v", "k"),
        ("replay", "x:y", "--from", "noon"),
        ("replay", "x:y", "--values", "--json"),
        ("archive", "x:y", "--topic", "t"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = driftline(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("worker", "nosuch"), "neither module:attribute nor named"),
        (("schema", "no.such:thing"), "cannot import"),
        (("schema", "driftline.examples.flights:nothing"), "has no attribute 'nothing'"),
        (("predictions", "tail", "driftline.examples.flights:flights"), "no Kafka: run `driftline up`"),
        (
            ("simulate", "driftline.examples.flights:flights", "gone.jsonl"),
            "source gone.jsonl does not exist",
        ),
    ],
)
def test_a_failure_is_one_line_and_ends_with_1(arguments: tuple[str, ...], said: str) -> None:
    done = driftline(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broker_out_of_reach_is_one_line_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"

        def reach_out() -> None:
            KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=300)

        monkeypatch.setattr(entry, "app", reach_out)
        with pytest.raises(SystemExit, match="1"):
            cli.main()
    said = capsys.readouterr()
    assert said.out == ""
    assert address in said.err
    assert len(said.err.splitlines()) == 1


def test_without_a_broker_status_is_json_and_ends_with_1() -> None:
    done = driftline("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["broker"]["running"] is False


def test_the_status_of_a_broker_named_in_the_environment_is_asked_of_it(bootstrap: str) -> None:
    done = driftline("status", "--json", DRIFTLINE_BOOTSTRAP=bootstrap)
    assert done.returncode == 0
    assert json.loads(done.stdout)["broker"] == {"running": True, "bootstrap": bootstrap, "pid": None}


def test_schemas_are_one_json_object() -> None:
    assert json.loads(driftline("schema", "driftline.examples.flights:flights").stdout)


ONE_AFTER_ANOTHER = """
import json, sys
from driftline.infra.cli.entry import app
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""
"""A program that runs commands in one process: starting takes longer than most of them."""

OWN_CASE = """
import driftline as dl
from features import doubled
from infra import BUCKETS
from streams.sources import GREETING

assert (BUCKETS, GREETING) == (3, "hello")

class Asked(dl.Event, tag="asked"):
    order: str
    amount: float

class Settled(dl.Event, tag="settled"):
    order: str
    bad: bool

def logistic():
    from river import linear_model
    return linear_model.LogisticRegression()

orders = dl.UseCase(
    "orders", key="order", events=[Asked, Settled],
    features={"double": dl.derive(doubled), "amount": dl.field("amount")},
    task=dl.Binary("bad", ask=Asked, label=dl.Label(Settled, on="order", value=lambda s: s.bad, wait=60)),
    models=dl.PerKey(champion=dl.Member("logistic", logistic)),
)
"""


def test_a_project_has_folders_of_the_names_that_ours_have(tmp_path: Path) -> None:
    own = {
        "features/__init__.py": "def doubled(amount):\n    return 2 * amount\n",
        "infra/__init__.py": "BUCKETS = 3\n",
        "streams/__init__.py": "",
        "streams/sources.py": "GREETING = 'hello'\n",
        "online_models.py": "raise AssertionError('nobody imports it')\n",
        "examples/__init__.py": "raise AssertionError('nobody imports it')\n",
        "bench.py": "raise AssertionError('nobody imports it')\n",
        "mine.py": OWN_CASE,
    }
    for name, text in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    event = '{"type": "asked", "id": "a", "at": "2024-05-06T08:00:00Z", "order": "o", "amount": 2.5}'
    (tmp_path / "events.jsonl").write_text(event)
    one = ["simulate", "mine:orders", "events.jsonl", "--json"]
    others = [
        ["simulate", "flights", "--limit", "50", "--json"],
        ["schema", "mine:orders"],
        ["features", "describe", "mine:orders", "--json"],
        ["features", "apply", "mine:orders"],
    ]
    for arguments in (["-m", "driftline", *one], ["-c", ONE_AFTER_ANOTHER, json.dumps(others)]):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env=ENVIRONMENT | {"DRIFTLINE_HOME": str(tmp_path / "home")},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    script = Path(sys.executable).with_name("feast")
    repository = next((tmp_path / "home").rglob("feature_store.yaml")).parent
    planned = subprocess.run(
        [str(script), "plan"], cwd=repository, env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr


def test_a_case_that_is_shipped_has_a_short_name_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cases.path_of("flights") == cases.DEMO_CASE
    (tmp_path / "pyproject.toml").write_text('[tool.driftline.cases]\nmine = "my.module:case"\n')
    assert cases.path_of("mine") == "my.module:case"
    assert cases.path_of("flights") == cases.DEMO_CASE
    (tmp_path / "pyproject.toml").write_text("no toml")
    with pytest.raises(SettingsError, match=r"pyproject\.toml.*cannot be read"):
        cases.path_of("flights")


def test_the_case_may_be_left_out_where_only_one_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cases.only_case() == "flights"
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.driftline.cases]\nmine = "my.module:case"\n')
    assert cases.only_case() == "mine"
    project.write_text('[tool.driftline.cases]\nmine = "my.module:case"\nyours = "my.module:other"\n')
    with pytest.raises(InfraError, match="name the case: mine, yours"):
        cases.only_case()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_tables_of_a_run_keep_every_figure_whatever_the_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    metrics = {"roc_auc": 0.8647, "log_loss": 0.3724, "brier": 0.118, "accuracy": 0.8287, "kappa": 0.4746}
    counts = counted(1_036_979)
    found = {
        "case": "flights", "seconds": 1.0, "events_per_second": 1.0, "cpu_us_per_event": 1.0,
        "digest": "8c31",
        "models": {"logistic_of_each_origin": {"role": "champion", "n": 327_346} | metrics},
    }  # fmt: skip
    summary.print_summary(found | counts)
    said = capsys.readouterr().err
    for figure in ("1,036,979", "0.8647", "0.3724", "0.1180", "0.8287", "0.4746", "327,346"):
        assert figure in said
    assert "…" not in said


def test_the_table_has_the_figures_of_the_task_and_those_of_the_newest_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = counted(7) | {
        "case": "rides", "seconds": 1.0, "events_per_second": 1.0, "cpu_us_per_event": 1.0, "digest": "8c31",
        "refused": {"late": {"count": 3, "partition": 1, "offset": 40, "reason": "[it] came late, 86400 s"}},
        "models": {
            "linear": {
                "role": "champion", "rmse": 4.25, "mae": 3.125, "coverage": 0.9012, "n": 50,
                "fading": {"rmse": 2.5},
            }
        },
    }  # fmt: skip
    summary.print_summary(found)
    said = capsys.readouterr().err
    for text in ("rmse", "4.2500", "3.1250", "0.9012", "recent rmse", "2.5000"):
        assert text in said
    assert "auc" not in said
    assert "3 refused, stage late: the first at partition 1, offset 40: [it] came late, 1 day" in said


def test_a_multiclass_table_has_accuracy_and_loss_of_the_newest_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    figures = {"log_loss": 1.2512, "accuracy": 0.4378, "fading": {"log_loss": 0.3125, "accuracy": 0.9062}}
    found = counted(7) | {
        "case": "kinds", "seconds": 1.0, "events_per_second": 1.0, "cpu_us_per_event": 1.0, "digest": "8c31",
        "models": {"trees": {"role": "champion", "n": 50} | figures},
    }  # fmt: skip
    summary.print_summary(found)
    said = capsys.readouterr().err
    for text in ("recent accuracy", "0.9062", "recent log loss", "0.3125"):
        assert text in said


def test_a_member_in_quarantine_is_reported_with_its_reason_by_table_and_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    models = {
        "forest": {"role": "champion", "failures": 10, "quarantine": "ValueError: [text] is no number"},
        "prior": {"role": "baseline", "n": 50, "rmse": 1.0},
    }
    run = {
        "case": "rides",
        "seconds": 1.0,
        "events_per_second": 1.0,
        "cpu_us_per_event": 1.0,
        "digest": "8c31",
    }
    summary.print_summary(counted(7) | run | {"models": models})
    message = "forest is in quarantine, 10 failures so far: ValueError: [text] is no number"
    assert message in capsys.readouterr().err
    worker = {
        "case": "rides", "pid": 1, "running": True, "partitions": {}, "models": models,
        "counts": {"events": 1, "predictions": 1, "drift_events": 0},
    }  # fmt: skip
    found = {"broker": {"running": False, "bootstrap": None, "pid": None}, "workers": [worker]}
    assert f"  {message}" in status.status_text(found).splitlines()


def test_a_simulation_writes_its_predictions_and_says_what_was_refused(tmp_path: Path) -> None:
    from pyarrow import parquet

    run = ("simulate", "shop:faulty", "shop:trade")
    for name in ("p.jsonl", "p.parquet"):
        done = driftline(*run, "--json", "--out", str(tmp_path / name), PYTHONPATH=CASES)
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_bytes().splitlines()]
    table = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(lines) == len(table) == found["predictions"] > 0
    assert [row["prediction_id"] for row in table] == [line["id"] for line in lines]
    assert sum(row["label_status"] == "labelled" for row in table) == found["labelled"]
    assert sum(refused["count"] for refused in found["refused"].values()) == found["dead_letters"] > 0
    done = driftline(*run, "--out", str(tmp_path / "p.csv"), PYTHONPATH=CASES)
    assert done.returncode == 1
    assert "can be written to a .jsonl or .parquet file" in done.stderr


def test_features_are_planned_and_then_applied() -> None:
    def actions(command: str) -> set[str]:
        done = driftline("features", command, "driftline.examples.flights:flights", "--json")
        assert done.returncode == 0, done.stderr
        changes = json.loads(done.stdout)
        assert {change["kind"] for change in changes} == {"entity", "feature view", "feature service"}
        return {change["action"] for change in changes}

    assert [actions(command) for command in ("plan", "apply", "plan")] == [{"create"}, {"create"}, {"keep"}]


def test_features_of_a_store_that_is_not_there_are_one_line_and_end_with_1() -> None:
    done = driftline(
        "features", "get", "driftline.examples.flights:flights", "flights_by_origin", "origin=EWR"
    )
    assert done.returncode == 1
    assert "a worker makes it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_can_be_piped(tmp_path: Path) -> None:
    done = driftline("status", DRIFTLINE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "broker   not running")
