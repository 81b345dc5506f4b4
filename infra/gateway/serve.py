"""Runs the gateway until a signal."""

from __future__ import annotations

from collections.abc import Sequence

import uvicorn

from driftline import logs
from driftline.infra.gateway.access import AccessKeys
from driftline.infra.gateway.app import Limits, create_app
from driftline.infra.serving.serve import bootstrap_of
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase

ANSWERS_END_WITHIN = 5
"""Seconds that answers on their way get when the gateway is asked to end."""


def keys_of(settings: Settings) -> AccessKeys:
    """The keys of the gateways that use this home."""
    return AccessKeys(settings.home / "gateway-keys.json")


def run_gateway(cases: Sequence[UseCase], settings: Settings, host: str, port: int, limits: Limits) -> None:
    """Serve cases over HTTP until SIGTERM or SIGINT."""
    logs.begin()
    app = create_app(cases, bootstrap_of(settings), settings, keys_of(settings), limits)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,  # its lines go where ours go
        access_log=False,
        timeout_graceful_shutdown=ANSWERS_END_WITHIN,
        server_header=False,
    )
