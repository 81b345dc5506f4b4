"""A process that restarts, and an end that comes though the process is stuck."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from driftline.streams.transport import process_restart
from driftline.streams.transport.process_restart import Deadline, Renewals

PATIENCE = 30.0


def test_the_same_process_executes_its_command_again_from_any_thread(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "from driftline.streams.transport.process_restart import Renewals\n"
        "print(os.getpid(), sys.argv[1:], sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)\n"
        "if not os.path.exists('begun'):\n"
        "    open('begun', 'w').close()\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "    threading.Thread(target=Renewals().restart, args=('a test',)).start()\n"
        "    threading.Event().wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), "a", "b"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert said.splitlines() == [f"{process.pid} ['a', 'b'] []"] * 2


def test_a_worker_whose_broker_goes_away_while_it_starts_restarts_and_says_why(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints\n"
        "from shop import orders\n"
        "from driftline.streams.owner.deployment import Deployment\n"
        "from driftline.streams.archive.epochs import Code\n"
        "from driftline.streams.code.fingerprint import Fingerprint\n"
        "from driftline.streams.transport.membership import Membership\n"
        "from driftline.streams.transport.process_restart import Renewals\n"
        "from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal\n"
        "from driftline.streams.declare.topics import Topics\n"
        "from driftline.streams.transport.topics_watch import TopicsWatch\n"
        "from driftline.streams.transport.worker import Worker\n"
        "from driftline.streams.transport.worker_process import run\n"
        "class Announced(Renewals):\n"
        "    def restart(self, reason):\n"
        "        print('anew:', reason, flush=True)\n"
        "        sys.exit(0)\n"
        "code = Code('c', Fingerprint('3.11', 'b' * 64, 'c' * 64))\n"
        "parts = MemoryBroker(), MemoryCheckpoints(), Seal(b'k' * KEY_BYTES), None\n"
        "deployment = Deployment(orders, code, Topics('orders', 1), *parts)\n"
        "watches = {'topics': TopicsWatch(list), 'membership': Membership(lambda: True)}\n"
        "run(Worker(deployment, sys.argv[1], status_path=Path('status.json'), **watches), Announced())\n"
    )
    root = Path(__file__).parents[4]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    ended = subprocess.run(
        [sys.executable, str(script), nobody],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{root}:{root / 'tests' / 'cases'}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("anew: KafkaConnectionError")
    end = json.loads((tmp_path / "status.json").read_text())["ended"]
    assert end["failed"]
    assert "KafkaConnectionError" in end["reason"]


def test_who_restarts_again_and_again_waits_longer_each_time_and_ends_meanwhile_when_asked(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from driftline.streams.transport import process_restart\n"
        "waits = []\n"
        "class Signals:\n"
        "    def __getattr__(self, name): return getattr(signal, name)\n"
        "    def sigtimedwait(self, asked, seconds): print(seconds, flush=True); return None\n"
        "process_restart.signal = Signals()\n"
        "class Clock:\n"
        "    def monotonic(self): return 0.0\n"
        "process_restart.time = Clock()\n"
        "renewals = process_restart.Renewals()\n"
        "renewals.wait()\n"
        "if os.environ.get(process_restart.IN_A_ROW) != '8':\n"
        "    renewals.restart('a test')\n"
        "print(renewals.announcement('a test'), flush=True)\n"
        "process_restart.signal = signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "renewals.wait()\n"
        "print('not ended', flush=True)\n"
    )
    process = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 0
    assert process.stdout.splitlines() == [
        *("2.0", "4.0", "8.0", "16.0", "32.0", "60.0", "60.0"),
        "restarts after 60 s: a test",
    ]
    assert "the worker restarts after 4 s: a test" in process.stderr


def test_a_process_that_has_lasted_restarts_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(process_restart, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setenv(process_restart.IN_A_ROW, "3")
    renewals = Renewals()
    for now, announced in (  # noqa: B007 (the clock reads it)
        (0.0, "restarts after 8 s: a test"),
        (5.0, "restarts after 3 s: a test"),
        (9.0, "restarts: a test"),
    ):
        assert renewals.announcement("a test") == announced


def test_a_process_that_has_lasted_long_is_the_first_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(process_restart, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setenv(process_restart.IN_A_ROW, "9")
    renewals = Renewals()
    assert renewals.announcement("a test") == "restarts after 60 s: a test"
    now = process_restart.CALM + 1.0
    assert renewals.announcement("a test") == "restarts: a test"


class Stuck:
    """It has begun to end, and does not."""

    def __init__(self) -> None:
        self.is_ending = False
        self.resorted = threading.Event()

    def last_resort(self) -> None:
        self.resorted.set()


def test_an_end_that_does_not_come_is_brought_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_restart, "WORKER_ENDS_WITHIN", 0.1)
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
