"""What a worker decides on a real Kafka is what simulate decides, and the audit proves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from changing import changing

from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import open_source, with_closing_clock


@pytest.mark.soak
def test_incidents_promotions_and_commands_have_the_digests_of_simulate_through_a_kill(
    system_of: Callable[[str], Any], eventually: Callable[..., Any]
) -> None:
    expected = simulate(changing)
    events = list(with_closing_clock(changing, open_source(changing, None)))
    system = system_of("changing:changing")
    killed = system.start()
    system.produce(events[:4_000])
    eventually(lambda: sum(system.ends(system.topics.models).values()) > 10)
    killed.kill()
    killed.wait()
    worker = system.start()
    system.produce(events[4_000:])
    eventually(lambda: system.folded(worker))
    system.stop(worker)

    drifts = [json.loads(record.value) for record in system.read(system.topics.drift)]
    changes = [json.loads(record.value) for record in system.read(system.topics.models)]
    assert {event["severity"] for event in drifts} >= {"drift", "recovered"}
    reasons = [change["reason"] for change in changes if change.get("kind") == "promotion"]
    assert {reason == "promote by ann" for reason in reasons} == {True, False}
    assert system.digests() == expected["digests"]

    audited = system.run("audit", "changing:changing", "--json")
    assert audited.returncode == 0, audited.stderr
    found = json.loads(audited.stdout)
    assert found["equal"] == found["checked"] > expected["predictions"]
