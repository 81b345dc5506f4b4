"""A process that begins anew, and an end that comes though the process is stuck."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streams import renewal
from streams.renewal import Deadline

PATIENCE = 30.0


def test_the_same_process_executes_its_command_again_from_any_thread(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "from streams.renewal import begin_anew\n"
        "print(os.getpid(), sys.argv[1:], sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)\n"
        "if not os.path.exists('begun'):\n"
        "    open('begun', 'w').close()\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "    threading.Thread(target=begin_anew, args=('a test',)).start()\n"
        "    threading.Event().wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), "a", "b"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert said.splitlines() == [f"{process.pid} ['a', 'b'] []"] * 2


class Stuck:
    """It has begun to end, and does not."""

    def __init__(self) -> None:
        self.is_ending = False
        self.resorted = threading.Event()

    def last_resort(self) -> None:
        self.resorted.set()


def test_an_end_that_does_not_come_is_brought_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "ENDS_WITHIN", 0.1)
    stuck = Stuck()
    Deadline(stuck).start()
    stuck.is_ending = True
    assert stuck.resorted.wait(PATIENCE)


def test_an_end_that_comes_needs_no_last_resort() -> None:
    ending = Stuck()
    deadline = Deadline(ending)
    deadline.start()
    ending.is_ending = True
    deadline.over()
    deadline.join(PATIENCE)
    assert not ending.resorted.is_set()
