"""Checks the settings of a case's topics regularly, beside the work: anybody may alter them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

log = logging.getLogger("driftline.topics")


class TopicsWatch:
    """The problems with the settings of the topics at the last check. `look` returns a text for each topic
    with a wrong setting; it may block. Serving continues: refusing to answer would not protect the records.
    """

    def __init__(self, look: Callable[[], Sequence[str]]) -> None:
        self._look = look
        self.troubles: tuple[str, ...] = ()

    async def look(self) -> None:
        """Check again; log new problems, and those that are over."""
        from kafka.errors import KafkaError

        try:
            troubles = tuple(await asyncio.to_thread(self._look))
        except (KafkaError, OSError, TimeoutError) as error:
            # others report that the broker is away; settings are checked again when it is back
            log.info("the topics' settings could not be looked at: %s: %s", type(error).__name__, error)
            return
        for trouble in troubles:
            if trouble not in self.troubles:
                log.error("%s", trouble)
        if self.troubles and not troubles:
            log.warning("the topics are set up as they have to be again")
        self.troubles = troubles
