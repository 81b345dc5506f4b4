"""Asks a worker's endpoint, and reads what it would answer."""

from __future__ import annotations

import urllib.error
import urllib.request

from driftline.streams.status.metrics import WorkerMetrics


def got(port: int, path: str) -> tuple[int, str]:
    """Status and body of a request; status 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def written(metrics: WorkerMetrics) -> str:
    """What a scrape gets now, whatever else the loop would do meanwhile."""
    writing = metrics.text()
    while True:
        try:
            writing.send(None)
        except StopIteration as done:
            return str(done.value.decode())
