"""An upgrade on a real Kafka, while events come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import shop

from driftline.streams.simulation.sources import with_closing_clock

EVENTS = list(with_closing_clock(shop.orders, shop.trade(3_000)))


def has_folded(system: Any, worker: Any) -> bool:
    """Whether this worker, which need not be the first of the system, has folded all of the log."""
    assert worker.poll() is None, "the upgrade ended"
    ends = {str(number): end for number, end in system.ends(system.topics.log).items()}
    found = [json.loads(path.read_text()) for path in (system.home / "status").glob("*.json")]
    return any(status["pid"] == worker.pid and status["next_offsets"] == ends for status in found)


def test_new_code_takes_over_while_events_come(
    system_of: Callable[..., Any], eventually: Callable[..., Any], record_property: Callable[..., None]
) -> None:
    system = system_of("shop:orders")
    topics = system.topics
    old, said = system.command("worker", "shop:orders")
    fed = 0

    def feed(count: int) -> None:
        nonlocal fed
        system.produce(EVENTS[fed : fed + count])
        fed += count

    feed(3_000)
    eventually(lambda: sum(system.ends(topics.predictions).values()) > 1_000)
    new, _ = system.command("upgrade", "shop:orders_anew")

    def ended() -> bool:
        if fed < 5_000:
            feed(10)
        return old.poll() is not None

    eventually(ended)
    assert old.returncode == 0, "one that is superseded must not be started again"
    (line,) = [one for one in said.read_text().splitlines() if "other code has taken over" in one]
    assert "driftline upgrade" in line
    feed(len(EVENTS))
    eventually(lambda: has_folded(system, new))
    system.stop(new)
    predictions = system.read(topics.predictions)
    served = {r.timestamp: json.loads(r.value)["model"]["name"] for r in predictions}
    last = max(at for at, model in served.items() if model == "logistic")
    first = min(at for at, model in served.items() if model == "constant")
    record_property("gap_ms", first - last)
    print(f"gap {first - last} ms")
    ids = [json.loads(r.value)["event_id"] for r in predictions]
    assert len(ids) == len(set(ids)) == sum(isinstance(event, shop.Asked) for event in EVENTS)
    told = [json.loads(r.value) for r in system.read(topics.outcomes)]
    assert sorted(o["prediction_id"] for o in told) == sorted(f"{name}:bad" for name in ids)
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
    eventually(lambda: has_folded(system, new))
    system.stop(new)
    store = system.home / "feast"
    written = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert written
    again, said = system.command("worker", "shop:orders")
    assert again.wait(60) == 1
    assert "driftline upgrade" in said.read_text()
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == written
