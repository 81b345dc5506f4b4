"""The HTTP endpoint of a worker: /metrics, /livez and /readyz."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from driftline.features.online.transient_failures import Outage
from driftline.settings import listening_address
from driftline.streams.status.metrics import WorkerMetrics

BIND_AGAIN_AFTER = 1.0
"""Seconds until an address that is taken is tried again: a worker that died may still hold it."""

PartitionStates = Callable[[], Mapping[str, str] | None]
"""The state of each partition that a worker has; None while it starts."""


class Endpoint:
    """Serves the metrics of a worker, and its health for supervisors and load balancers. /livez answers while
    the worker's event loop runs, and while it starts. /readyz is 200 when every assigned partition is served,
    503 before; its body has the state of each. A worker without partitions stands by: it is ready.
    """

    def __init__(self, address: str, states: PartitionStates) -> None:
        self._host, self._port = listening_address(address)
        self._states = states
        self.metrics = WorkerMetrics()
        """What the worker prepares for scrapes."""

    async def run(self) -> None:
        """Serve until cancelled. An address that is taken is tried again; the worker serves meanwhile."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics_text),
                web.get("/livez", self._alive),
                web.get("/readyz", self._ready),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._bind(runner)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _bind(self, runner: web.AppRunner) -> None:
        outage: Outage | None = None
        while True:
            site = web.TCPSite(runner, self._host, self._port, reuse_address=True)
            try:
                await site.start()
            except OSError as error:
                await site.stop()
                outage = outage or Outage(f"listening on {self._host}:{self._port} for /metrics and /readyz")
                outage.failed(error)
                await asyncio.sleep(BIND_AGAIN_AFTER)
            else:
                if outage is not None:
                    outage.ended()
                return

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        states = self._states()
        ready = states is not None and all(state == "serving" for state in states.values())
        body: dict[str, Any] = {
            "ready": ready,
            "partitions": dict(states or {}),
        }
        return web.json_response(body, status=200 if ready else 503)


@contextmanager
def answering_while_starting(address: str | None) -> Iterator[None]:
    """Serve a worker's endpoint from a thread: its start may block the event loop.

    The thread takes no signals: they are for the worker.
    """
    if address is None:
        yield
        return
    loop = asyncio.new_event_loop()
    serving = loop.create_task(Endpoint(address, lambda: None).run())

    def serve() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        loop.close()

    thread = Thread(target=serve, name="endpoint while starting", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
