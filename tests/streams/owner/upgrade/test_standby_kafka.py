"""An upgrade on a real Kafka, while events come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import shop

from driftline.streams.simulation.sources import with_closing_clock
from tests.streams.owner.upgrade.upgrade_on_kafka import UpgradeUnderLoad, gap_ms

EVENTS = list(with_closing_clock(shop.orders, shop.trade(3_000)))


def test_new_code_takes_over_while_events_come(
    system_of: Callable[..., Any], eventually: Callable[..., Any], record_property: Callable[..., None]
) -> None:
    system = system_of("shop:orders")
    topics, upgrade = system.topics, UpgradeUnderLoad(system, EVENTS, eventually)
    upgrade.serve(3_000)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 1_000)
    upgrade.take_over("shop:orders_anew", 5_000)
    (line,) = [one for one in upgrade.old_said.read_text().splitlines() if "other code has taken over" in one]
    assert "driftline upgrade" in line
    eventually(lambda: system.folded(upgrade.new))
    system.stop(upgrade.new)
    predictions = system.read(topics.predictions)
    record_property("gap_ms", gap_ms(predictions, "logistic", "constant"))
    ids = [json.loads(r.value)["event_id"] for r in predictions]
    assert len(ids) == len(set(ids)) == sum(isinstance(event, shop.Asked) for event in EVENTS)
    outcomes = [json.loads(r.value) for r in system.read(topics.outcomes)]
    assert sorted(o["prediction_id"] for o in outcomes) == sorted(f"{name}:bad" for name in ids)
    for topic in (topics.predictions, topics.outcomes):
        for partition in range(2):
            places = [position for number, position in system.sources(topic) if number == partition]
            assert places == sorted(set(places))


@pytest.mark.soak
def test_new_code_takes_over_a_log_to_which_nothing_comes(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    old, _ = system.command("worker", "shop:orders")
    system.produce(EVENTS[:200])
    eventually(lambda: system.folded(old))
    new, _ = system.command("upgrade", "shop:orders_anew")
    eventually(lambda: old.poll() is not None)
    assert old.returncode == 0, "one that is superseded must not be started again"
    status = system.status
    assert status is not None
    assert "driftline upgrade" in status["ended"]["reason"]
    assert not status["ended"]["failed"]
    eventually(lambda: system.folded(new))
    system.stop(new)
    store = system.home / "feast"
    written = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert written
    again, said = system.command("worker", "shop:orders")
    assert again.wait(60) == 1
    assert "driftline upgrade" in said.read_text()
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == written
