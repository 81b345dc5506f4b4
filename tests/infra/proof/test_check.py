"""`driftline check` folds a sample twice in other circumstances, and says which of them changes something."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from driftline.infra.proof.check import CLOCK_HINT, HINT, RANDOM_HINT, STATE
from tests.commands.forked_command import completed_anew

CASES = Path(__file__).parents[2] / "cases"


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code and both outputs of a command, whatever hash seed this process has."""
    done = completed_anew("check", *arguments, PYTHONPATH=str(CASES))
    return done.returncode, done.stdout, done.stderr


def test_a_case_that_repeats_itself_is_reported() -> None:
    code, output, _ = run("restless:calm")
    assert code == 0
    assert "62 events folded twice" in output  # each partition has the closing clock
    assert "hint" not in output
    assert "outputs and all state are equal" in output


@pytest.mark.parametrize(
    ("case", "cause", "suspect"),
    [
        ("clock", CLOCK_HINT, "by_clock"),
        ("chance", RANDOM_HINT, "by_chance"),
        ("place", CLOCK_HINT, None),
        ("things", CLOCK_HINT, None),
        ("count", STATE, "by_count"),
        ("membership", STATE, None),
    ],
)
def test_one_that_does_not_is_reported_with_its_first_difference_and_the_cause(
    case: str, cause: str, suspect: str | None
) -> None:
    code, output, _ = run(f"restless:{case}", "--json")
    assert code == 1
    found: dict[str, Any] = json.loads(output)
    assert found["difference"].startswith("predictions, partition ")
    assert "features.restless is " in found["difference"]
    assert found["cause"] == cause
    if suspect is not None:
        assert any(line.startswith(suspect) for line in found["suspects"])


@pytest.mark.parametrize("case", ["calm_stages", "calm_replicas"])
def test_stages_that_repeat_themselves_are_reported(case: str) -> None:
    code, output, said = run(f"restless:{case}", "--limit", "60")
    assert code == 0, output + said
    assert "62 events folded twice" in output  # each partition has the closing clock
    assert "outputs and all state are equal" in output


def test_a_stage_that_does_not_repeat_itself_is_named() -> None:
    code, output, _ = run("restless:count_in_stages", "--limit", "60", "--json")
    found: dict[str, Any] = json.loads(output)
    assert (code, found["cause"]) == (1, STATE)
    assert re.match(r"record for .*, partition by-depot/\d, of the record at offset", found["difference"])
    assert "read.restless is " in found["difference"]


@pytest.mark.parametrize("case", ["restless:order", "zones:zones"])
def test_what_only_another_hash_seed_changes_is_a_hint(case: str) -> None:
    code, output, _ = run(case)
    assert code == 0
    assert "outputs and all state are equal" in output
    assert HINT in output
    assert "first difference: predictions, partition " in output


def test_without_events_there_is_nothing_to_say(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    code, output, _ = run("restless:calm", str(empty))
    assert (code, "nothing to compare" in output) == (2, True)


def test_what_cannot_run_is_one_line_and_exit_code_2() -> None:
    code, _, said = run("restless:missing")
    assert code == 2
    assert said.startswith("driftline: ")
    assert "Traceback" not in said


def test_a_member_without_a_seed_is_named_before_anything_is_folded() -> None:
    code, _, said = run("restless:unseeded")
    assert code == 2
    assert "member 'forest': ARFClassifier.seed is None" in said
