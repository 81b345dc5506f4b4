"""Makes every client of kafka-python: with the security of the settings, and connected again within a second
after an outage. `security` defaults to that of the process's settings; `settings` are kafka-python's and
override the others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError

from driftline.streams.connection.access_refusal import HANDSHAKE_WITHIN, FileToken, refusal
from driftline.streams.connection.security import arguments, own_security
from driftline.streams.errors import NotLetIn

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity

RECONNECTION = {"reconnect_backoff_max_ms": 1_000}
"""By default kafka-python waits up to half a minute before it connects to a broker again."""
LET_IN_WITHIN = 30.0
"""Seconds for connecting and authenticating; then a client fails."""
ASKED_AFTER = 1.0
"""Seconds after which a broker is asked why it refuses a client."""


def consumer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaConsumer:
    """A consumer of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaConsumer, bootstrap, security, settings)


def producer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaProducer:
    """A producer of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaProducer, bootstrap, security, settings)


def admin(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaAdminClient:
    """An admin client of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaAdminClient, bootstrap, security, settings)


def see_that_let_in(bootstrap: str) -> None:
    """Raises NotLetIn where Kafka is there, and does not let this process in; one that is away may come.

    For programs that have only clients of aiokafka, which take a refusal for an outage.
    """
    security = own_security()
    reason = refusal(bootstrap, security)
    if reason is not None:
        time.sleep(ASKED_AFTER)
        if refusal(bootstrap, security) == reason:
            raise _failure(bootstrap, reason)


def _made(kind: Any, bootstrap: str, security: KafkaSecurity | None, settings: dict[str, Any]) -> Any:
    security = own_security() if security is None else security
    given = {"bootstrap_servers": bootstrap} | RECONNECTION | arguments(security, FileToken) | settings
    ends = time.monotonic() + given.pop("bootstrap_timeout_ms", LET_IN_WITHIN * 1_000) / 1_000
    reason = None
    # a broker that starts or ends may close a connection for no reason of the client's, so it is asked twice
    for attempt in (ASKED_AFTER, ASKED_AFTER, LET_IN_WITHIN):
        left = min(attempt, ends - time.monotonic())
        try:
            return kind(**given, bootstrap_timeout_ms=max(1, round(left * 1_000)))
        except KafkaTimeoutError:
            patience = max(ASKED_AFTER, min(HANDSHAKE_WITHIN, ends - time.monotonic()))
            before, reason = reason, refusal(bootstrap, security, patience)
        if time.monotonic() >= ends or (reason is not None and reason == before):
            break
    raise _failure(bootstrap, reason)


def _failure(bootstrap: str, reason: str | None) -> Exception:
    if reason is None:
        away: Exception = KafkaTimeoutError(
            f"no Kafka answers at {bootstrap}: is it running, and is this its address? "
            "DRIFTLINE_BOOTSTRAP names another"
        )
        return away
    return NotLetIn(
        f"Kafka at {bootstrap} is there, and does not let this client in: {reason}. `driftline config show` "
        "tells what is set, and where"
    )
