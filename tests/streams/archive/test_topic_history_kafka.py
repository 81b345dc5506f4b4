"""Archiver and history on a real Kafka: nothing lost, nothing uncommitted kept, seamless."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.parts import Archive, ArchivedRecord, ArchiveError
from driftline.streams.archive.topic_history import TopicPast
from driftline.streams.declare.topics import TopicSpec
from driftline.streams.errors import StreamsError

SIZE = 100
Eventually = Callable[..., Any]
Content = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


@pytest.fixture
def topic(bootstrap: str) -> str:
    name = f"archived.{uuid.uuid4().hex[:8]}"
    create(bootstrap, name)
    return name


def create(bootstrap: str, name: str) -> None:
    ensure_topics(
        bootstrap,
        [TopicSpec(name, 1, {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"})],
        fresh=True,
    )


@pytest.fixture
def producer(bootstrap: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    yield producer
    producer.close()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"), SIZE)


def content(number: int) -> Content:
    """Records of all kinds: JSON, bytes that are no text, empty and missing keys and values."""
    value = (b'{"n":%d}' % number, b"\xff\x00%d" % number, b"", None)[number % 4]
    key = b"k" if value is None else (b"k", b"", None)[number % 3]  # the client refuses two missing ones
    headers = (("source", b"%d:0" % number), ("empty", b""))[: number % 3]
    return key, value, headers


def send(producer: KafkaProducer, topic: str, numbers: range) -> list[Content]:
    for number in numbers:
        key, value, headers = content(number)
        producer.send(topic, key=key, value=value, headers=list(headers), partition=0)
    producer.flush()
    return [content(number) for number in numbers]


def aborted(transactional: KafkaProducer, topic: str, count: int) -> None:
    transactional.begin_transaction()
    for _ in range(count):
        transactional.send(topic, value=b"never happened", partition=0)
    transactional.flush()
    transactional.abort_transaction()


def trim(bootstrap: str, topic: str, before: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, 0): before})
    finally:
        admin.close()


def archiver(archive: Archive, bootstrap: str, topic: str, **more: Any) -> Archiver:
    return Archiver(archive, bootstrap, [topic], f"{topic}.archiver", **more)


def replayed(bootstrap: str, archive: Archive, topic: str, begin: int | None = None) -> list[ArchivedRecord]:
    with TopicPast(bootstrap, archive) as history:
        start = history.begin(topic, 0) if begin is None else begin
        chunks = list(history.records(topic, 0, start, history.end(topic, 0)))
    assert all(chunks)
    return [record for chunk in chunks for record in chunk]


def contents(records: list[ArchivedRecord]) -> list[Content]:
    return [(r.key, r.value, r.headers) for r in records]


def test_what_was_archived_while_it_was_produced_and_then_deleted_is_read_seamlessly(
    bootstrap: str,
    topic: str,
    producer: KafkaProducer,
    transactional: KafkaProducer,
    archive: Archive,
    eventually: Eventually,
) -> None:
    running = archiver(archive, bootstrap, topic)
    thread = Thread(target=running.run)
    thread.start()
    try:
        sent: list[Content] = []
        for start in range(0, 600, 60):
            sent += send(producer, topic, range(start, start + 60))
            aborted(transactional, topic, 15)
        # 10 times 60 records, 15 aborted ones and the marker of the abort
        eventually(lambda: archive.end(topic, 0) == 700)
    finally:
        running.stop()
        thread.join()
    from_log = replayed(bootstrap, archive, topic)
    assert contents(from_log) == sent
    assert all(r.timestamp > 1_600_000_000_000 for r in from_log)
    for before in (1, 350, 700):
        trim(bootstrap, topic, before)
        assert replayed(bootstrap, archive, topic) == from_log
        assert replayed(bootstrap, archive, topic, 340) == [r for r in from_log if r.offset >= 340]
    with TopicPast(bootstrap, archive) as history:
        assert (history.begin(topic, 0), history.end(topic, 0)) == (0, 760)


def test_an_undecided_transaction_is_not_archived_and_an_aborted_one_never(
    bootstrap: str, topic: str, producer: KafkaProducer, transactional: KafkaProducer, archive: Archive
) -> None:
    sent = send(producer, topic, range(SIZE - 10))
    transactional.begin_transaction()
    sent += send(transactional, topic, range(SIZE - 10, SIZE + 10))
    later = send(producer, topic, range(3 * SIZE))
    assert archiver(archive, bootstrap, topic).once() == 0
    assert contents(replayed(bootstrap, archive, topic)) == sent[: SIZE - 10]
    transactional.abort_transaction()
    assert archiver(archive, bootstrap, topic).once() == 4
    assert archive.end(topic, 0) == 4 * SIZE
    kept = [r for chunk in archive.read(topic, 0, 0, 4 * SIZE) for r in chunk]
    assert contents(kept) == (sent[: SIZE - 10] + later)[: len(kept)]
    assert len(kept) == 4 * SIZE - 20


def test_the_archive_decides_where_to_go_on_and_commits_show_the_lag(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive, tmp_path: Path
) -> None:
    send(producer, topic, range(250))
    assert archiver(archive, bootstrap, topic).once() == 2
    assert archiver(archive, bootstrap, topic).once() == 0
    group = KafkaConsumer(bootstrap_servers=bootstrap, group_id=f"{topic}.archiver")
    try:
        assert group.committed(TopicPartition(topic, 0)) == 200
    finally:
        group.close()
    other = Archive(str(tmp_path / "other"), SIZE)
    assert archiver(other, bootstrap, topic).once() == 2
    assert other.manifest(topic, 0) == archive.manifest(topic, 0)


def test_a_topic_that_lost_what_was_not_archived_ends_the_archiver_and_names_the_gap(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive
) -> None:
    send(producer, topic, range(SIZE))
    archiver(archive, bootstrap, topic).once()
    send(producer, topic, range(2 * SIZE))
    trim(bootstrap, topic, 170)
    with pytest.raises(ArchiveError, match=r"ends at offset 100, .* begins at 170: offsets \[100, 170\)"):
        archiver(archive, bootstrap, topic).run()
    with pytest.raises(StreamsError, match=rf"{topic}-0: offsets \[100, 170\) are missing: Kafka has"):
        replayed(bootstrap, archive, topic)
    assert len(replayed(bootstrap, archive, topic, 170)) == 130


def test_topics_that_come_later_are_archived_with_those_that_are_named(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive
) -> None:
    later, other = f"{topic}-later", f"other-{topic}"
    running = archiver(archive, bootstrap, topic, also=lambda name: name.startswith(f"{topic}-"))
    assert running.once() == 0
    for name in (later, other):
        create(bootstrap, name)
        send(producer, name, range(100))
    assert running.once() == 1
    assert (archive.end(later, 0), archive.end(other, 0)) == (100, 0)
    assert [record.value for record in replayed(bootstrap, archive, later)] == [
        content(number)[1] for number in range(100)
    ]


def test_an_empty_archive_begins_with_the_first_whole_range_and_says_so(
    bootstrap: str,
    topic: str,
    producer: KafkaProducer,
    archive: Archive,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(producer, topic, range(3 * SIZE))
    trim(bootstrap, topic, 50)
    assert archiver(archive, bootstrap, topic).once() == 2
    assert (archive.begin(topic, 0), archive.end(topic, 0)) == (100, 300)
    assert "begins at offset 50, what came before was deleted: the archive begins at 100" in caplog.text
    with TopicPast(bootstrap, archive) as history:
        assert history.begin(topic, 0) == 50
    assert [r.offset for r in replayed(bootstrap, archive, topic)] == list(range(50, 300))


def test_a_recreated_topic_is_neither_archived_nor_mixed_with_the_old_one(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive
) -> None:
    send(producer, topic, range(SIZE))
    archiver(archive, bootstrap, topic).once()
    create(bootstrap, topic)
    send(producer, topic, range(2 * SIZE))
    with pytest.raises(ArchiveError, match=f"topic {topic} was recreated"):
        archiver(archive, bootstrap, topic).once()
    with pytest.raises(ArchiveError, match=f"topic {topic} was recreated"):
        replayed(bootstrap, archive, topic)


def test_a_topic_that_is_gone_is_read_from_the_archive(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive, eventually: Eventually
) -> None:
    sent = send(producer, topic, range(SIZE))
    archiver(archive, bootstrap, topic).once()
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics())
    finally:
        admin.close()
    assert contents(replayed(bootstrap, archive, topic)) == sent
    with pytest.raises(ArchiveError, match="there is no topic"):
        archiver(archive, bootstrap, topic).once()


def test_what_lies_beyond_the_end_is_missing(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive
) -> None:
    send(producer, topic, range(10))
    with TopicPast(bootstrap, archive) as history:
        chunks = history.records(topic, 0, 5, 12)
        assert [r.offset for r in next(chunks)] == [5, 6, 7, 8, 9]
        with pytest.raises(StreamsError, match=r"offsets \[10, 12\) are missing"):
            next(chunks)


def test_a_time_is_looked_up_by_append_time(
    bootstrap: str, topic: str, producer: KafkaProducer, archive: Archive
) -> None:
    send(producer, topic, range(10))
    records = replayed(bootstrap, archive, topic)
    with TopicPast(bootstrap, archive) as history:
        found = history.offset_at(topic, 0, records[4].timestamp)
        assert found == min(r.offset for r in records if r.timestamp >= records[4].timestamp)
        assert history.offset_at(topic, 0, 0) == 0
        assert history.offset_at(topic, 0, records[-1].timestamp + 1) == 10


def test_records_that_are_deleted_while_they_are_read_come_from_the_archive(
    bootstrap: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    count = 40
    for number in range(count):  # of a size that the client cannot hold all of them
        producer.send(topic, value=b"%d" % number * 400_000, partition=0)
    producer.flush()
    archive = Archive(str(tmp_path / "large"), count)
    assert archiver(archive, bootstrap, topic).once() == 1
    with TopicPast(bootstrap, archive) as history:
        chunks = history.records(topic, 0, 0, count)
        read = [(r.offset, r.value) for r in next(chunks)]
        trim(bootstrap, topic, count)
        read += [(r.offset, r.value) for chunk in chunks for r in chunk]
    assert read == [(number, b"%d" % number * 400_000) for number in range(count)]
