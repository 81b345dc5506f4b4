"""Requests made from the OpenAPI document, right and wrong ones: none is a fault, none slips into the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
import shop
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from tests.infra.gateway.gateways import Gateways

TESTED_ALONE = "/streams/"
"""An event stream has no end."""


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: Any, value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


CHOSEN = settings(
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

PATIENCE = 60
"""How often a request is sent again."""
EXAMPLES = 200
"""Requests for each of the operations."""


class Tried:
    """What was sent, and what became of it."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=30"}
        self.statuses: Counter[int] = Counter()
        self.accepted: set[str] = set()
        """Ids of the events that were said to be in the log, among them those which the fold refused."""

    def send(self, case: Any) -> None:
        answer = case.call(base_url=self._address, headers=self._headers, timeout=60)
        for _ in range(PATIENCE):  # what Kafka does not answer in time, as on a busy machine, is asked again
            if "retry-after" not in answer.headers:
                break
            time.sleep(float(answer.headers["retry-after"][0]))
            answer = case.call(base_url=self._address, headers=self._headers, timeout=60)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            assert answer.json()["status"] == answer.status_code
        self.statuses[answer.status_code] += 1
        by_fold = answer.status_code == 422 and answer.json().get("stage", "decode") != "decode"
        if case.method == "POST" and (answer.status_code in (200, 202) or by_fold):
            body = answer.request.body or b""
            for line in (body if isinstance(body, bytes) else body.encode()).split(b"\n"):
                with suppress(
                    ValueError, KeyError, TypeError
                ):  # among several lines, one that is no JSON had a problem of its own
                    self.accepted.add(json.loads(line)["id"])


@pytest.mark.soak
def test_no_request_by_the_document_is_a_fault(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(20))
    eventually(lambda: system.folded(worker))
    known = {record.value for record in system.read(system.topics.log)}
    gateways = Gateways(system)
    key = gateways.new_key("everything", "produce", "read", "read:values", "operate")
    port = gateways.start()
    asyncio.run(gateways.until_ready(port))
    address = f"http://127.0.0.1:{port}"
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tried = Tried(address, key)
    for found in document.get_all_operations():
        operation = found.ok()
        if TESTED_ALONE in operation.path:
            continue
        modes = [GenerationMode.POSITIVE]
        if len(operation.body) or len(operation.query):  # any text is right in a path
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode)
            settings(CHOSEN, max_examples=EXAMPLES)(given(case=cases)(tried.send))()

    print(f"{tried.statuses.total():,} requests, by status: {dict(sorted(tried.statuses.items()))}")
    assert tried.statuses.total() >= 13 * EXAMPLES
    assert tried.statuses[200] > 0
    assert tried.statuses[422] > 0
    assert "Traceback" not in gateways.logs[0].read_text()
    codec = system.case.codec()
    for record in system.read(system.topics.log):
        if record.value not in known:
            assert codec.decode(record.value, record.key).id in tried.accepted
    assert worker.poll() is None
