"""What `driftline status` shows of how workers end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driftline.infra.cli.status import SILENT_AFTER, status_text
from driftline.infra.local.running_workers import ENDED_SHOWN_FOR, FAILED_SHOWN_FOR, collect
from driftline.infra.settings import Settings
from driftline.streams.status.status_file import ended

HOLDER = """
import sys
from pathlib import Path
from driftline.infra.processes.slot import own_slot
from driftline.infra.settings import Settings
home, case = sys.argv[1:]
with own_slot(Settings(home=Path(home)), case):
    print("held", flush=True)
    sys.stdin.read()
"""
Hold = Callable[[str], None]
COUNTS = {"events": 3, "predictions": 2, "drift_events": 0}
LOST = "it restarts after 4 s: the network is gone"


def shown(running: bool, **said: Any) -> list[str]:
    """The lines of the status text below the first one of a worker."""
    worker = {"case": "orders", "pid": 7, "running": running, "counts": COUNTS, "partitions": {}} | said
    broker = {"running": True, "bootstrap": "127.0.0.1:9", "pid": None}
    return status_text({"broker": broker, "workers": [worker]}).splitlines()[2:]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Has another process take a slot of a case, and keep it until the end of the test."""
    holders = []

    def held(case: str) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

    yield held
    for holder in holders:
        holder.communicate()


def an_hour_ago(reason: str, *, failed: bool) -> dict[str, Any]:
    return ended(reason, failed=failed) | {"at": time.time() - 3600.5}


@pytest.mark.parametrize("running", [False, True])
def test_a_worker_that_said_why_it_ended_is_shown_so_also_while_it_waits_to_restart(running: bool) -> None:
    (line,) = shown(running, ended=an_hour_ago(LOST, failed=True), before=None)
    assert line.startswith("  ended 60 min")
    assert line.endswith(f" ago: {LOST}")


def test_labels_that_find_no_request_are_reported() -> None:
    labels = {"matched": 1, "unmatched": 300}
    assert any("300 of 301 labels" in line for line in shown(True, labels=labels))
    assert not any("labels" in line for line in shown(True, labels={"matched": 300, "unmatched": 1}))


def test_a_worker_that_is_gone_without_a_word_was_killed() -> None:
    assert shown(False, ended=None, before=None) == [
        "  it did not say why it ended: it was killed, or the machine was stopped"
    ]


def test_how_the_one_before_ended_is_shown_where_that_was_a_failure() -> None:
    (line,) = shown(True, ended=None, before=an_hour_ago("the disk is gone", failed=True))
    assert line.startswith("  the one before ended 60 min")
    assert line.endswith(" ago: the disk is gone")
    assert shown(True, ended=None, before=an_hour_ago("it was asked to end", failed=False)) == []


@pytest.mark.parametrize(
    ("ago", "running", "failed", "is_shown"),
    [
        (ENDED_SHOWN_FOR - 60, False, False, True),
        (ENDED_SHOWN_FOR + 60, False, False, False),
        (ENDED_SHOWN_FOR + 60, False, True, True),
        (ENDED_SHOWN_FOR + 60, False, None, True),
        (FAILED_SHOWN_FOR + 60, False, True, False),
        (FAILED_SHOWN_FOR + 60, False, None, False),
        (FAILED_SHOWN_FOR + 60, True, None, True),
    ],
)
def test_workers_that_ended_long_ago_are_left_out(
    tmp_path: Path, hold: Hold, ago: float, running: bool, failed: bool | None, is_shown: bool
) -> None:
    if running:
        hold("orders")
    at = time.time() - ago
    worker = {
        "case": "orders",
        "log": "orders.log",
        "pid": os.getpid(),  # another container's numbers are somebody else's here
        "at": at,
        "counts": COUNTS,
        "partitions": {},
        "next_offsets": {},
        "ended": None if failed is None else ended("so", failed=failed) | {"at": at},
    }
    (tmp_path / "status").mkdir(exist_ok=True)
    (tmp_path / "status" / "orders.json").write_text(json.dumps(worker))
    workers = collect(Settings(home=tmp_path))["workers"]
    assert [worker["running"] for worker in workers] == [running] * is_shown


def test_a_worker_that_runs_elsewhere_is_shown_with_its_machine_and_one_that_is_silent_as_that() -> None:
    worker = {"case": "orders", "pid": 7, "host": "elsewhere", "running": True, "counts": COUNTS}
    silent = worker | {"partitions": {}, "before": None, "ended": None, "at": time.time() - 2 * SILENT_AFTER}
    broker = {"running": True, "bootstrap": "127.0.0.1:9", "pid": None}
    _, first, second = status_text({"broker": broker, "workers": [silent]}).splitlines()
    assert "process 7 on elsewhere" in first
    assert "reported nothing for 30 s" in second
    assert len(status_text({"broker": broker, "workers": [silent | {"at": time.time()}]}).splitlines()) == 2


def test_a_kind_of_state_that_a_partition_has_none_of_is_not_listed() -> None:
    sizes = {
        "predictions that wait": {"count": 12, "bytes_each": 270, "disk_bytes_each": 250},
        "packed": {"count": 0, "bytes_each": 0, "disk_bytes_each": 0},
    }
    partition = {"state": "serving", "reason": "", "sizes": sizes}
    assert shown(True, partitions={"0": partition}) == [
        "  partition 0: serving",
        "    12 predictions that wait: 270 bytes each, 250 on disk",
    ]


def test_a_broker_that_does_not_answer_is_named() -> None:
    broker = {"running": False, "bootstrap": "127.0.0.1:9", "pid": None}
    assert status_text({"broker": broker, "workers": []}) == "broker   no answer at 127.0.0.1:9"
