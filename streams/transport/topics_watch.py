"""Looks at the settings of a case's topics now and then, beside the work: anybody may alter them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

log = logging.getLogger("driftline.topics")


class TopicsWatch:
    """What is wrong with the settings of the topics, as of the last look.

    `look` gives one text for each topic that is not as it has to be; it may block. Serving goes on meanwhile:
    what is appended now is answered now, and what is lost later cannot be brought back by not answering.
    """

    def __init__(self, look: Callable[[], Sequence[str]]) -> None:
        self._look = look
        self.troubles: tuple[str, ...] = ()

    async def look(self) -> None:
        """Look again; log what is new, and what is over."""
        from kafka.errors import KafkaError

        try:
            troubles = tuple(await asyncio.to_thread(self._look))
        except (KafkaError, OSError, TimeoutError) as error:
            # what needs the broker reports that it is away; settings are looked at again when it is back
            log.info("the topics' settings could not be looked at: %s: %s", type(error).__name__, error)
            return
        for trouble in troubles:
            if trouble not in self.troubles:
                log.error("%s", trouble)
        if self.troubles and not troubles:
            log.warning("the topics are set up as they have to be again")
        self.troubles = troubles
