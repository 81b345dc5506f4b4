"""The consumer hands records over once, in order, whether they were fetched or appended by this process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from driftline.streams.transport.appended_records import AppendedRecords
from driftline.streams.transport.frame import (
    FRAME_RECORDS,
    WAITING_RECORDS,
    CommittedConsumerThread,
    FrameConsumer,
    _Waiting,
)

STAGE = TP("by-merchant", 0)


def records(begin: int, end: int) -> list[Any]:
    return [SimpleNamespace(offset=offset, timestamp=0, timestamp_type=1) for offset in range(begin, end)]


class Channel:
    """Keeps what is handed over."""

    def __init__(self) -> None:
        self.frames: list[list[Any]] = []
        self.messages: list[Any] = []
        self.queue = SimpleNamespace(put_nowait=lambda event: self._put(*event))

    def _put(self, frame: list[Any], message: Any) -> None:
        self.frames.append(frame)
        self.messages.append(message)

    @property
    def offsets(self) -> list[int]:
        return [record.offset for frame in self.frames for record in frame]


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def consumer(channel: Channel) -> FrameConsumer:
    """A consumer that has read its partition up to offset 10, without Faust's services."""
    consumer = object.__new__(FrameConsumer)
    consumer.app = SimpleNamespace(
        consumer_generation_id=3,
        topics=SimpleNamespace(_tp_index={STAGE: [channel]}),
        create_event=lambda _key, frame, _headers, message: (frame, message),
        flow_control=SimpleNamespace(is_active=lambda: True),
    )
    consumer.flow_active = True
    consumer.suspend_flow = consumer._stopped = asyncio.Event()
    consumer._active_partitions = {STAGE}
    consumer._buffered_partitions = set()
    consumer._read_offset = defaultdict(lambda: None, {STAGE: 10})
    consumer._waiting = defaultdict(_Waiting)
    consumer._appended = AppendedRecords(lambda: 0.0)
    return consumer


def test_a_record_comes_once_whichever_way_it_comes_first(consumer: FrameConsumer, channel: Channel) -> None:
    consumer.appended(STAGE, records(12, 14))  # 10 and 11 are another writer's
    assert channel.offsets == []
    for tp, frame in consumer._frames_of({STAGE: records(10, 13)}, {STAGE}):
        consumer._hand_over(tp, frame, 3)
        consumer._hand_over_appended(tp, 3)
    assert channel.offsets == [10, 11, 12]  # 13 is in a chunk that was fetched in part
    consumer.appended(STAGE, records(14, 16))
    assert list(consumer._frames_of({STAGE: records(11, 13)}, {STAGE})) == []
    ((_, frame),) = consumer._frames_of({STAGE: records(13, 14)}, {STAGE})
    consumer._hand_over(STAGE, frame, 3)
    consumer._hand_over_appended(STAGE, 3)
    assert channel.offsets == [10, 11, 12, 13, 14, 15]


def test_frames_are_short_and_a_partition_has_room_for_so_many_records(
    consumer: FrameConsumer, channel: Channel
) -> None:
    consumer.appended(STAGE, records(10, 10 + WAITING_RECORDS))
    assert [len(frame) for frame in channel.frames] == [FRAME_RECORDS] * (WAITING_RECORDS // FRAME_RECORDS)
    end = 10 + WAITING_RECORDS
    consumer.appended(STAGE, records(end, end + 1))
    assert channel.offsets[-1] == end - 1
    channel.messages[0].acked = True
    consumer.appended(STAGE, records(end + 1, end + 2))
    assert channel.offsets[-2:] == [end, end + 1]


def test_what_a_partition_of_another_worker_gets_is_not_handed_over(
    consumer: FrameConsumer, channel: Channel
) -> None:
    consumer.appended(TP("by-merchant", 1), records(10, 12))
    consumer.suspend_flow.set()  # a rebalance
    consumer.appended(STAGE, records(10, 12))
    assert channel.offsets == []


def test_the_offset_to_commit_is_that_before_which_all_is_acknowledged(
    consumer: FrameConsumer, channel: Channel
) -> None:
    consumer._acked, consumer._acked_index = defaultdict(list), defaultdict(set)
    for begin in (10, 12, 15):
        consumer.appended(STAGE, records(begin, begin + (2 if begin == 10 else 3)))
    channel.messages[1].acked = True
    assert consumer._new_offset(STAGE) is None
    channel.messages[0].acked = True
    assert [consumer._new_offset(STAGE) for _ in range(2)] == [15, 15]  # the first commit may have failed


def test_a_commit_that_failed_is_tried_again_without_another_record(consumer: FrameConsumer) -> None:
    answers = iter((False, True))
    committed: list[dict[TP, int]] = []

    async def commit(offsets: dict[TP, int]) -> bool:
        committed.append(offsets)
        return next(answers)

    consumer._thread = SimpleNamespace(commit=commit)
    consumer._committed = {}
    for is_due in (True, True, False):
        assert consumer._should_commit(STAGE, 15) is is_due
        if is_due:
            asyncio.run(consumer._commit({STAGE: 15}))
    assert committed == [{STAGE: 15}, {STAGE: 15}]
    assert consumer._should_commit(STAGE, 16)


def test_a_partition_that_is_fetched_from_again_goes_on_where_it_is_read() -> None:
    calls: list[Any] = []
    paused, assigned = {("a", 0), ("a", 1), ("a", 2)}, {("a", number) for number in range(5)}
    thread = object.__new__(CommittedConsumerThread)
    thread._consumer = SimpleNamespace(
        paused=lambda: paused,
        assignment=lambda: assigned,
        seek=lambda tp, offset: calls.append(("seek", tuple(tp), offset)),
        resume=lambda tp: calls.append(("resume", tuple(tp))),
        pause=lambda *tps: calls.append(("pause", {tuple(tp) for tp in tps})),
    )
    asyncio.run(thread.fetch_all_but({TP("a", 2), TP("a", 3), TP("b", 0)}, {TP("a", 0): 7}))
    assert calls.index(("seek", ("a", 0), 7)) < calls.index(("resume", ("a", 0)))
    assert ("resume", ("a", 1)) in calls  # where it is read is not known: the committed offset
    assert calls[-1] == ("pause", {("a", 2), ("a", 3)})
    assert len(calls) == 4


def test_faust_does_not_report_a_partition_that_is_long_without_a_commit() -> None:
    reported: list[Any] = []
    thread = object.__new__(CommittedConsumerThread)
    assignment = SimpleNamespace(active=True, state_value=lambda _: SimpleNamespace(timestamp=None))
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    thread._consumer = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    thread.log = SimpleNamespace(error=lambda *line: reported.append(line))
    thread.time_started, thread.tp_fetch_request_timeout_secs = 0.0, 60.0
    AIOKafkaConsumerThread.verify_event_path(thread, 100.0, STAGE)
    assert reported  # it would
    reported.clear()
    thread.verify_event_path(100.0, STAGE)
    assert not reported
