"""The bench of a chain: on a real Kafka, small; and what its figures are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driftline.bench.peers.process import Limits
from driftline.bench.speed.chains import SHAPES, ShapeRuns, ratios

EVENTS = 1_000


def test_workers_of_a_chain_answer_all_and_are_measured_together(bootstrap: str, tmp_path: Path) -> None:
    runs = ShapeRuns(SHAPES["chain_two_workers"], EVENTS, bootstrap, tmp_path, Limits())
    found = runs.throughput()
    assert found["cpu_us_per_event"] > 0
    assert found["events_per_second"] > 0


def measured(cpu: float, speed: float, p99: float) -> dict[str, Any]:
    return {"cpu_us_per_event": cpu, "events_per_second": speed, "latency": {"200": {"p99_ms": p99}}}


def test_what_a_stage_adds_is_a_share_of_what_the_chain_takes_more() -> None:
    found = {
        "one_partition": measured(100.0, 9_000.0, 4.0),
        "chain": measured(145.0, 6_000.0, 10.0),
        "chain_two_workers": measured(150.0, 9_600.0, 10.0),
    }
    assert ratios(found, 4) == {
        "added_us_per_stage": pytest.approx(15.0),
        "two_workers_speed": pytest.approx(1.6),
        "two_workers_speed_apart": pytest.approx(2.0 * 145.0 / 150.0),
        "latency_p99_200": pytest.approx(2.5),
        "latency_p99_1000": None,
    }


def test_what_was_not_measured_is_compared_with_nothing() -> None:
    nothing = {"cpu_us_per_event": None, "events_per_second": None, "latency": {"failure": "stalled"}}
    found = dict.fromkeys(SHAPES, nothing)
    assert set(ratios(found, 4).values()) == {None}
