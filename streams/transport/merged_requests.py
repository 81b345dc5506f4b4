"""Produce requests of several producers of one process as one request.

Each owner of a partition has a producer of its own, whose batches carry its fence. A request may hold batches
of several producers, one for each partition, and the broker judges each batch by itself. A request costs this
process and the broker far more than what is in it: those that wait at the same time are sent together.

A broker answers a request when all its batches are written: a partition that is not written to all its
replicas delays the others. So after a failure each producer sends alone, until it has an answer again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.produce import ProduceRequest

UNDER_WAY = 2
"""Requests to one broker that may be under way at once. More would be sent at once instead of together."""
MOST_BYTES = 1_048_576
"""Bytes of batches above which a request takes no further ones."""


SendRequest = Callable[[int, ProduceRequest], Awaitable[Any]]
"""Sends a request over a producer's own connection to a broker, and gives the response."""


class _Unsent(NamedTuple):
    """A producer's request that is not sent, its batches, and what the producer waits for."""

    send: SendRequest
    request: ProduceRequest
    batches: dict[TopicPartition, bytes]
    response: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(map(len, self.batches.values()))


class _Node:
    """The requests to one broker."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._waiting: deque[_Unsent] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._is_called = False

    def put(self, waiting: _Unsent) -> None:
        self._waiting.append(waiting)
        self._send_soon()

    def _send_soon(self) -> None:
        """Send when all who are ready to have put their request."""
        if self._waiting and len(self._sending) < UNDER_WAY and not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_called = False
        self._forget_given_up()
        if not self._waiting:
            return
        task = asyncio.create_task(self._send_together(self._taken()))
        self._sending.add(task)
        task.add_done_callback(self._sent)
        self._send_soon()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._send_soon()

    def _forget_given_up(self) -> None:
        """Nobody waits for a response to these any more: their producers have ended, and their clients."""
        self._waiting = deque(one for one in self._waiting if not one.response.done())

    def _taken(self) -> list[_Unsent]:
        """Those that are sent together: a request has one batch for each partition."""
        taken, left = [self._waiting.popleft()], deque[_Unsent]()
        partitions, size = set(taken[0].batches), taken[0].size
        for one in self._waiting:
            if partitions.isdisjoint(one.batches) and size + one.size <= MOST_BYTES:
                taken.append(one)
                partitions.update(one.batches)
                size += one.size
            else:
                left.append(one)
        self._waiting = left
        return taken

    async def _send_together(self, taken: list[_Unsent]) -> None:
        """Send a request, and give each producer the response; each finds its own partitions in it."""
        try:
            response = await taken[0].send(self._node_id, _together(taken))
        except BaseException as error:
            for one in taken:
                if not one.response.done():
                    one.response.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for one in taken:
                if not one.response.done():
                    one.response.set_result(response)


def _together(taken: list[_Unsent]) -> ProduceRequest:
    first = taken[0].request
    if len(taken) == 1:
        return first
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for one in taken:
        for (topic, partition), batch in one.batches.items():
            topics.setdefault(topic, []).append((partition, batch))
    return ProduceRequest(
        transactional_id=None,
        required_acks=first._required_acks,
        timeout=first._timeout,
        topics=list(topics.items()),
    )


class MergedRequests:
    """The produce requests of the clients that have joined, outside of transactions, all with the same acks
    and time limit."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}

    def join(self, client: AIOKafkaClient) -> None:
        """From now on, send this client's produce requests together with those of the others."""
        send = client.send
        has_failed = False

        async def together(node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
            nonlocal has_failed
            if not isinstance(request, ProduceRequest):
                return await send(node_id, request, group=group)
            try:
                if has_failed:
                    response = await send(node_id, request, group=group)
                else:
                    response = await self._put(node_id, request, send)
            except Exception:
                has_failed = True
                raise
            has_failed = False
            return response

        client.send = together

    async def _put(self, node_id: int, request: ProduceRequest, send: SendRequest) -> Any:
        """The response to a request that is sent with those of others."""
        batches = {
            TopicPartition(topic, part): batch for topic, parts in request._topics for part, batch in parts
        }
        response = asyncio.get_running_loop().create_future()
        self._nodes.setdefault(node_id, _Node(node_id)).put(_Unsent(send, request, batches, response))
        return await response
