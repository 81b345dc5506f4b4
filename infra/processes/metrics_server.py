"""Serves the metrics of a process that has no HTTP of its own for them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server

from driftline.infra.errors import InfraError


def serve_metrics(address: tuple[str, int], registry: CollectorRegistry) -> None:
    """Serve them at host and port, from a thread, as long as the process runs. Raises InfraError where the
    address cannot be listened on."""
    host, port = address
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise InfraError(f"--metrics: {host}:{port} cannot be listened on: {error}") from None
