"""How long a client wants to wait: the header Prefer (RFC 7240)."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_WAIT = 10.0
LONGEST_WAIT = 60.0
"""Seconds that a request waits for its result where it does not say, and at most."""
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")
_ASYNC = re.compile(r"(?:^|[,;\s])respond-async(?:$|[,;\s])")


class Preference(NamedTuple):
    """Seconds to wait for a result; 0: it is not waited for."""

    wait: float

    @classmethod
    def parse(cls, header: str | None) -> Preference:
        """That of a header; what it does not know is ignored, as the RFC asks.

        >>> Preference.parse("respond-async, wait=5"), Preference.parse("respond-async")
        (Preference(wait=5.0), Preference(wait=0.0))
        """
        if header is None:
            return cls(DEFAULT_WAIT)
        wait = _WAIT.search(header.lower())
        if wait is not None:
            return cls(min(float(wait[1]), LONGEST_WAIT))
        return cls(0.0 if _ASYNC.search(header.lower()) else DEFAULT_WAIT)
