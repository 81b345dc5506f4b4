"""Commands and a case of several tasks: each says which task it is about, or takes all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shop

from driftline.infra import cli
from driftline.infra.cli import cases
from driftline.infra.errors import InfraError
from driftline.streams.simulation.simulate import simulate

CASE = "shop:questions"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    cli.app([*arguments, "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_simulate_and_evaluate_take_the_task_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "simulate", f"{CASE}@loss")
    assert (found["case"], list(found["models"])) == ("orders-loss", ["linear", "frozen", "prior"])
    assert found["digest"] == simulate(shop.questions.of("loss"))["digest"]
    assert "mae" in printed(capsys, "evaluate", f"{CASE}@loss", "--limit", "60")["models"]["linear"]


ABOUT_ONE = (
    "simulate", "evaluate", "worker", "demo", "archive", "audit", "replay", "check", "schema print",
    "acl --role worker", "models list", "predictions tail", "dead-letters list",
    "features training-set --out a.parquet", "features describe", "features history", "data statistics",
    "data schema",
)  # fmt: skip


@pytest.mark.parametrize("command", ABOUT_ONE)
def test_a_command_that_is_about_one_task_says_which_there_are(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    name, _, options = command.partition(" --")
    words = [*name.split(), CASE, *(f"--{options}".split() if options else ())]
    try:
        assert cli.app(words, standalone_mode=False) == 2  # what proves has an exit code of its own for it
        said = capsys.readouterr().err
    except InfraError as error:
        said = str(error)
    assert f"{CASE} has the tasks bad, loss: name one, as {CASE}@loss" in said
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_that_of_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["plan", CASE, "--partitions", "4"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "task bad, answers in orders.predictions:\n1. orders.events (by shop, 4 partitions)" in text
    assert "task loss, answers in orders-loss.predictions:\n1. orders.events (by shop, 4 part" in text
    planned = printed(capsys, "plan", CASE, "--partitions", "4")
    assert {task: len(plan["stages"]) for task, plan in planned.items()} == {"bad": 1, "loss": 2}
    assert printed(capsys, "plan", f"{CASE}@loss", "--partitions", "4") == planned["loss"]
    assert printed(capsys, "plan", "shop:orders")["case"] == "orders"


def test_a_short_name_may_have_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f'[tool.driftline.cases]\nmine = "{CASE}"\n')
    assert cases.path_of("mine@loss") == f"{CASE}@loss"
    assert [case.name for case in cases.selected_cases("mine")] == ["orders", "orders-loss"]
    assert [case.name for case in cases.selected_cases("mine@loss")] == ["orders-loss"]
