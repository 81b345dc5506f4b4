"""Requests made from the OpenAPI document, right and wrong ones: none is a fault, none slips into the log."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
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


@pytest.mark.parametrize("examples", [5, pytest.param(200, marks=pytest.mark.soak)])
def test_no_request_by_the_document_is_a_fault(
    system_of: Callable[..., Any], eventually: Callable[..., Any], examples: int
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
    statuses: Counter[int] = Counter()
    taken: set[str] = set()

    def sent(case: Any) -> None:
        headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=30"}
        answer = case.call(base_url=address, headers=headers, timeout=60)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            assert answer.json()["status"] == answer.status_code
        statuses[answer.status_code] += 1
        text = answer.request.body or b""
        by_fold = answer.status_code == 422 and answer.json().get("stage", "decode") != "decode"
        if answer.status_code in (200, 202) or by_fold:
            taken.update(text.decode().split("\n") if isinstance(text, bytes) else text.split("\n"))

    for found in document.get_all_operations():
        operation = found.ok()
        if TESTED_ALONE in operation.path:
            continue
        modes = [GenerationMode.POSITIVE]
        if len(operation.body) or len(operation.query):  # any text is right in a path
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode)
            tried = settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            tried(given(case=cases)(sent))()

    assert statuses.total() >= 13 * examples
    assert statuses[200] > 0
    assert statuses[422] > 0
    assert "Traceback" not in gateways.logs[0].read_text()
    accepted = {json.loads(line).get("id") for line in taken if line.startswith("{")}
    codec = system.case.codec()
    for record in system.read(system.topics.log):
        if record.value not in known:
            assert codec.decode(record.value, record.key).id in accepted
    assert worker.poll() is None
