"""The auditor that runs beside a worker: it proves what is published, and notices a forgery."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import parcels
import shop
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from driftline.infra.local.kafka import free_port
from driftline.streams.owner.deployment import code_of


def figures(port: int) -> dict[str, float]:
    """Sums over the partitions by metric; empty while nobody listens."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except (URLError, OSError):
        return {}
    return {
        family.name: sum(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(text)
    }


def test_all_that_a_worker_publishes_is_proved_and_what_somebody_forged_is_a_difference(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    port = free_port()
    auditor, said = system.command(
        "audit", "shop:orders", "--follow", "--metrics", f"127.0.0.1:{port}", DRIFTLINE_LOG="json"
    )
    worker = system.start()
    trade = list(shop.trade(200))
    for part in (trade[:150], trade[150:]):
        system.produce(part)
        eventually(lambda: system.folded(worker))
        end = sum(system.ends(system.topics.log).values())
        eventually(lambda end=end: figures(port).get("driftline_audit_verified_offset") == end)
    seen = figures(port)
    published = sum(len(system.sources(getattr(system.topics, kind))) for kind in KINDS)
    assert seen["driftline_audit_checked"] == published
    assert (seen["driftline_audit_differences"], seen["driftline_audit_unchecked"]) == (0, 0)

    # a worker that is killed publishes nothing twice, and what it does publish goes on being proved
    worker.kill()
    worker.wait()
    worker = system.start()
    last = max(event.at for event in trade)
    system.produce([shop.Asked(id="after", at=last, order="after", shop="s1", amount=1.0)])
    eventually(lambda: system.folded(worker))
    end = sum(system.ends(system.topics.log).values())
    eventually(lambda: figures(port).get("driftline_audit_verified_offset") == end)

    forged = KafkaProducer(bootstrap_servers=system.bootstrap)
    before = next(record for record in system.read(system.topics.predictions) if record.partition == 0)
    forged.send(
        system.topics.predictions,
        value=before.value,
        key=before.key,
        headers=[("source", b"%d:9" % (system.ends(system.topics.log)[0] - 1))],
        partition=0,
    )
    forged.flush()
    forged.close()
    system.produce(
        shop.Asked(id=f"more-{n}", at=last, order=f"more-{n}", shop=f"s{n}", amount=1.0) for n in range(12)
    )
    eventually(lambda: figures(port).get("driftline_audit_differences", 0) > 0)
    eventually(lambda: "difference:" in said.read_text())
    (line,) = [one for one in said.read_text().splitlines() if "difference:" in one][:1]
    assert json.loads(line)["case"] == "orders"
    auditor.send_signal(signal.SIGTERM)
    assert auditor.wait(60) == 1


def test_every_stage_of_a_chain_is_proved_beside_its_worker(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("parcels:on_two")
    port = free_port()
    auditor, said = system.command("audit", system.case_path, "--follow", "--metrics", f"127.0.0.1:{port}")
    worker = system.start()
    happened = list(parcels.events(60))
    system.produce(happened)
    between = [spec.name for spec in system.topics.between(code_of(system.case).short)]

    def all_is_proved() -> bool:
        sent = sum(len(system.read(topic)) for topic in between)
        published = sum(len(system.sources(getattr(system.topics, kind))) for kind in KINDS)
        return sent > 200 and figures(port).get("driftline_audit_checked") == sent + published

    eventually(all_is_proved)
    assert figures(port)["driftline_audit_differences"] == figures(port)["driftline_audit_unchecked"] == 0
    system.stop(worker)
    auditor.send_signal(signal.SIGTERM)
    assert auditor.wait(60) == 0, said.read_text()


KINDS = ("predictions", "outcomes", "drift", "models", "dead_letters")
