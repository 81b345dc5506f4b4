"""Metrics and health of workers on a real broker: what a scrape has, and what a take-over does to it."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import shop
from prometheus_client.parser import text_string_to_metric_families

from driftline.infra.local.kafka import free_port
from driftline.streams.status.metric_definitions import MEASURES, PREFIX

ONCE_IT_HAPPENED = (
    "dead_letters",
    "drift_events",
    "model_changes",
    "open_incidents",
    "checkpoint_bytes",
    "checkpoint_cpu_seconds",
    "checkpoint_age_seconds",
)
"""Measures without a value before something of their kind has happened in this process."""

KEYS = 10_000

Sample = tuple[str, frozenset[tuple[str, str]]]


def got(port: int, path: str) -> tuple[int, str]:
    """Status and body of a request; status 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def scraped(port: int) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Values by series and labels."""
    series: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(got(port, "/metrics")[1]):
        for sample in family.samples:
            series.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return series


def total(port: int, name: str, **labels: str) -> float:
    """The sum of a measure's values that have these labels."""
    values = scraped(port).get(MEASURES[name].series, {})
    return sum(value for found, value in values.items() if set(labels.items()) <= found)


def test_a_scrape_has_what_the_log_made_and_a_take_over_is_no_burst(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    first_port, second_port = free_port(), free_port()
    first, _ = system.command("worker", "shop:orders", DRIFTLINE_METRICS=f"127.0.0.1:{first_port}")
    trade = list(shop.trade(120))
    eventually(lambda: got(first_port, "/readyz")[0] == 200)
    system.produce(trade[:200])
    eventually(lambda: system.folded(first))
    eventually(lambda: got(first_port, "/readyz")[0] == 200)
    assert json.loads(got(first_port, "/readyz")[1])["partitions"] == dict.fromkeys(
        "012"[: system.case.partitions], "serving"
    )
    assert got(first_port, "/livez") == (200, '{"alive": true}')

    refolded = system.refolded()
    events = sum(processor.intake.counts.events for processor, _ in refolded)
    predictions = sum(processor.intake.counts.predictions for processor, _ in refolded)
    assert predictions > 0
    eventually(lambda: total(first_port, "records", result="accepted") == events)
    assert total(first_port, "predictions") == predictions
    assert total(first_port, "lag_records") == 0
    assert total(first_port, "fold_seconds") > 0
    eventually(lambda: scraped(first_port).get(MEASURES["model_quality"].series))
    declared = {measure.series for measure in MEASURES.values()}
    present = {name for name in scraped(first_port) if name.startswith(PREFIX)}
    assert present <= declared
    assert declared - present <= {MEASURES[name].series for name in ONCE_IT_HAPPENED}

    second, _ = system.command("worker", "shop:orders", DRIFTLINE_METRICS=f"127.0.0.1:{second_port}")

    def both() -> float:
        return total(first_port, "records", result="accepted") + total(
            second_port, "records", result="accepted"
        )

    eventually(lambda: total(second_port, "records", result="accepted") > 0)
    eventually(lambda: both() == events)
    first.send_signal(signal.SIGKILL)
    first.wait()
    sums = []

    def taken_over() -> bool:
        sums.append(total(second_port, "records", result="accepted"))
        return sums[-1] == events

    eventually(taken_over)
    assert max(sums) == events, "no counter is above what the log has"
    system.stop(second)


def test_the_number_of_series_does_not_grow_with_the_keys(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    port = free_port()
    worker, _ = system.command("worker", "shop:orders", DRIFTLINE_METRICS=f"127.0.0.1:{port}")
    system.produce(shop.asked(n, n / 200, f"s{n}") for n in range(KEYS))  # all within the hour of the windows
    eventually(lambda: total(port, "predictions") == KEYS)
    assert total(port, "window_keys", windows="Asked by shop") == KEYS
    assert sum(map(len, scraped(port).values())) < 500
    system.stop(worker)


def test_a_worker_whose_address_is_taken_serves_and_listens_once_it_is_free(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        worker, said = system.command("worker", "shop:orders", DRIFTLINE_METRICS=f"127.0.0.1:{port}")
        system.produce(shop.trade(10))
        eventually(lambda: system.folded(worker))
        eventually(lambda: "listening on" in said.read_text())
    eventually(lambda: got(port, "/livez")[0] == 200)
    system.stop(worker)
