"""A live case whose workers run on machines that have the time wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from shop import asked, settled

from driftline.streams.simulation.simulate import simulate
from tests.conftest import CASES, System

DAY = 24 * 3600
WRONG_TIME = """
import os, time
true_time, wrong_by = time.time, float(os.environ["CLOCK_WRONG_BY"])
time.time = lambda: true_time() + wrong_by
"""
"""Python runs a sitecustomize.py that it finds before anything else: the worker and its libraries see no
other time. The broker and the test have the right one."""


def start(system: System, wrong_by: float) -> None:
    """A worker whose clock is ahead of the broker's by so many seconds."""
    folder = system.home / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WRONG_TIME)
    path = os.pathsep.join([str(folder), str(CASES)])
    system.command("worker", system.case_path, cold=True, PYTHONPATH=path, CLOCK_WRONG_BY=str(wrong_by))


def values(system: System, topic: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(record.value) for record in system.read(topic)]


def statuses(system: System) -> dict[str, str]:
    return {one["event_id"]: one["status"] for one in values(system, system.topics.outcomes)}


def replayed(system: System) -> tuple[dict[str, str], list[bytes]]:
    """Digests and outcomes of what a simulation makes of the log as `driftline replay` prints it."""
    command = [sys.executable, "-m", "driftline", "replay", system.case_path, "--values"]
    printed = subprocess.run(command, env=system.environment, capture_output=True, check=True, timeout=120)
    source = system.home / "replayed.jsonl"
    source.write_bytes(printed.stdout)
    outcomes: list[bytes] = []
    found = simulate(
        system.case, str(source), on_outputs=lambda _, out: outcomes.extend(o.value for o in out.outcomes)
    )
    return found["digests"], sorted(outcomes)


@pytest.mark.parametrize(
    "wrong_by", [DAY, *(pytest.param(days * DAY, marks=pytest.mark.soak) for days in (-1, 30))]
)
def test_labels_join_and_waits_end_whatever_the_clock_of_the_worker_says(
    system_of: Callable[..., System], eventually: Callable[..., Any], wrong_by: float
) -> None:
    system = system_of("shop:punctual")
    start(system, wrong_by)
    system.produce(asked(n, 0, at=datetime.now(UTC)) for n in range(2))

    def reported() -> bool:
        return any(event["type"] == "clock" for event in values(system, system.topics.log))

    eventually(reported)
    system.produce([settled(0, 0, at=datetime.now(UTC))])
    eventually(lambda: statuses(system) == {"asked-0": "labelled", "asked-1": "unlabelled"})
    assert values(system, system.topics.dead_letters) == []
    outcomes = sorted(record.value for record in system.read(system.topics.outcomes))
    assert replayed(system) == (system.digests(), outcomes)
