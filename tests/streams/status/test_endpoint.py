"""A worker's endpoint before the worker's own loop turns."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from driftline.infra.local.kafka import free_port
from driftline.streams.status.endpoint import answering_while_starting
from driftline.streams.status.metric_definitions import MEASURES, PREFIX
from driftline.streams.status.metrics import Readings, WorkerMetrics
from tests.streams.status.scraping import got


def until_listening(port: int) -> None:
    while got(port, "/livez")[0] == 0:
        threading.Event().wait(0.01)


def test_a_worker_that_starts_is_alive_and_not_ready_until_its_own_loop_answers() -> None:
    port = free_port()
    with answering_while_starting(f"127.0.0.1:{port}"):
        until_listening(port)
        assert got(port, "/livez") == (200, '{"alive": true}')
        status, body = got(port, "/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "partitions": {}})
        assert b"process_cpu_seconds_total" in got(port, "/metrics")[1].encode()
    assert got(port, "/livez")[0] == 0
    with answering_while_starting(f"127.0.0.1:{port}"):  # the address is free again
        until_listening(port)


def test_signals_are_for_the_worker_and_not_for_the_thread_that_answers() -> None:
    own = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    others = set(threading.enumerate())
    with answering_while_starting(f"127.0.0.1:{free_port()}"):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == own
        (thread,) = set(threading.enumerate()) - others
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    assert blocked >> (signal.SIGTERM - 1) & 1
    assert blocked >> (signal.SIGINT - 1) & 1


def test_a_worker_without_an_address_answers_nowhere() -> None:
    threads = threading.active_count()
    with answering_while_starting(None):
        assert threading.active_count() == threads


def test_a_scrape_lets_answers_in_between_its_metrics_and_is_of_one_moment() -> None:
    def readings(value: float) -> Readings:
        found = Readings("orders")
        for measure in MEASURES.values():
            found.set(measure.name, value, *measure.labels)
        return found

    async def run() -> tuple[bytes, int]:
        metrics, turns = WorkerMetrics(), 0
        metrics.show(readings(1.0))
        scrape = asyncio.create_task(metrics.text())
        while not scrape.done():
            await asyncio.sleep(0)
            turns += 1
            metrics.show(readings(2.0))
        return scrape.result(), turns

    text, turns = asyncio.run(run())
    families = list(text_string_to_metric_families(text.decode()))
    own = [sample for family in families if family.name.startswith(PREFIX) for sample in family.samples]
    assert {sample.name for sample in own} == {measure.series for measure in MEASURES.values()}
    assert {sample.value for sample in own} == {1.0}
    assert turns >= len(families)
