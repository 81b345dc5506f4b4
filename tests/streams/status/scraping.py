"""Asks a worker's endpoint."""

from __future__ import annotations

import urllib.error
import urllib.request


def got(port: int, path: str) -> tuple[int, str]:
    """Status and body of a request; status 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
