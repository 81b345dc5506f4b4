"""What the gateway makes of a request before anything is asked of Kafka; there is none here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import shop
from starlette.types import ASGIApp

from driftline.infra.gateway.access import AccessKeys
from driftline.infra.gateway.app import create_app
from driftline.infra.gateway.middleware import Limits
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.local.kafka import free_port
from driftline.infra.settings import Settings

BASE = "/v1/cases/orders"
LIMITS = Limits(body_bytes=1_000, streams=1)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = msgspec.json.decode(self.body)
        assert found["status"] == self.status
        return found


Ask = Callable[..., Answer]
NOWHERE = f"127.0.0.1:{free_port()}"


async def answered(
    app: ASGIApp, method: str, path: str, body: list[bytes], headers: dict[str, str]
) -> Answer:
    """What the application answers to a request whose body comes in pieces."""
    pieces = [
        {"type": "http.request", "body": piece, "more_body": n < len(body)} for n, piece in enumerate(body, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    place, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": place, "raw_path": place.encode(),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "http_version": "1.1",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("gateway", 80), "client": ("client", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], said, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    keys = AccessKeys(tmp_path / "keys.json")
    key = keys.add("all", ("produce", "read", "read:values", "operate"))

    def asked(
        method: str,
        path: str,
        *body: bytes,
        limits: Limits = LIMITS,
        store: str | None = None,
        **headers: str,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {key}"} | {
            n.replace("_", "-"): value for n, value in headers.items()
        }

        async def run() -> Answer:
            settings = Settings() if store is None else Settings(online_store=store)
            streams = OpenStreams(limits.streams)
            app = create_app([shop.operated], NOWHERE, settings, keys, limits, streams)
            return await answered(app, method, path, [*body] or [b""], sent)

        return asyncio.run(run())

    return asked


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json; charset=latin-1"},
        {"Content_Encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused_with_what_to_send(ask: Ask, headers: dict[str, str]) -> None:
    answer = ask("POST", f"{BASE}/predictions", b"{}", **headers)
    assert answer.status == 415
    assert "send" in answer.problem["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON; charset=UTF-8", 'application/json; charset="utf-8"', ""]
)
def test_json_is_json_however_it_is_written(ask: Ask, kind: str) -> None:
    answer = ask("POST", f"{BASE}/predictions", b'{"amount":', b"NaN}", Content_Type=kind)
    assert (answer.status, answer.problem["stage"]) == (422, "decode")


def test_a_body_above_the_limit_is_refused_however_it_comes(ask: Ask) -> None:
    assert ask("POST", f"{BASE}/events", *[b"x" * 400] * 3).status == 413
    assert ask("POST", f"{BASE}/events", b"", Content_Length="1001").status == 413
    assert ask("POST", f"{BASE}/events", b"", Content_Length="9" * 5_000).status == 422, (
        "it is h11's to refuse"
    )
    assert ask("POST", f"{BASE}/events", b" " * 1_000).status == 422


def test_headers_above_the_limit_are_refused(ask: Ask) -> None:
    assert ask("GET", f"{BASE}/schema", X_Long="x" * 60_000).status == 200
    assert ask("GET", f"{BASE}/schema", X_Long="x" * 66_000).problem["status"] == 431


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ((b'"amount":1.0', b'"amount":1.0,"amount":2.0'), "amount"),
        ((b'"amount":1.0', b'"amount":1e300'), "amount"),
        ((b'"at":"2024', b'"at":"0001'), "year"),
        ((b'"order":"o0"', b'"order":"' + b"x" * 70_000 + b'"'), "limit"),
    ],
)
def test_what_the_fold_would_not_decode_is_not_sent(
    ask: Ask, changed: tuple[bytes, bytes], reason: str
) -> None:
    body = msgspec.json.encode(shop.asked(0, 0.0))
    assert changed[0] in body
    answer = ask("POST", f"{BASE}/predictions", body.replace(*changed), limits=Limits())
    assert (answer.status, answer.problem["stage"]) == (422, "decode")
    assert reason in answer.problem["detail"]


def test_what_is_not_there_is_reported_as_a_problem(ask: Ask) -> None:
    assert ask("GET", f"{BASE}/models/").problem["status"] == 404
    assert ask("GET", "/v1/cases/others/models").problem["status"] == 404
    options = ask("OPTIONS", f"{BASE}/predictions")
    assert (options.status, options.headers["allow"]) == (405, "POST")
    assert ask("GET", f"{BASE}/features/none?shop=s").problem["status"] == 404
    assert ask("GET", f"{BASE}/records/events").problem["title"] == "Wrong parameter"
    assert "limit" in ask("GET", f"{BASE}/records/drift?limit=0").problem["detail"]


@pytest.mark.parametrize("since", ["x", "0:1,0:2", "0:-1", "0:1,", "0:" + "9" * 30])
def test_a_position_that_is_none_is_refused(ask: Ask, since: str) -> None:
    for path in ("records", "streams"):
        assert ask("GET", f"{BASE}/{path}/models?since={since}").problem["title"] == "No such position"


def test_head_is_answered_as_get_and_every_answer_has_an_id(ask: Ask) -> None:
    answer = ask("HEAD", f"{BASE}/schema", X_Request_ID="mine")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "mine")
    assert ask("GET", f"{BASE}/schema").headers["x-request-id"] not in ("", "mine")


def test_without_kafka_what_needs_it_is_to_be_asked_again(ask: Ask) -> None:
    for path in ("records/models", "records/models?since=0:0", "streams/models", "models", "incidents"):
        answer = ask("GET", f"{BASE}/{path}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), path
    assert ask("GET", "/livez").status == 200


def test_an_online_store_that_is_silent_or_away_is_for_later_and_a_wrong_view_is_not_there(ask: Ask) -> None:
    view = f"{BASE}/features/orders_by_shop?shop=s"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = ask("GET", view, store=f"redis://127.0.0.1:{silent.getsockname()[1]}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "no answer within" in answer.problem["detail"]
    answer = ask("GET", view, store=f"redis://{NOWHERE}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert NOWHERE in answer.problem["detail"]
    assert ask("GET", f"{BASE}/features/other?shop=s", store=f"redis://{NOWHERE}").status == 404
