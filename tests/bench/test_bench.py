"""The bench compares like with like, and says what it could not measure."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from driftline.bench import table
from driftline.bench.cases import FLIGHTS, without_extras
from driftline.bench.log import Log
from driftline.bench.peers import river
from driftline.bench.peers.job import Job, Memory, tag_of
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.simulation.simulate import Simulation


@pytest.fixture(scope="module")
def flights() -> UseCase:
    return load_case(FLIGHTS)


@pytest.fixture(scope="module")
def log(flights: UseCase) -> Log:
    return Log.of(flights, 8_000)


def test_the_job_by_hand_predicts_what_driftline_predicts(flights: UseCase, log: Log) -> None:
    simulation = Simulation(without_extras(flights))
    ours: dict[str, float] = {}
    for partition, records in log.chunks(500):
        for output in simulation.step(partition, records).predictions:
            message = msgspec.json.decode(output.value)
            ours[message["event_id"]] = message["probabilities"]["true"]
    job = Job(flights)
    stores = [Memory() for _ in range(log.partitions)]
    decode = flights.codec().decode
    theirs: dict[str, float] = {}
    for partition, record in log.sequence:
        event = decode(record.value, record.key)
        for topic, message in job.take(tag_of(event), event, stores[partition]):
            if topic == "predictions":
                theirs[message["event_id"]] = message["probabilities"]["true"]
    assert len(ours) > 1_000
    assert theirs == pytest.approx(ours, abs=1e-6)


def test_bare_river_makes_the_published_predictions(flights: UseCase, log: Log) -> None:
    work = river.ready(flights, log)
    bare = river.Bare(flights, work)
    for begin in range(0, len(work.steps), 700):
        bare.run(begin, begin + 700)
    assert bare.same_predictions()


def test_a_saved_log_comes_back_whole(log: Log, tmp_path: Path) -> None:
    log.save(tmp_path / "log")
    assert Log.load(tmp_path / "log") == log


def _results() -> dict[str, object]:
    measured = {"cpu_us_per_event": 10.0, "events_per_second": 100_000.0}
    absent = {
        "cpu_us_per_event": None,
        "events_per_second": None,
        "failures": ["quixstreams is not installed"],
    }
    peers = {name: absent if name.startswith("quix") else measured for name in table.PEERS}
    ratios = {name: None if name.startswith("quix") else 2.0 for name in table.RATIOS}
    pace = {"200": {"p50_ms": 2.0, "p99_ms": 4.0}}
    return {
        "ratios": ratios,
        "events": 8_000,
        "predictions": 1_000,
        "peers": peers,
        "latency": {"driftline": pace, "aiokafka": pace},
        "recovery": {"fence_ms": 12.0},
        "fold": {"stages_us_per_flight": {"features": 3.0}},
        "machine": {"python": "3.11.0", "cores": 2},
    }


def test_the_tables_replace_what_is_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nformer table\n<!-- /bench -->\nafter\n")
    assert table.write_readme(_results(), readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("<!-- /bench -->\nafter\n")
    assert "former table" not in text
    assert "quixstreams is not installed" in text


def test_a_readme_without_markers_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace\n")
    assert not table.write_readme(_results(), readme)
    assert readme.read_text() == "nothing to replace\n"
