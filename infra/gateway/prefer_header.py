"""The header Prefer (RFC 7240), by which a client says how long it waits."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_WAIT = 10.0
LONGEST_WAIT = 60.0
"""Seconds that a request waits for its result: the default and the maximum."""
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")
_ASYNC = re.compile(r"(?:^|[,;\s])respond-async(?:$|[,;\s])")


class Preference(NamedTuple):
    """How many seconds to wait for a result; 0: answer at once."""

    wait: float

    @classmethod
    def parse(cls, header: str | None) -> Preference:
        """The preference in a header. Unknown parts are ignored, as the RFC demands.

        >>> Preference.parse("respond-async, wait=5"), Preference.parse("respond-async")
        (Preference(wait=5.0), Preference(wait=0.0))
        """
        if header is None:
            return cls(DEFAULT_WAIT)
        wait = _WAIT.search(header.lower())
        if wait is not None:
            return cls(min(float(wait[1]), LONGEST_WAIT))
        return cls(0.0 if _ASYNC.search(header.lower()) else DEFAULT_WAIT)
