"""Faults of records and topics that others have made: bombs, codecs, settings, partitions.

Registered beside those of `faults`; a run is judged in the same way.
"""

from __future__ import annotations

from kafka import KafkaProducer
from kafka.admin import NewPartitions

from tests.faults.courses.moves import alter_topic, worker_that_answers
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.feed import PRODUCER
from tests.faults.lab.run import Run
from tests.faults.lab.stack import LabError, until

CODECS = ("gzip", "snappy", "lz4", "zstd")
BOMB = b"[" * 6_000_000
LARGE = b"x" * 900_000
SETTINGS = {
    "message.timestamp.type": "CreateTime",
    "retention.ms": "86400000",
    "retention.bytes": "1000000000",
    "max.message.bytes": "100000",
}
"""What breaks a guarantee of the log, and is mended while nothing is lost yet."""


@fault
def bombs(run: Run) -> Outcome:
    """Batches of some kilobytes that are megabytes once unpacked; a SIGKILL among them."""
    worker = run.worker()
    run.log_is_the_source = False
    for number, codec in enumerate(CODECS):
        run.feed_to((number + 1) / 6)
        _drop_bombs(run, codec)
    run.until_published(run.random.uniform(0.1, 0.5))
    run.note("SIGKILL")
    worker.kill()
    return Outcome(run.settle(run.worker()))


def _drop_bombs(run: Run, codec: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=run.lab.bootstrap, compression_type=codec, max_request_size=10_000_000, **PRODUCER
    )
    try:
        for partition in range(run.case.partitions):
            producer.send(run.topics.log, BOMB, key=b"EWR", partition=partition)
            producer.send(run.topics.log, LARGE, key=b"k" * 70_000, partition=partition)
        producer.flush()
    finally:
        producer.close()


@fault
def codecs(run: Run) -> Outcome:
    """The broker packs the log with one codec after the other; a SIGKILL among them."""
    worker = run.worker()
    for number, codec in enumerate(CODECS):
        alter_topic(run, run.topics.log, "compression.type", codec)
        run.feed_to((number + 1) / 4)
        run.until_fed()
    run.until_published(run.random.uniform(0.1, 0.5))
    run.note("SIGKILL")
    worker.kill()
    return Outcome(run.settle(run.worker()))


@fault
def topic_settings_of_others(run: Run) -> Outcome:
    """A setting of the log that a guarantee rests on is altered: reported, refused at a start, mended."""
    worker = worker_that_answers(run)
    setting = run.random.choice(sorted(SETTINGS))
    alter_topic(run, run.topics.log, setting, SETTINGS[setting])
    run.note(f"{setting} of the log is {SETTINGS[setting]}")
    until(lambda: setting in str((worker.status or {}).get("topics")), f"it is reported; see {worker.log}")
    worker.kill()
    refused = run.worker()
    until(lambda: not refused.alive, f"the next worker refuses to start; see {refused.log}")
    for word in (setting, "--mend-topics"):
        if word not in refused.log.read_text():
            raise LabError(f"it does not say {word}; see {refused.log}")
    awaited = run.next_prediction()
    run.feed_to(0.8)
    worker = run.worker("--mend-topics")
    run.measure("start that mends to next prediction", awaited())
    return Outcome(run.settle(worker))


@fault
def partitions_added(run: Run) -> Outcome:
    """The log gets a partition more while a worker serves: refused at once, as keys may live there now."""
    worker = worker_that_answers(run)
    count = run.case.partitions
    admin = run.admin
    try:
        admin.create_partitions({run.topics.log: NewPartitions(count + 1)})
    finally:
        admin.close()
    elapsed = run.clock()
    run.until_refused(worker, range(count + 1), f"has {count + 1} partitions", f"partitions={count + 1}")
    run.measure("partition added to refused", elapsed())
    run.finish_feed()
    run.measure("SIGTERM to exit", worker.terminate())
    return Outcome(refused=range(count))
