"""A time limit for each request of an aiokafka client, so that a connection that the network has dropped (a
firewall, a router that was restarted) is replaced within seconds.

aiokafka has one limit for all requests, which must be long: joining a group takes until the slowest member
has given its partitions back.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

ANSWERED_WITHIN = 4.0
"""Seconds; a fetch waits for records for 1.5 s at most."""
_WAIT_FOR_OTHERS = (JoinGroupRequest, SyncGroupRequest)


def limit_requests(client: AIOKafkaClient) -> None:
    """Have a client give up requests that are not answered in time, and their connection. The caller gets
    RequestTimedOutError, which is retriable.
    """
    send = client.send

    async def limited(node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if isinstance(request, _WAIT_FOR_OTHERS):
            return await send(node_id, request, group=group)
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                return await send(node_id, request, group=group)
        except TimeoutError as error:
            connection = client._conns.get((node_id, group))
            if connection is not None:
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError(f"no answer within {ANSWERED_WITHIN:g} s") from error

    client.send = limited
