"""Which failures of an online store pass by themselves.

Transient: the store is locked, full, out of reach, starting, or failing to read and write. Then the
same rows are written again later. Everything else (a table that is not there, a value of the wrong
type, a wrong password) fails the same way next time and is raised to the caller.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Callable

log = logging.getLogger("driftline.online")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two attempts: the first, then twice as long each time."""
WARN_EVERY = 30.0

_REDIS_FAULTS = {
    "ConnectionError",
    "TimeoutError",
    "BusyLoadingError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "TryAgainError",
    "MasterDownError",
}
_REDIS_REFUSALS = {"OOM", "MISCONF", "READONLY", "NOREPLICAS", "MASTERDOWN", "BUSY", "LOADING"}
"""First words of errors, within those of a script too, of a Redis that takes no writes for the time being."""
_REDIS_CREDENTIALS = {"AuthenticationError", "AuthorizationError"}
_WORD = re.compile(r"[A-Z]{3,}")


def is_transient(error: BaseException) -> bool:
    """Whether trying again makes sense.

    SQLite reports bad SQL, missing tables and columns with its code 1 (SQLITE_ERROR) and busy, locked,
    full and I/O errors by other ones, all as OperationalError. Redis errors are known by their name,
    as the client need not be installed.
    """
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code & 0xFF != sqlite3.SQLITE_ERROR  # the higher bits only refine it
    if isinstance(error, OSError):
        return True
    kinds = _redis_kinds(error)
    if not kinds.isdisjoint(_REDIS_CREDENTIALS):
        return False
    refused = "ResponseError" in kinds and not _REDIS_REFUSALS.isdisjoint(_WORD.findall(str(error)))
    return refused or not kinds.isdisjoint(_REDIS_FAULTS)


def is_lost(error: BaseException) -> bool:
    """Whether the store has no table to write to any more."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("no such table")


def reason(error: BaseException) -> str:
    """What failed, for people."""
    kinds = _redis_kinds(error)
    if "OutOfMemoryError" in kinds or ("ResponseError" in kinds and "OOM" in _WORD.findall(str(error))):
        return f"Redis is full: it has reached its maxmemory and may evict nothing ({error})"
    return f"{type(error).__name__}: {error}"


def _redis_kinds(error: BaseException) -> set[str]:
    """Names of the error's class and base classes."""
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "redis"}


class Outage:
    """Times during which something fails again and again; said at their start, now and then, at their end.

    `now` is the clock they are taken from, in seconds.
    """

    def __init__(self, subject: str, now: Callable[[], float] = time.monotonic) -> None:
        self._subject = subject
        self._now = now
        self._pause = FIRST_PAUSE
        self._since: float | None = None
        self._warned = float("-inf")

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 before the first failure."""
        return 0.0 if self._since is None else self._now() - self._since

    def failed(self, error: Exception) -> float:
        """Note a failure; returns the seconds to wait before the next attempt."""
        now = self._now()
        if self._since is None:
            self._since = now
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            log.warning("%s fails, trying again: %s", self._subject, reason(error))
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause

    def ended(self) -> None:
        """Note a success; the next failure begins another outage."""
        if self._since is not None:
            log.warning("%s works again after %.1f s", self._subject, self.seconds)
            self._since, self._pause, self._warned = None, FIRST_PAUSE, float("-inf")
