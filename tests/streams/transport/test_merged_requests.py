"""Produce requests of several producers go out as one; each gets its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from driftline.streams.transport.merged_requests import MOST_BYTES, UNDER_WAY, MergedRequests

NODE = 1


def request(*batches: tuple[str, int, bytes]) -> ProduceRequest:
    topics = [(topic, [(partition, batch)]) for topic, partition, batch in batches]
    return ProduceRequest(transactional_id=None, required_acks=-1, timeout=10_000, topics=topics)


class Client:
    """Notes what is sent over it; a request is answered when the test says so."""

    def __init__(self, sent: list[Client.Sent]) -> None:
        self._sent = sent

    class Sent:
        def __init__(self, node_id: int, request: Any) -> None:
            self.node_id, self.request = node_id, request
            self.response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        @property
        def batches(self) -> dict[tuple[str, int], bytes]:
            return {(topic, p): batch for topic, parts in self.request._topics for p, batch in parts}

    async def send(self, node_id: int, request: Any, *, group: Any = None) -> Any:
        self._sent.append(Client.Sent(node_id, request))
        return await self._sent[-1].response


class Bench:
    """Clients that have joined, and what went out."""

    def __init__(self, clients: int) -> None:
        self.sent: list[Client.Sent] = []
        merged = MergedRequests()
        self.clients = [Client(self.sent) for _ in range(clients)]
        for client in self.clients:
            merged.join(client)  # type: ignore[arg-type]

    async def send(self, *requests: tuple[int, ProduceRequest]) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(self.clients[of].send(NODE, one)) for of, one in requests]
        await self.settle()
        return tasks

    @staticmethod
    async def settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def run(work: Callable[[Bench], Awaitable[None]], clients: int = 12) -> None:
    async def main() -> None:
        await work(Bench(clients))

    asyncio.run(main())


def test_requests_of_one_moment_are_one_and_each_producer_gets_the_response() -> None:
    async def work(bench: Bench) -> None:
        tasks = await bench.send((0, request(("a", 0, b"x"))), (1, request(("a", 1, b"y"), ("b", 0, b"z"))))
        assert [sent.batches for sent in bench.sent] == [{("a", 0): b"x", ("a", 1): b"y", ("b", 0): b"z"}]
        assert bench.sent[0].request.required_acks == -1
        assert not any(task.done() for task in tasks)
        bench.sent[0].response.set_result("response")
        assert await asyncio.gather(*tasks) == ["response", "response"]

    run(work)


def test_a_request_has_one_batch_for_each_partition() -> None:
    async def work(bench: Bench) -> None:
        await bench.send(
            (0, request(("a", 0, b"x"))), (1, request(("a", 0, b"y"))), (2, request(("a", 1, b"z")))
        )
        assert [sent.batches for sent in bench.sent] == [
            {("a", 0): b"x", ("a", 1): b"z"},
            {("a", 0): b"y"},
        ]

    run(work)


def test_so_many_are_under_way_and_the_rest_goes_out_together() -> None:
    async def work(bench: Bench) -> None:
        for number in range(UNDER_WAY):
            await bench.send((number, request(("a", number, b"x"))))
        await bench.send(*((of, request(("a", of, b"y"))) for of in range(UNDER_WAY, 10)))
        assert len(bench.sent) == UNDER_WAY
        bench.sent[0].response.set_result("response")
        await bench.settle()
        assert len(bench.sent) == UNDER_WAY + 1
        assert set(bench.sent[-1].batches) == {("a", of) for of in range(UNDER_WAY, 10)}

    run(work)


def test_a_request_takes_so_many_bytes() -> None:
    async def work(bench: Bench) -> None:
        large = bytes(MOST_BYTES // 2 + 1)
        await bench.send((0, request(("a", 0, large))), (1, request(("a", 1, large))))
        assert [set(sent.batches) for sent in bench.sent] == [{("a", 0)}, {("a", 1)}]

    run(work)


def test_an_error_reaches_all_whose_batches_were_in_the_request_and_no_others() -> None:
    async def work(bench: Bench) -> None:
        failing = await bench.send((0, request(("a", 0, b"x"))), (1, request(("a", 1, b"y"))))
        (other,) = await bench.send((2, request(("a", 2, b"z"))))
        bench.sent[0].response.set_exception(RequestTimedOutError("no answer"))
        bench.sent[1].response.set_result("response")
        for task in failing:
            with pytest.raises(RequestTimedOutError):
                await task
        assert await other == "response"
        (again,) = await bench.send((0, request(("a", 0, b"x"))))
        bench.sent[2].response.set_result("again")
        assert await again == "again"

    run(work)


def test_a_producer_that_stops_waiting_takes_nothing_from_the_others() -> None:
    async def work(bench: Bench) -> None:
        gone, stays = await bench.send((0, request(("a", 0, b"x"))), (1, request(("a", 1, b"y"))))
        gone.cancel()
        await bench.settle()
        bench.sent[0].response.set_result("response")
        assert await stays == "response"

    run(work)


def test_after_a_failure_a_producer_sends_alone_until_it_has_an_answer() -> None:
    async def work(bench: Bench) -> None:
        both = (0, request(("a", 0, b"x"))), (1, request(("a", 1, b"y")))
        failing = await bench.send(*both)
        bench.sent[0].response.set_exception(RequestTimedOutError("no answer"))
        await asyncio.gather(*failing, return_exceptions=True)
        stuck, answered = await bench.send(*both)  # one of the two partitions is stuck still
        assert [set(sent.batches) for sent in bench.sent[1:]] == [{("a", 0)}, {("a", 1)}]
        bench.sent[2].response.set_result("response")
        assert await answered == "response"
        await bench.send((1, request(("a", 1, b"z"))), (2, request(("a", 2, b"z"))))
        assert set(bench.sent[3].batches) == {("a", 1), ("a", 2)}
        assert not stuck.done()

    run(work)


def test_what_a_producer_that_has_ended_had_not_sent_is_not_sent() -> None:
    async def work(bench: Bench) -> None:
        for number in range(UNDER_WAY):
            await bench.send((number, request(("a", number, b"x"))))
        gone, stays = await bench.send((4, request(("a", 4, b"y"))), (5, request(("a", 5, b"y"))))
        gone.cancel()
        await bench.settle()
        bench.sent[0].response.set_result("response")
        await bench.settle()
        assert set(bench.sent[-1].batches) == {("a", 5)}
        bench.sent[-1].response.set_result("response")
        assert await stays == "response"

    run(work)


def test_brokers_do_not_wait_for_each_other_and_other_requests_go_as_they_are() -> None:
    async def work(bench: Bench) -> None:
        first = asyncio.create_task(bench.clients[0].send(1, request(("a", 0, b"x"))))
        second = asyncio.create_task(bench.clients[1].send(2, request(("a", 1, b"y"))))
        asked = MetadataRequest([])
        third = asyncio.create_task(bench.clients[2].send(1, asked))
        await bench.settle()
        assert sorted(sent.node_id for sent in bench.sent if sent.request is not asked) == [1, 2]
        assert sum(sent.request is asked for sent in bench.sent) == 1
        for sent in bench.sent:
            sent.response.set_result(sent.node_id)
        assert await asyncio.gather(first, second, third) == [1, 2, 1]

    run(work)
