"""A forked command does what the command does in a new Python."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands.forked_command import ForkedCommand, completed, completed_anew

CASES = str(Path(__file__).parents[1] / "cases")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("config", "show", "--json"), 0),
        (("plan", "shop:orders"), 0),
        (("plan", "shop:missing"), 1),
        (("plan",), 2),
    ],
)
def test_it_ends_and_says_what_a_new_python_does(
    arguments: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driftline.toml").write_text('namespace = "of.the.folder"')
    monkeypatch.setenv("DRIFTLINE_ARCHIVE", "of/the/environment")
    monkeypatch.setenv("PYTHONPATH", CASES)
    forked, anew = completed(*arguments), completed_anew(*arguments)
    assert forked.returncode == anew.returncode == code
    assert forked.stdout == anew.stdout
    # which file was started is in the usage
    assert forked.stderr.replace("driftline ", "") == anew.stderr.replace("python -m driftline ", "")


def test_it_can_be_waited_for_and_killed(tmp_path: Path) -> None:
    said = tmp_path / "said"
    os.mkfifo(tmp_path / "events.jsonl")  # which nobody writes to
    arguments = ["simulate", "shop:orders", str(tmp_path / "events.jsonl")]
    command = ForkedCommand(arguments, os.environ | {"PYTHONPATH": CASES}, said)
    assert said.exists()
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.1)
    assert command.poll() is None
    command.kill()
    assert command.wait(60) == command.returncode == -signal.SIGKILL
