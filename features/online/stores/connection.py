"""Connections to Redis by URL, which fail soon rather than wait: those who use them know what to do then."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 5.0
"""Seconds within which the server must accept a connection, and answer."""
_TIMEOUTS: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}


def connect(url: str) -> Redis:
    """A client with a pool of connections; what the URL's query says overrides."""
    # one repetition, at once, is for a pooled connection that the server has closed meanwhile
    return Redis.from_url(url, **_TIMEOUTS, retry=Retry(NoBackoff(), 1))


def connect_async(url: str) -> Any:
    """As `connect`, for asyncio."""
    return redis_asyncio.Redis.from_url(url, **_TIMEOUTS, retry=AsyncRetry(NoBackoff(), 1))


def without_secrets(url: str) -> str:
    """The URL for messages: neither user and password nor options."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
