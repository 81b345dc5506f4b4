"""TopicPast that is learned from at the start of a log on a real Kafka."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import shop

from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.events import Event
from driftline.streams.simulation.sources import as_warm_up, with_closing_clock

EVENTS = list(with_closing_clock(shop.orders, shop.trade(400)))
HISTORY, LIVE = EVENTS[:300], EVENTS[300:]


def written(path: Path, events: Sequence[Event]) -> Path:
    codec = shop.orders.codec()
    path.write_bytes(b"\n".join(codec.encode(event) for event in events))
    return path


def test_what_a_worker_answers_after_a_warm_up_is_what_simulate_answers_and_only_a_new_log_has_one(
    system_of: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    system = system_of("shop:orders")
    history, live = written(tmp_path / "history.jsonl", HISTORY), written(tmp_path / "live.jsonl", LIVE)

    # a producer that was killed: the marker everywhere, and half of the history in one partition
    with EventProducer(shop.orders, system.bootstrap, namespace=system.namespace) as producer:
        warm_up = as_warm_up(shop.orders, HISTORY)
        producer.send(next(warm_up))
        for event in itertools.islice(warm_up, 150):
            if event.shop == "s":  # type: ignore[attr-defined]
                producer.send(event)
    worker = system.start()
    eventually(lambda: system.folded(worker))
    eventually(lambda: all(one.get("warming_up") for one in system.status["partitions"].values()))
    assert "in a warm-up: nothing is answered" in system.run("status").stdout
    system.stop(worker)

    other = written(tmp_path / "other.jsonl", HISTORY[4:])
    refused = system.run("produce", "shop:orders", other, "--warm-up")
    assert refused.returncode == 1
    assert "another history" in refused.stderr
    assert system.run("produce", "shop:orders", history, "--warm-up").returncode == 0
    again = system.run("produce", "shop:orders", history, "--warm-up")
    assert again.returncode == 1
    assert "only the beginning of a log can be a warm-up" in again.stderr
    worker = system.start()
    assert system.run("produce", "shop:orders", live).returncode == 0
    eventually(lambda: system.folded(worker))
    system.stop(worker)

    said = system.run("simulate", "shop:orders", live, "--warm-up", history, "--json")
    expected = json.loads(said.stdout)
    answered = [json.loads(record.value)["event_id"] for record in system.read(system.topics.predictions)]
    assert sorted(answered) == sorted(event.id for event in LIVE if isinstance(event, shop.Asked))
    assert system.digests() == expected["digests"]
    assert system.status["models"] == expected["models"]
