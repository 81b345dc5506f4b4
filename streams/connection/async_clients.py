"""Makes every client of aiokafka, and gives Faust the credentials of its clients. `security` defaults to that
of the process's settings; `settings` are aiokafka's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient

from driftline.streams.connection.request_limit import limit_requests
from driftline.streams.connection.security import arguments, own_security, ssl_context

if TYPE_CHECKING:
    from faust.auth import Credentials

    from driftline.settings import KafkaSecurity


class AsyncFileToken(AbstractTokenProvider):  # type: ignore[misc]
    """A token that is read from its file whenever a connection needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """See aiokafka."""
        return (await asyncio.to_thread(self._path.read_text, "utf-8")).strip()


def consumer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> AIOKafkaConsumer:
    """A consumer of aiokafka, to be started. It reads committed records only, as every reader here does,
    commits nothing by itself, and gives up requests that are not answered in time."""
    made = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        **_let_in(security),
        **settings,
    )
    limit_requests(made._client)
    return made


def producer(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> AIOKafkaProducer:
    """A producer of aiokafka, to be started."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, **_let_in(security), **settings)


def admin(bootstrap: str, security: KafkaSecurity | None = None, **settings: Any) -> AIOKafkaAdminClient:
    """An admin client of aiokafka, to be started."""
    return AIOKafkaAdminClient(bootstrap_servers=bootstrap, **_let_in(security), **settings)


def faust_credentials(security: KafkaSecurity | None = None) -> Credentials | None:
    """Faust's form of it; None for plain text. Faust takes SASL credentials without a TLS context for
    SASL_PLAINTEXT, even if SASL_SSL was set, and its `SSLCredentials` make no context of their own: so the
    context always comes from here.
    """
    from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

    security = own_security() if security is None else security
    context = ssl_context(security) if security.is_encrypted else None
    if security.sasl_token_file is not None:
        return OAuthCredentials(oauth_cb=AsyncFileToken(security.sasl_token_file), ssl_context=context)
    if security.sasl_password is not None:
        return SASLCredentials(
            username=security.sasl_username,
            password=security.sasl_password.get_secret_value(),
            mechanism=security.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def _let_in(security: KafkaSecurity | None) -> dict[str, Any]:
    return arguments(own_security() if security is None else security, AsyncFileToken)
