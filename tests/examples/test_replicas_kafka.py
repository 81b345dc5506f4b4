"""Replicas and their learner on a real Kafka: two workers, one of which may be killed; answers are proved."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import parcels
import pytest

from driftline.infra.local.kafka import free_port
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import open_source, with_closing_clock
from tests.infra.proof.test_follow_kafka import figures

CASE = parcels.replicated
Eventually = Callable[..., Any]


def run(system: Any, events: list[Any], eventually: Eventually, *, kill: bool) -> None:
    """Two workers, one of which may be killed half-way, until every request has its outcome."""
    other, staying = system.start(), system.start()
    eventually(lambda: len(system.statuses) == 2 and all(one["partitions"] for one in system.statuses))
    system.produce(events[: len(events) // 2])
    eventually(lambda: sum(system.ends(system.topics.predictions).values()) > 50)
    if kill:
        other.kill()
        other.wait()
    system.produce(events[len(events) // 2 :])
    requests = sum(isinstance(event, CASE.task.ask) for event in events)
    eventually(lambda: sum(system.ends(system.topics.outcomes).values()) >= requests)
    for worker in (staying,) if kill else (staying, other):
        system.stop(worker)


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_replicas_answer_each_request_once_and_every_answer_is_proved_from_its_activation(
    system_of: Callable[[str], Any], eventually: Eventually, kill: bool
) -> None:
    expected = simulate(CASE)
    events = list(with_closing_clock(CASE, open_source(CASE, None, None)))
    system = system_of("parcels:replicated")
    port = free_port()
    auditor, said = system.command("audit", system.case_path, "--follow", "--metrics", f"127.0.0.1:{port}")
    run(system, events, eventually, kill=kill)
    answers = system.read(system.topics.predictions)
    predictions = [msgspec.json.decode(record.value, type=Prediction) for record in answers]
    requests = Counter(event.id for event in events if isinstance(event, CASE.task.ask))
    assert Counter(one.event_id for one in predictions) == requests
    assert {record.partition for record in answers} == {0, 1}
    assert len({one.model.learned_through for one in predictions}) > 3
    outcomes = [msgspec.json.decode(r.value, type=Outcome) for r in system.read(system.topics.outcomes)]
    assert Counter(one.prediction_id for one in outcomes if not one.revision) == {
        p.id: 1 for p in predictions
    }
    newest = {one.prediction_id: one.status for one in sorted(outcomes, key=lambda one: one.revision)}
    assert Counter(newest.values()) == {
        status: expected[status] for status in ("labelled", "unlabelled", "void") if expected[status]
    }
    done = system.run("audit", "parcels:replicated", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["checked"] == found["equal"] > 3 * len(predictions)
    assert found["unchecked"] == 0
    # the audit beside the workers has compared as much, pools too

    def checked() -> float:
        assert auditor.poll() is None, said.read_text()
        return float(figures(port).get("driftline_audit_checked", 0))

    eventually(lambda: checked() >= found["checked"])
    assert checked() == found["checked"]
    assert figures(port)["driftline_audit_differences"] == figures(port)["driftline_audit_unchecked"] == 0
    auditor.send_signal(signal.SIGTERM)
    assert auditor.wait(60) == 0, said.read_text()
    newest_answer = max(predictions, key=lambda one: one.model.learned_through)
    traced = system.run("lineage", newest_answer.id, "parcels:replicated", "--json")
    assert traced.returncode == 0, traced.stdout + traced.stderr
    lineage = json.loads(traced.stdout)
    assert lineage["agrees"]
    assert lineage["model"]["learned_through"]["offset"] == newest_answer.model.learned_through
    assert lineage["outcomes"]
    assert lineage["epoch"]["difference"] is None
