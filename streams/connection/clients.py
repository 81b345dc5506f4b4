"""Makes every client of kafka-python: let in as the settings say, and back within a second after an outage.

`security` is that of the process's settings where none is given; `settings` are kafka-python's and come last.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.net.sasl.oauth import AbstractTokenProvider

from driftline.streams.connection.access_refusal import refusal
from driftline.streams.connection.security import arguments, own_security
from driftline.streams.errors import NotLetIn

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity

RECONNECTION = {"reconnect_backoff_max_ms": 1_000}
"""Its clients wait for half a minute else before they come back to a broker that was away."""


class FileToken(AbstractTokenProvider):  # type: ignore[misc]
    """A token that is read from its file whenever a connection needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """See kafka-python."""
        return self._path.read_text("utf-8").strip()


def consumer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaConsumer:
    """A consumer of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaConsumer, bootstrap, security, settings)


def producer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaProducer:
    """A producer of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaProducer, bootstrap, security, settings)


def admin(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> KafkaAdminClient:
    """An admin client of kafka-python; raises NotLetIn, KafkaTimeoutError."""
    return _made(KafkaAdminClient, bootstrap, security, settings)


def _made(kind: Any, bootstrap: str, security: KafkaSecurity | None, settings: dict[str, Any]) -> Any:
    security = own_security() if security is None else security
    let_in = arguments(security, FileToken)
    try:
        return kind(**{"bootstrap_servers": bootstrap} | RECONNECTION | let_in | settings)
    except KafkaTimeoutError:
        if (reason := refusal(bootstrap, security)) is None:
            raise KafkaTimeoutError(
                f"no Kafka answers at {bootstrap}: is it running, and is this its address? "
                "DRIFTLINE_BOOTSTRAP names another"
            ) from None
        raise NotLetIn(
            f"Kafka at {bootstrap} is there, and does not let this client in: {reason}. `driftline config "
            "show` tells what is set, and where"
        ) from None
