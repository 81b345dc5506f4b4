"""The write path: appends an event to the log once, and waits for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from driftline.infra.gateway.client_patience import while_waited_for
from driftline.infra.gateway.problems import (
    Problem,
    never_answered,
    no_prediction,
    other_content,
    refused_event,
    too_many_requests,
    unknown_outcome,
)
from driftline.infra.gateway.progress import FoldedOffsets
from driftline.infra.gateway.published.positions_by_id import AnswerPlace
from driftline.infra.gateway.published.record_lookup import RecordLookup
from driftline.infra.gateway.published.refusals import LogPosition, RefusedRecord
from driftline.infra.gateway.published.results import KnownAnswer, PublishedResults
from driftline.streams.connection import async_clients
from driftline.streams.connection.closing import Endings
from driftline.streams.connection.request_limit import limit_requests
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused
from driftline.streams.fold.deduplication import content_of
from driftline.streams.records.positions import position_of

FOLLOWED_FOR = 600.0
"""Seconds for which a request without an answer is remembered as in progress."""
WORKERS_ASKED_AFTER = 2.0
"""Seconds without an answer after which the workers are asked whether a request has been folded."""
SENT_FOR = 20.0
"""Seconds for which an event is being sent, whether or not a client waits. The producer gives up earlier."""
MOST_OUTSTANDING = 50_000
"""Requests in progress at once, including those for which no client waits any more."""


class _Outstanding(NamedTuple):
    """A request in progress: the hash of its content, whether sending it has ended, and its future
    prediction."""

    content: int
    is_sent: asyncio.Event
    result: asyncio.Task[bytes]


class Submission:
    """Sends the events of one case."""

    def __init__(
        self,
        case: UseCase,
        bootstrap: str,
        namespace: str,
        results: PublishedResults,
        progress: FoldedOffsets,
        lookup: RecordLookup,
    ) -> None:
        self._codec = case.codec()
        self._partitions = case.partitions
        self._topics = case.topics(namespace)
        self._bootstrap = bootstrap
        self._results = results
        self._progress = progress
        self._lookup = lookup
        self._outstanding: dict[str, _Outstanding] = {}
        self._comparing: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._endings = Endings()

    async def predict(self, request: Event) -> bytes:
        """The prediction of a request as published. Repeats of a request get the same one.

        Raises Problem when the fold refuses the request, when its id was used for another request, when too
        many requests are in progress, and when it is unknown whether the request is in the log. The call may
        be cancelled at any time: the request is processed all the same. It is also sent on when its outcome
        is unknown, and a repeat joins it: clients that do not wait before they retry add no load to a slow
        Kafka.
        """
        content = content_of(request)
        published = self._results.find(request.id)
        if published is not None:
            return await self._repeated(request, content, published)
        outstanding = self._outstanding.get(request.id)
        if outstanding is None:
            outstanding = self._begin(request, content)
        elif outstanding.content != content:
            raise other_content(request.id)
        try:
            async with while_waited_for():
                await outstanding.is_sent.wait()
        except TimeoutError:
            raise unknown_outcome(request.id) from None
        return await asyncio.shield(outstanding.result)

    def _begin(self, request: Event, content: int) -> _Outstanding:
        """Begin to send a request. Raises Problem 429 when too many are in progress."""
        if len(self._outstanding) >= MOST_OUTSTANDING:
            raise too_many_requests(MOST_OUTSTANDING)
        # wait before sending: a result that is read before anyone waits for it would be missed
        answer = self._results.answer_of(request.id)
        refused_behind = self._results.refusals.behind(request.id)
        is_sent = asyncio.Event()
        task = asyncio.create_task(self._follow(request, content, is_sent, answer, refused_behind))
        outstanding = self._outstanding[request.id] = _Outstanding(content, is_sent, task)
        task.add_done_callback(lambda task: self._over(request.id, task))
        return outstanding

    def _over(self, event_id: str, task: asyncio.Task[bytes]) -> None:
        """Forget a request that has ended. Retrieves its failure, or asyncio logs it when no client waits."""
        self._outstanding.pop(event_id, None)
        if not task.cancelled():
            task.exception()

    async def _follow(
        self,
        request: Event,
        content: int,
        is_sent: asyncio.Event,
        answer: asyncio.Future[KnownAnswer],
        refused_behind: asyncio.Future[RefusedRecord],
    ) -> bytes:
        """Send a request and wait for its result."""
        refusals = self._results.refusals
        refused = [refused_behind]
        position: LogPosition | None = None
        try:
            (position,) = await self._appended(request)
            is_sent.set()
            refused.append(refusals.at(position))
            async with asyncio.timeout(FOLLOWED_FOR):
                await self._decided(position, [answer, *refused])
            if answer.done():
                return await self._own(request, content, position, answer.result())
            if ended := [each.result() for each in refused if each.done()]:
                raise refused_record(ended[0])
            raise never_answered(request.id)
        except TimeoutError:
            raise unknown_outcome(request.id) from None
        finally:
            is_sent.set()
            self._results.give_up(request.id)
            refusals.give_up_behind(request.id)
            if position is not None:
                refusals.give_up(position)

    async def _own(self, request: Event, content: int, position: LogPosition, answer: KnownAnswer) -> bytes:
        """The prediction published under the request's id. It may be that of an earlier record with the same
        id, sent by another gateway or client. Raises Problem if that one had other content."""
        if self._topics.behind:  # in a chain, a prediction does not have the position in the log
            return answer.body
        if (answer.partition, answer.source) == position:
            self._results.note_content(request.id, content)
            return answer.body
        place = self._results.find(request.id)
        assert place is not None  # it has just been published
        return await self._repeated(request, content, place)

    async def folded(self, positions: Iterable[LogPosition]) -> None:
        """Return when the records at these positions have been folded. Raises Problem if one is refused."""
        for position in positions:
            refusal = self._results.refusals.at(position)
            passed = asyncio.create_task(self._passed(position))
            try:
                await asyncio.wait((refusal, passed), return_when=asyncio.FIRST_COMPLETED)
                if refusal.done():
                    raise refused_record(refusal.result())
            finally:
                passed.cancel()
                self._results.refusals.give_up(position)

    async def _passed(self, position: LogPosition) -> None:
        """Return when a record has been folded and the dead letters until then have been read."""
        await self._progress.folded(*position)
        await self._results.read_to_end(self._topics.dead_letters, position[0])

    async def _decided(self, position: LogPosition, results: list[asyncio.Future[Any]]) -> None:
        """Return when one of the results of a request is there, or none will come."""
        done, _ = await asyncio.wait(
            results, timeout=WORKERS_ASKED_AFTER, return_when=asyncio.FIRST_COMPLETED
        )
        if done:
            return
        dropped = asyncio.create_task(self._dropped(position))
        try:
            await asyncio.wait([*results, dropped], return_when=asyncio.FIRST_COMPLETED)
            if dropped.done():
                dropped.result()
        finally:
            dropped.cancel()

    async def _dropped(self, position: LogPosition) -> None:
        """Return when a request has been folded, and what was published for it has been read."""
        if self._topics.behind:
            await self._progress.folded_behind(*position)
            await self._results.read_all_to_end()
            return
        await self._passed(position)
        await self._results.read_to_end(self._topics.predictions, position[0])

    async def append(self, event: Event) -> list[LogPosition]:
        """Append an event to the log, a reference to every partition. Returns the positions. Raises
        Problem."""
        try:
            async with while_waited_for():
                return await self._appended(event)
        except TimeoutError:
            raise unknown_outcome(event.id) from None

    async def _appended(self, event: Event) -> list[LogPosition]:
        """As `append`, without the limit for a client that waits."""
        try:
            value = self._codec.encode(event)
        except Refused as error:
            raise refused_event(error.stage, error.reason) from None
        key = self._codec.key(event)
        numbers = range(self._partitions) if key is None else (partition_of(key, self._partitions),)
        try:
            async with asyncio.timeout(SENT_FOR):
                producer = await self._started()
                sent = [await producer.send(self._topics.log, value, key, number) for number in numbers]
                places = await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                self._give_up_producer()
            raise unknown_outcome(event.id) from None
        return [(place.partition, place.offset) for place in places]

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = async_clients.producer(
                    self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    request_timeout_ms=10_000,
                )
                limit_requests(producer.client)
                try:
                    await producer.start()
                except BaseException:
                    self._endings.begin(producer)  # else its connections would stay open
                    raise
                self._producer = producer
            return self._producer

    def _give_up_producer(self) -> None:
        """Use a new producer for the next event: one whose sequence is broken sends nothing any more."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._endings.begin(producer)

    async def _repeated(self, request: Event, content: int, place: AnswerPlace) -> bytes:
        """The prediction of a repeated request. Raises Problem if its id was used for another request."""
        answer = await self._answer(request.id, place)
        if answer.content is not None:
            if answer.content != content:
                raise other_content(request.id)
            return answer.body
        if self._topics.behind:  # in a chain, a prediction does not have the position in the log
            await self._compared_by_fold(request, content)
            return answer.body
        original = await self._lookup.record(self._topics.log, place.partition, answer.source)
        if original is not None and content_of(self._codec.decode(original.value, original.key)) != content:
            raise other_content(request.id)
        return answer.body

    async def _compared_by_fold(self, request: Event, content: int) -> None:
        """Return when the fold has dropped a repeat. Raises Problem if it refuses it, as its id was used for
        another request, and when too many wait for that. One copy is appended for all who send the same one
        meanwhile."""
        asked = request.id, content
        comparing = self._comparing.get(asked)
        if comparing is None:
            if len(self._comparing) >= MOST_OUTSTANDING:
                raise too_many_requests(MOST_OUTSTANDING)
            comparing = self._comparing[asked] = asyncio.create_task(self._drop_repeat(request, content))
            comparing.add_done_callback(lambda task: self._compared(asked, task))
        await asyncio.shield(comparing)

    async def _drop_repeat(self, request: Event, content: int) -> None:
        try:
            async with asyncio.timeout(FOLLOWED_FOR):
                await self.folded(await self.append(request))
        except TimeoutError:
            raise unknown_outcome(request.id) from None
        self._results.note_content(request.id, content)

    def _compared(self, asked: tuple[str, int], task: asyncio.Task[None]) -> None:
        """Forget a comparison. Retrieves its failure, or asyncio logs it when no client waits."""
        del self._comparing[asked]
        if not task.cancelled():
            task.exception()

    async def found(self, event_id: str) -> bytes:
        """The prediction of an earlier request. Raises Problem if the fold refused the request, and if there
        is no prediction."""
        place = self._results.find(event_id)
        if place is not None:
            return (await self._answer(event_id, place)).body
        refusal = self._results.refusals.of_request(event_id)
        if refusal is not None and event_id not in self._outstanding:  # a corrected one may be in progress
            raise refused_record(refusal)
        raise no_prediction(event_id)

    async def _answer(self, event_id: str, place: AnswerPlace) -> KnownAnswer:
        """A prediction by its position. Raises Problem 404 when retention has deleted it."""
        newest = self._results.newest(event_id)
        if newest is not None:
            return newest
        record = await self._lookup.record(self._topics.predictions, place.partition, place.offset)
        if record is None:
            raise Problem(404, "No prediction", f"that of {event_id!r} was published, and is kept no longer")
        return KnownAnswer(place.partition, position_of(record.headers)[0], bytes(record.value))

    async def close(self) -> None:
        """Cancel the requests in progress and close the producer."""
        for task in (*(one.result for one in self._outstanding.values()), *self._comparing.values()):
            task.cancel()
        self._give_up_producer()
        await self._endings.over()


def refused_record(refusal: RefusedRecord) -> Problem:
    """The problem for an event that the fold refused."""
    return refused_event(refusal.stage, refusal.reason)
