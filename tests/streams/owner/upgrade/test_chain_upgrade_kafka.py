"""An upgrade of a chain on a real Kafka, while events come; then both epochs are audited."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import parcels

from driftline.streams.simulation.sources import with_closing_clock
from tests.streams.owner.upgrade.upgrade_on_kafka import UpgradeUnderLoad, gap_ms

EVENTS = list(with_closing_clock(parcels.on_two, parcels.events(300)))


def audited(system: Any, case: str) -> dict[str, Any]:
    """What `driftline audit` says under the code of a case."""
    done = system.run("audit", case, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["first_difference"] is None
    assert found["checked"] == found["equal"] > 0
    return found


def test_new_code_takes_a_chain_over_while_events_come_and_both_epochs_are_audited(
    system_of: Callable[..., Any], eventually: Callable[..., Any], record_property: Callable[..., None]
) -> None:
    system = system_of("parcels:on_two")
    topics, upgrade = system.topics, UpgradeUnderLoad(system, EVENTS, eventually)
    upgrade.serve(250)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 50)
    upgrade.take_over("parcels:on_two_anew", 350)
    assert "other code has taken over" in upgrade.old_said.read_text()
    assert "published predictions" in upgrade.new_said.read_text()
    requests = [event.id for event in EVENTS if isinstance(event, parcels.Sent)]
    eventually(lambda: sum(system.ends(topics.outcomes).values()) >= len(requests))
    system.stop(upgrade.new)
    predictions = system.read(topics.predictions)
    answered = Counter(json.loads(record.value)["event_id"] for record in predictions)
    assert answered == Counter(requests)
    record_property("gap_ms", gap_ms(predictions, "share", "half"))
    outcomes = [json.loads(record.value) for record in system.read(topics.outcomes)]
    assert {one["event_id"] for one in outcomes} == set(requests)
    for topic in (topics.predictions, topics.outcomes):
        places = [position for _, position in system.sources(topic)]
        assert places == sorted(set(places))
    for served in (predictions[0], predictions[-1]):  # each is followed under the new code
        done = system.run("lineage", json.loads(served.value)["id"], "parcels:on_two_anew", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (json.loads(done.stdout)["epoch"]["difference"] is not None) == (served is predictions[0])
    of_old, of_new = audited(system, "parcels:on_two"), audited(system, "parcels:on_two_anew")
    published = sum(len(system.read(topic)) for topic in (topics.predictions, topics.outcomes))
    assert of_old["unchecked"] > 0
    assert of_new["unchecked"] > 0
    assert of_old["unchecked"] + of_new["unchecked"] >= published
