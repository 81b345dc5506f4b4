"""Runs a gateway until a signal ends it."""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from driftline import logs
from driftline.infra.gateway.access import AccessKeys
from driftline.infra.gateway.app import create_app
from driftline.infra.gateway.connection import Connection
from driftline.infra.gateway.metrics import GatewayMetrics
from driftline.infra.gateway.middleware import HEAD_BYTES, Limits
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.metrics_server import serve_metrics
from driftline.infra.settings import Settings
from driftline.streams.connection.clients import see_that_let_in
from driftline.streams.declare.usecase import UseCase

ANSWERS_END_WITHIN = 5
"""Seconds that requests in progress get to be answered when the gateway is to end."""

KEPT_OPEN = 75
"""Seconds that an idle connection stays open. It is longer than the usual 60 s of proxies: else they would
send a request into a connection that is being closed, and answer 502."""


class _Server(uvicorn.Server):
    """Ends the event streams at the signal, as uvicorn itself does not end them."""

    def __init__(self, config: uvicorn.Config, streams: OpenStreams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.is_ending = True
        super().handle_exit(sig, frame)


def keys_of(settings: Settings) -> AccessKeys:
    """The access keys of the gateways that use this home folder."""
    return AccessKeys(settings.home / "gateway-keys.json")


def server_of(app: FastAPI, host: str, port: int, streams: OpenStreams) -> uvicorn.Server:
    """A server for the application, not yet started."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,  # longer heads are refused
        log_config=None,  # uvicorn logs to our handlers
        access_log=False,
        timeout_keep_alive=KEPT_OPEN,
        timeout_graceful_shutdown=ANSWERS_END_WITHIN,
        server_header=False,
    )
    return _Server(config, streams)


def run_gateway(
    cases: Sequence[UseCase],
    settings: Settings,
    host: str,
    port: int,
    limits: Limits,
    metrics: tuple[str, int] | None,
) -> None:
    """Serve cases over HTTP until SIGTERM or SIGINT, and their metrics at another address."""
    logs.begin()
    streams = OpenStreams(limits.streams)
    bootstrap = bootstrap_of(settings)
    see_that_let_in(bootstrap)
    app = create_app(cases, bootstrap, settings, keys_of(settings), limits, streams)
    if metrics is not None:
        serve_metrics(metrics, GatewayMetrics(app.state.reads).registry)
    server_of(app, host, port, streams).run()
