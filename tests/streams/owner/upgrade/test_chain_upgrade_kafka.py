"""An upgrade of a chain on a real Kafka, while events come; then both epochs are audited."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import parcels

from driftline.streams.simulation.sources import with_closing_clock

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
    topics = system.topics
    old, said = system.command("worker", "parcels:on_two")
    fed = 0

    def feed(count: int) -> None:
        nonlocal fed
        system.produce(EVENTS[fed : fed + count])
        fed += count

    feed(250)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 50)
    new, told = system.command("upgrade", "parcels:on_two_anew")

    def ended() -> bool:
        assert new.poll() is None, told.read_text()
        if fed < 350:
            feed(10)
        return old.poll() is not None

    eventually(ended)
    assert old.returncode == 0, "one that is superseded must not be started again"
    assert "other code has taken over" in said.read_text()
    assert "published predictions" in told.read_text()
    feed(len(EVENTS))
    requests = [event.id for event in EVENTS if isinstance(event, parcels.Sent)]
    eventually(lambda: sum(system.ends(topics.outcomes).values()) >= len(requests))
    system.stop(new)
    predictions = system.read(topics.predictions)
    answered = Counter(json.loads(record.value)["event_id"] for record in predictions)
    assert answered == Counter(requests)
    served = {r.timestamp: json.loads(r.value)["model"]["name"] for r in predictions}
    last = max(at for at, model in served.items() if model == "share")
    first = min(at for at, model in served.items() if model == "half")
    record_property("gap_ms", first - last)
    print(f"gap {first - last} ms")
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
