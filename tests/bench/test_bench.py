"""The bench compares like with like, and says what it could not measure."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

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
