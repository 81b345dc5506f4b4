"""`driftline evaluate`: tables nobody has declared, cases, and what is said of what cannot be evaluated."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from driftline.examples.flights import flights
from driftline.infra import cli
from driftline.infra.errors import InfraError
from driftline.infra.offline import evaluation_table
from driftline.infra.offline.evaluate import evaluate_case, evaluate_file, steps_of
from driftline.infra.offline.labelled_table import open_table
from driftline.infra.report import evaluation
from driftline.infra.report.plot import RIGHT, WIDTH
from driftline.online_models.errors import ModelsError
from driftline.online_models.evaluation.stream import LabelKnown, RequestAsked
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.tables import UnreadableTable


def rows(count: int = 300) -> list[dict[str, Any]]:
    """Customers who leave: numbers, text, gaps, an id, a column of one value."""
    rng = random.Random(1)
    found = []
    for number in range(count):
        plan = rng.choice(["basic", "pro", "team, large"])
        calls = rng.randint(0, 9)
        row = {
            "customer": f"c-{number:05d}",
            "plan": plan,
            "calls": calls,
            "spent": None if rng.random() < 0.1 else round(rng.gauss(50, 10), 2),
            "country": "NL",
            "left": "yes" if (calls > 5) != (plan == "pro") else "no",
        }
        found.append(row)
    return found


def write_csv(path: Path, table: list[dict[str, Any]], delimiter: str = ",") -> Path:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)
    return path


def test_a_csv_never_seen_gives_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "churn.csv", rows())
    page = tmp_path / "page.html"
    arguments = [
        "evaluate",
        str(path),
        "--label",
        "left",
        "--models",
        "logistic,tree",
        "--delay",
        "5",
        "--json",
    ]
    cli.app([*arguments, "--html", str(page)], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["labels"], found["delay"]) == ("binary", 300, 5)
    assert found["table"]["features"] == ["plan", "calls", "spent"]
    assert found["table"]["left_out"] == {"customer": "identifier", "country": "constant"}
    assert found["table"]["positive"] == "yes"
    assert set(found["table"]["missing"]) == {"spent"}
    for name in ("served", "models"):
        assert found[name]
    logistic = found["models"]["logistic"]
    assert logistic["accuracy"] > found["models"]["prior"]["accuracy"]
    assert found["best"] in ("logistic", "tree")  # not the combination, which is none of those it combines
    assert found["models"]["combined"]["role"] == "champion"
    assert found["served"]["accuracy"] == found["models"]["combined"]["accuracy"]
    assert {"accuracy", "kappa", "kappa_temporal", "log_loss", "roc_auc", "seconds", "bytes"} <= set(logistic)
    html = page.read_text()
    assert "churn.csv" in html
    assert "<svg" not in html or "</svg>" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")


def test_the_table_of_members_has_the_accuracy_of_the_last_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = evaluate_file(write_csv(tmp_path / "churn.csv", rows()), "left", models=["logistic"])
    evaluation_table.print_evaluation(found)
    said = capsys.readouterr().err
    assert "recent accuracy" in said
    assert f"{found['curves']['logistic'][-1]:.4f}" in said


def test_the_same_table_is_the_same_stream_in_every_format(tmp_path: Path) -> None:
    table = rows()
    comma = write_csv(tmp_path / "a.csv", table)
    semicolon = write_csv(tmp_path / "b.csv", table, ";")
    lines = tmp_path / "c.jsonl"
    full = [{name: value for name, value in row.items() if value is not None} for row in table]
    lines.write_text("".join(json.dumps(row) + "\n" for row in full))
    columns = tmp_path / "d.parquet"
    parquet.write_table(pa.Table.from_pylist(table), columns)
    first, *others = [list(open_table(path, "left").stream) for path in (comma, semicolon, lines, columns)]
    assert first[0].x.keys() <= {"plan", "calls", "spent"}
    assert {type(value) for value in first[0].x.values()} == {str, float}
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (["0", "1"], "binary", False),
        (["good", "bad"], "binary", True),
        (["UP", "DOWN"], "binary", True),
        (["-1", "1"], "binary", False),
        (["1", "2", "3"], "multiclass", "1"),
        (["red", "green", "blue"], "multiclass", "red"),
        (["1.5", "2.5", "3.25"], "regression", 1.5),
        ([str(n) for n in range(30)], "regression", 0.0),
    ],
)
def test_the_task_follows_from_the_labels(values: list[str], kind: str, first: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [{"a": n, "y": values[n % len(values)]} for n in range(120)])
    table = open_table(path, "y")
    assert table.stream.kind == kind
    assert next(iter(table.stream)).y == first


def test_a_declared_task_goes_before_what_the_labels_look_like(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [{"a": n, "y": n % 3} for n in range(60)])
    assert open_table(path, "y", "regression").stream.kind == "regression"
    with pytest.raises(InfraError, match="not binary"):
        open_table(path, "y", "binary")


def test_the_last_row_decides_as_much_as_the_first(tmp_path: Path) -> None:
    table: list[dict[str, Any]] = [{"a": n, "b": n, "y": n % 2} for n in range(60)]
    table[-1] |= {"a": "unknown"}
    path = write_csv(tmp_path / "t.csv", table)
    assert open_table(path, "y").columns["a"].content == "identifier"
    assert open_table(path, "y", limit=59).columns["a"].content == "number"


def test_rows_without_a_label_are_answered_and_teach_nothing(tmp_path: Path) -> None:
    table = [{"a": n % 7, "y": "" if n % 3 == 0 else n % 2} for n in range(90)]
    found = evaluate_file(write_csv(tmp_path / "t.csv", table), "y", models=["logistic"])
    assert (found["requests"], found["labels"], found["table"]["unlabelled"]) == (90, 60, 30)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "a,y\n1,0\n2,1\n", "no column 'z': it has a, y"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "a,z\n", "has no rows"),
        ("a.csv", "a,z\n1,5\n2,5\n", "'z' is always 5"),
        ("a.csv", "a,z\n1,\n2,\n", "every value of 'z' is missing"),
        ("a.csv", "z\n1\n0\n", "no column but 'z'"),
        ("a.csv", "a,a,z\n1,2,0\n", "the header has 'a' more than once"),
        ("a.csv", "a,z\n1,0\n1,2,1\n", "line 3: 3 values, but the header has 2"),
        ("a.csv", "a,z\n1,p\n2,q\n3,r\n4,s\n", "too many for classes"),
        ("a.jsonl", '{"a": 1, "z": 0}\n{"a": \n', "line 2"),
        ("a.jsonl", "[1]\n", "list where an object is needed"),
        ("a.parquet", "PAR", "Parquet file size is 3 bytes"),
        ("a.xlsx", "PK", "can be read"),
    ],
)
def test_what_cannot_be_evaluated_is_reported(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises((InfraError, UnreadableTable), match=said):
        evaluate_file(path, "z")


def test_other_mistakes_of_the_command_line_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "t.csv", rows(50))
    (tmp_path / "latin.csv").write_bytes(b"a,left\n\xe9,1\n")
    for arguments, said, code in (
        ([str(tmp_path / "gone.csv"), "--label", "y"], "does not exist", 1),
        ([str(path)], "--label", 2),
        ([str(path), "--label", "left", "--models", "nonsense"], "no model 'nonsense'", 1),
        ([str(tmp_path / "latin.csv"), "--label", "left", "--encoding", "utf-8"], "not utf-8 text", 1),
        (["flights", "--label", "late"], "has a label", 2),
        (["flights", "--delay", "3"], "delays of their own", 2),
        (["nonsense"], "neither module:attribute nor named", 1),
    ):
        monkeypatch.setattr("sys.argv", ["driftline", "evaluate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
        assert said in capsys.readouterr().err


def test_a_stream_of_the_catalogue_tells_what_is_known_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--models", "logistic,logistic-boosted", "--limit", "7000", "--delay", "50", "--json"]
    cli.app(["evaluate", "rbf-recurring", *options], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert [change["start"] for change in found["changes"]] == [5000]
    assert found["detectors"]["never"]["mtr"] == 0
    assert found["detectors"]["always"]["mtr"] == pytest.approx(1.0)
    assert {"pool", "ADWIN"} <= set(found["detectors"])
    page = evaluation.evaluation_page(found)
    assert page.count("known change") == 1
    assert "Detectors on" in page


def test_names_of_models_are_those_of_the_task(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [{"a": n, "y": n * 1.5} for n in range(60)])
    with pytest.raises(ModelsError, match="regression task: there are linear"):
        evaluate_file(path, "y", models=["logistic"])


def test_the_steps_of_a_case_are_its_requests_and_labels_in_the_order_of_its_log() -> None:
    found = simulate(flights, limit=4000, partitions=1)
    steps = list(steps_of(flights, limit=4000))
    asked = [step for step in steps if isinstance(step, RequestAsked)]
    known = [step for step in steps if isinstance(step, LabelKnown)]
    assert len(asked) == found["predictions"]
    assert sum(step.y is not None for step in known) == found["labelled"]
    assert len(known) == len(asked)
    assert {step.key for step in asked} == {"EWR", "JFK", "LGA"}


def test_a_case_is_evaluated_as_it_is_served() -> None:
    served = simulate(flights, limit=6000, partitions=1)
    found = evaluate_case(flights, limit=6000)
    champion = flights.models.champion.name
    loss, expected = (run["models"][champion]["log_loss"] for run in (found, served))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert found["labels"] == served["labelled"]
    page = evaluation.evaluation_page(found)
    assert "Evaluation: flights" in page
    assert found["labels"] % found["window"]  # the last window is a part of one, and ends where the labels do
    ends = [float(x) for x in re.findall(r'class="line [^"]*" d="M[^"]*L([\d.]+) [\d.]+"', page)]
    assert ends
    assert all(x == pytest.approx(WIDTH - RIGHT) for x in ends)
