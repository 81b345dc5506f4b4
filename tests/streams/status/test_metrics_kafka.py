"""Metrics and health of workers on a real broker: what a scrape has, and what a take-over does to it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shop
from prometheus_client.parser import text_string_to_metric_families

from driftline.infra.local.kafka import free_port
from driftline.streams.status.metric_definitions import MEASURES, PREFIX
from tests.commands.forked_command import Command
from tests.streams.status import held_shop
from tests.streams.status.scraping import got

ONCE_IT_HAPPENED = (
    "dead_letters",
    "drift_events",
    "model_changes",
    "open_incidents",
    "drift_subjects",
    "state_bytes",
    "state_disk_bytes",
    "checkpoint_bytes",
    "checkpoint_cpu_seconds",
    "checkpoint_age_seconds",
)
"""Measures without a value before something of their kind has happened in this process."""

OF_REPLICAS = (
    "replica_staleness_labels",
    "replica_staleness_seconds",
    "replica_publish_every_labels",
    "replica_publish_every_seconds",
)
"""Measures of cases with replicas only."""
KEYS = 10_000

Sample = tuple[str, frozenset[tuple[str, str]]]


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
    assert declared - present <= {MEASURES[name].series for name in ONCE_IT_HAPPENED + OF_REPLICAS}

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


@pytest.mark.soak  # a checkpoint is taken after a minute
def test_a_scrape_has_what_has_happened(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:operated")
    port = free_port()
    worker, _ = system.command("worker", "shop:operated", DRIFTLINE_METRICS=f"127.0.0.1:{port}")
    # what is published in a take-over is not counted
    eventually(lambda: total(port, "partition_state", state="serving") == system.case.partitions)
    events = list(shop.dearer())  # the models are frozen, and the amounts drift
    late = shop.asked(len(events), 0.0)  # a dead letter
    system.produce([*events, late])
    happened = {MEASURES[name].series for name in ONCE_IT_HAPPENED}
    eventually(lambda: not happened - scraped(port).keys())
    assert total(port, "dead_letters", stage="late") == 1
    assert total(port, "open_incidents") >= 1
    assert total(port, "model_changes", kind="frozen") >= 1
    assert total(port, "checkpoint_bytes") > 0
    system.stop(worker)


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


class Scrapes:
    """What Prometheus makes of scrapes: a series that falls was reset, and one that appears begins."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, str, frozenset[tuple[str, str]]], float] = {}
        self.increase: Counter[str] = Counter()
        """How much the counters of all workers have grown, by series."""

    def look(self, *ports: int) -> float:
        """Scrape the workers; returns how many accepted records they have together."""
        accepted = 0.0
        for port in ports:
            for series, values in scraped(port).items():
                for labels, value in values.items():
                    if series.startswith(PREFIX) and series.endswith("_total"):
                        before = self._last.get((port, series, labels), value)
                        self.increase[series] += value - before if value >= before else value
                        self._last[port, series, labels] = value
                    if series == MEASURES["records"].series and ("result", "accepted") in labels:
                        accepted += value
        return accepted


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Path]]:
    """FIFOs that hold checkpoints; with the test they are opened for good."""
    paths = [tmp_path / f"gate-{number}" for number in range(3)]
    for path in paths:
        os.mkfifo(path)
    yield paths
    for path in paths:
        opened = os.open(path, os.O_RDWR)
        path.unlink()
        os.close(opened)


def is_held(gate: Path) -> bool:
    """Whether a checkpoint waits at a gate; each look lets one of its thousands of models pass."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False  # nobody reads there
    return True


def held_worker(system: Any, port: int, gate: Path | None = None) -> tuple[Command, Path]:
    """A worker of the shop in `held_shop`, and the file of what it says."""
    gates = {} if gate is None else {held_shop.GATE: str(gate)}
    return system.command("worker", system.case_path, DRIFTLINE_METRICS=f"127.0.0.1:{port}", **gates)


@pytest.mark.soak
def test_of_three_workers_one_is_killed_during_a_checkpoint(
    system_of: Callable[..., Any], eventually: Callable[..., Any], gates: list[Path]
) -> None:
    system = system_of("tests.streams.status.held_shop:orders")
    ports = [free_port() for _ in gates]
    workers = [held_worker(system, port, gate)[0] for port, gate in zip(ports, gates, strict=True)]
    eventually(lambda: all(got(port, "/readyz")[0] == 200 for port in ports))
    eventually(lambda: all(len(json.loads(got(port, "/readyz")[1])["partitions"]) == 1 for port in ports))
    events = list(held_shop.asked())
    system.produce(events)
    scrapes = Scrapes()
    eventually(lambda: scrapes.look(*ports) == len(events))
    failed = KEYS / held_shop.FAILS_EVERY
    eventually(lambda: sum(total(port, "model_failures") for port in ports) == failed)
    assert all(sum(map(len, scraped(port).values())) < 500 for port in ports)

    killed = eventually(lambda: [number for number, gate in enumerate(gates) if is_held(gate)])[0]
    scrapes.look(*ports)
    scrapes.increase.clear()
    workers[killed].kill()
    workers[killed].wait()
    assert is_held(gates[killed]), "whoever writes the checkpoint is still there"
    socket.create_server(("127.0.0.1", ports[killed])).close()
    _, said = held_worker(system, ports[killed])
    sums: list[float] = []

    def is_served() -> bool:
        sums.append(scrapes.look(*ports))
        return got(ports[killed], "/readyz")[0] == 200 and sums[-1] == len(events)

    eventually(is_served)
    eventually(lambda: sum(total(port, "model_failures") for port in ports) == failed)
    scrapes.look(*ports)
    assert max(sums) == len(events), "no sum is above what the log has"
    # what a take-over itself takes; rows are written again where the checkpoint is older than they are
    own = {MEASURES[name].series for name in ("take_overs", "fold_seconds", "feature_rows_written")}
    assert {series for series, grown in scrapes.increase.items() if grown} <= own
    assert "listening on" not in said.read_text(), "the port was free at once"
