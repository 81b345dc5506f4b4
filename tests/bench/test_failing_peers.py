"""A peer that stalls, raises or does not end costs its own figures alone, and the tables say why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from driftline.bench import table
from driftline.bench.cases import FLIGHTS
from driftline.bench.log import Log
from driftline.bench.peers import process
from driftline.bench.peers.process import Limits, PeerFailed
from driftline.bench.readme import RESULTS
from driftline.bench.speed import latency
from driftline.bench.speed.attempts import attempt, medians
from driftline.bench.speed.kafka_runs import KafkaRuns
from driftline.streams.declare.usecase import load_case

STALLING, RAISING = "tests.bench.stalling", "tests.bench.raising"


def results_with(**changed: Any) -> dict[str, Any]:
    """The results of the last bench, of which some are changed."""
    return json.loads(RESULTS.read_text()) | changed


def peers_with(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return results_with(peers=results_with()["peers"] | {name: found})


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_good_rounds_are_kept_beside_one_that_failed() -> None:
    rounds: Iterator[float] = iter((3.0, -1.0, 1.0))

    def run() -> dict[str, Any]:
        cpu = next(rounds)
        if cpu < 0:
            raise PeerFailed("it put out nothing for 60 s")
        return {"cpu_us_per_event": cpu, "events_per_second": 1e6 / cpu}

    found = medians(run, 3)
    assert found["cpu_us_per_event"] == 2.0
    assert found["runs_cpu_us_per_event"] == [3.0, 1.0]
    (row,) = [row for row in table.peer_rows(peers_with("quix", found)) if row[0] == table.PEERS["quix"]]
    assert row[1] == "2.0"
    assert row[2].endswith("(1 of 3 rounds failed: it put out nothing for 60 s)")


def test_an_error_of_any_kind_is_a_failure_with_its_type() -> None:
    found = medians(lambda: {}["cpu"], 1)
    assert found["cpu_us_per_event"] is None
    assert found["failures"] == ["KeyError: 'cpu'"]


def test_a_call_that_does_not_end_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PeerFailed, match=r"tests\.bench\.stalling did not end within 10 s"):
        process.call(STALLING, within=10.0)
    child = int(Path("child").read_text())
    eventually(lambda: ended(child))


def test_a_call_that_raises_is_reported_with_its_error() -> None:
    found = attempt(lambda: process.call(RAISING, within=60.0))
    assert "ended with 1" in found["failure"]
    assert "RuntimeError: the state of this peer is corrupt" in found["failure"]


@pytest.fixture
def runs(bootstrap: str, tmp_path: Path) -> Iterator[KafkaRuns]:
    made = KafkaRuns(bootstrap, Log.of(load_case(FLIGHTS), 5_000), tmp_path, Limits(stalled=10.0, end=0.5))
    yield made
    made.clean()


def test_peers_on_kafka_that_stall_or_raise_are_reported_in_the_table(
    runs: KafkaRuns, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    expected = {"predictions": 1, "outcomes": 1}
    stalled = medians(lambda: runs.peer(STALLING, expected, durable=True), 1)
    raised = medians(lambda: runs.peer(RAISING, expected, durable=True), 1)
    assert "and then nothing for 10 s" in stalled["failures"][0]
    (child,) = tmp_path.rglob("child")
    eventually(lambda: ended(int(child.read_text())))
    assert "RuntimeError: the state of this peer is corrupt" in raised["failures"][0]
    for found, message in ((stalled, "put out"), (raised, "ended with 1")):
        (row,) = [row for row in table.peer_rows(peers_with("faust", found)) if "in a table" in row[0]]
        assert row[1] == "-"
        assert row[2].startswith("not measured: tests.bench.")
        assert message in row[2]


def test_a_service_that_fails_under_load_leaves_the_figures_of_the_others(runs: KafkaRuns) -> None:
    limits = Limits(stalled=240.0)
    broken, well = runs.assign(), runs.assign()
    with (
        process.running(RAISING, broken, limits) as raising,
        process.running("driftline.bench.peers.echo", well, limits) as echo,
    ):
        services = {"driftline": (raising, broken), "aiokafka": (echo, well)}
        found = asyncio.run(latency.measure(runs.case, runs.log, services, {200: 1.0}, 1, limits))
    assert found["aiokafka"]["200"]["p99_ms"] > 0
    assert "ended with 1" in found["driftline"]["failure"]
    rows = table.latency_rows(results_with(latency=found))
    over_topics = ["aiokafka at 200/s"]
    over_http = ["one client, topic to topic", "one client, through the gateway"]
    assert [row[0] for row in rows if row[1] != "-"] == [*over_topics, *over_http]
    assert [row[0].split(":")[0] for row in rows if row[1] == "-"] == ["driftline failed"]


def test_a_recovery_that_failed_has_its_reason_in_place_of_figures() -> None:
    rows = table.recovery_rows(results_with(recovery={"fence_ms": 12.0, "failures": {"kill": "it hung"}}))
    assert ("SIGTERM to exit, with a last checkpoint, s", "not measured: it hung") in rows
    assert ("fence of a partition, ms", "12.0") in rows


def test_a_client_that_got_no_answer_has_its_reason_in_place_of_figures() -> None:
    rows = table.latency_rows(results_with(over_http={"failure": "the gateway answered 503"}))
    assert ("one client failed: the gateway answered 503", "-", "-") in rows
    assert [row for row in rows if row[0].startswith("one client,")] == []
