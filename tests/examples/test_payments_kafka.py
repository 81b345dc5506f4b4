"""The payments case on a real Kafka: a worker publishes what simulate says, and every entity can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from driftline.examples.payments import payments
from driftline.examples.payments.events import Payment
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import open_source, with_closing_clock

PATH = "driftline.examples.payments:payments"
LIMIT = 6_000
Eventually = Callable[..., Any]


def produce_as_others_do(system: Any, events: list[Any]) -> None:
    """With another client, for which what a dispute or a report is about is no key of a record."""
    codec = system.case.codec()
    producer = KafkaProducer(bootstrap_servers=system.bootstrap, linger_ms=5)
    for event in events:
        key = codec.key(event) if isinstance(event, Payment) else None
        producer.send(system.topics.log, codec.encode(event), key=key)
    producer.flush(60)
    producer.close()


def said(system: Any, *arguments: str) -> dict[str, Any]:
    done = system.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def from_feast(path: Path, views: dict[str, Any], keys: dict[str, list[str]]) -> dict[str, list[Any]]:
    """What Feast's own client reads, in a process that knows nothing of the case."""
    script = (
        "import json, sys; from feast import FeatureStore; path, features, rows = json.loads(sys.argv[1]); "
        "found = FeatureStore(repo_path=path).get_online_features(features=features, entity_rows=rows); "
        "print(json.dumps(found.to_dict()))"
    )
    [(view, names)] = views.items()
    [(entity, values)] = keys.items()
    asked = [str(path), [f"{view}:{name}" for name in names], [{entity: value} for value in values]]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(asked)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


@pytest.mark.soak
def test_a_worker_publishes_what_simulate_says_and_every_entity_can_be_read(
    system_of: Callable[[str], Any], eventually: Eventually
) -> None:
    expected = simulate(payments, limit=LIMIT)
    events = list(with_closing_clock(payments, open_source(payments, None, LIMIT)))
    system = system_of(PATH)
    killed = system.start()
    system.produce(events[:3_000])
    eventually(lambda: sum(system.ends(system.topics.predictions).values()) > 500)
    killed.kill()
    killed.wait()
    worker = system.start()
    eventually(lambda: system.status is not None and system.status["pid"] == worker.pid)
    produce_as_others_do(system, events[3_000:])
    eventually(lambda: system.folded(worker))

    # while the worker serves: the newest row of every card, merchant and device
    [(_, out)] = system.refolded(rows=True)
    place = RepositoryLocation.of("payments", system.home, system.namespace, "sqlite", None)
    with FeatureClient(payments, place) as client:
        views = {view.name: view for view in payments.views()}
        assert {view for view, _ in out.rows} == set(views)

        def is_fresh() -> bool:
            return all(
                (row := client.get(view, dict(zip(views[view].keys, key, strict=True)))).event_time
                and row.event_time.timestamp() == pytest.approx(at, abs=1e-6)
                and {n: v.value for n, v in row.features.items() if v.value is not None} == values
                for (view, key), (at, values) in out.rows.items()
            )

        eventually(is_fresh)
    merchants = {
        key[0]: values for (view, key), (_, values) in out.rows.items() if view == "payments_by_merchant"
    }
    names = sorted({name for values in merchants.values() for name in values})
    found = from_feast(place.path, {"payments_by_merchant": names}, {"merchant": list(merchants)})
    for row, merchant in enumerate(found["merchant"]):
        assert {n: found[n][row] for n in names if found[n][row] is not None} == merchants[merchant]

    system.stop(worker)
    assert system.digests() == expected["digests"]
    audited = said(system, "audit", PATH)
    assert audited["equal"] == audited["checked"] >= expected["predictions"]
    assert said(system, "models", "list", PATH)["serving"].keys() <= {""}
