"""A worker with a state of millions, Kafka to Kafka: started when a minute of events waits, fed a thousand a
second, killed some time after its last checkpoint, and started again.

python -m driftline.bench.speed.millions_worker KEYS OPEN MEMORY_MB HOME

The state is made first, and its checkpoint, as in `millions`; what is left in HOME is used by the next run.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pydantic import ByteSize

from driftline.bench.peers import process
from driftline.bench.peers.process import PeerFailed
from driftline.bench.peers.worker_command import WorkerCommand
from driftline.bench.speed.attempts import say
from driftline.bench.speed.millions import MINUTE, SETTLED, Folded, events, load
from driftline.bench.speed.scale import CHUNK
from driftline.examples.payments.events import Payment
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.writer import OnlineWriter
from driftline.garbage_collection import seldom_collected
from driftline.infra.local.kafka import LocalStack
from driftline.infra.processes.slot import status_path
from driftline.infra.serving.deploy import deploy
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import load_case
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.takeover import take_over
from driftline.streams.records.positions import position_of
from driftline.streams.transport.kafka_broker import KafkaBroker

CASE = "driftline.bench.speed.millions:payments_of_sixty_days"
RATE = 1_000
"""Events a second."""
SERVED = 200.0
"""Seconds of serving that are measured."""
BEHIND = 20.0
"""Seconds from the last checkpoint to the kill. Where folding is dear, the next one may come half a minute
after it."""
WITHIN = 600.0
"""Seconds in which the worker must have answered."""
BUILT_WITHIN = 3_000.0


class Log:
    """The log of the case: `at` is its next offset. Some events are `loaded`: in the state, but not here."""

    def __init__(self, bootstrap: str, topic: str, keys: int, loaded: int = 0) -> None:
        self._bootstrap, self._topic, self._keys = bootstrap, topic, keys
        self._encoded = load_case(CASE).codec()
        self._loaded = loaded
        self.requests = 0
        """Requests appended by this object."""
        with closing(KafkaConsumer(bootstrap_servers=bootstrap)) as consumer:
            place = TopicPartition(topic, 0)
            self.at = int(consumer.end_offsets([place])[place])

    def append(self, count: int) -> None:
        """Append so many events at once."""
        self._append(count, Flag(), None)

    def _append(self, count: int | None, over: Flag, rate: int | None) -> None:
        codec, begun = self._encoded, time.monotonic()
        happened = islice(events(self._keys, self.at + self._loaded), count)
        with closing(KafkaProducer(bootstrap_servers=self._bootstrap, acks="all")) as producer:
            for number, event in enumerate(happened):
                if rate is not None and (ahead := begun + number / rate - time.monotonic()) > 0.0:
                    time.sleep(ahead)
                if over.is_set():
                    break
                producer.send(self._topic, codec.encode(event), codec.key(event), partition=0)
                self.requests += isinstance(event, Payment)
                self.at += 1

    @contextmanager
    def paced(self) -> Iterator[None]:
        """Within, events are appended at `RATE`."""
        over = Flag()
        thread = Thread(target=self._append, args=(None, over, RATE))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Answers:
    """The predictions of a worker, as a client reads them: `counted` of them, the last one of the record at
    offset `until`. `repeated` is how many came again."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._reader = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
        self._place = TopicPartition(topic, 0)
        self._reader.assign([self._place])
        self._reader.seek(self._place, self._end)
        self.counted = self.repeated = 0
        self.until = -1

    @property
    def _end(self) -> int:
        return int(self._reader.end_offsets([self._place])[self._place])

    def drain(self) -> None:
        """Read all that there is."""
        end = self._end
        while self._reader.position(self._place) < end:
            self.read()

    def read(self) -> None:
        """Read what has come."""
        for records in self._reader.poll(timeout_ms=20).values():
            for record in records:
                offset, _ = position_of(record.headers)
                self.repeated += offset <= self.until
                self.until = max(self.until, offset)
                self.counted += 1

    def wait(self, worker: WorkerCommand, offset: int) -> float:
        """Return the seconds until what follows this offset is answered."""
        begun = time.monotonic()
        while self.until <= offset:
            self.read()
            worker.check()
            if time.monotonic() - begun > WITHIN:
                raise worker.failure(f"did not come beyond offset {self.until}")
        return time.monotonic() - begun

    def close(self) -> None:
        """End the connection."""
        self._reader.close()


async def _folded(owned: OwnedPartition, deployment: Deployment, until: int) -> None:
    async for records in deployment.broker.read(deployment.log(0), owned.processor.next_offset, until):
        await owned.advance(records, records[0].offset)
    await owned.settled()


async def build(settings: Settings, keys: int, size: int) -> dict[str, int]:
    """Have a checkpoint of a state with so many open predictions; returns how many events are in it that the
    log does not have."""
    case, bootstrap = load_case(CASE), settings.bootstrap or ""
    repo = OnlineStoreRepo(settings.features(case.name), case.views(), case.on_demand_views())
    repo.apply()
    rows = OnlineWriter(repo)
    deployment = deploy(case, settings, KafkaBroker(bootstrap), rows)
    ensure_topics(bootstrap, deployment.specs)
    Log(bootstrap, deployment.topic, keys).append(CHUNK)
    owned = await take_over(deployment, 0)
    async for _ in owned.recover():
        pass
    assert isinstance(owned.processor, PartitionProcessor)
    state = Folded(owned.processor, keys)
    load(state, size - SETTLED)
    loaded = state.number - CHUNK
    log = Log(bootstrap, deployment.topic, keys, loaded)
    log.append(SETTLED)
    await _folded(owned, deployment, log.at)
    await owned.reach_store()
    snapshot = owned.snapshot()
    assert snapshot is not None
    await owned.store(snapshot)
    await owned.close()
    await rows.close()
    await deployment.broker.close()
    return {"loaded": loaded}


class Statuses:
    """What the worker says of itself, once a second."""

    def __init__(self, settings: Settings, case: str) -> None:
        self._path = status_path(settings, case)
        self.checkpoints: dict[int, float] = {}
        """CPU seconds of each checkpoint seen, by its offset."""
        self.resident_mb: list[float] = []
        self.cpu_seconds: list[float] = []

    def look(self) -> float:
        """Take the newest in; returns the age of the last checkpoint in seconds, 0 before there is one."""
        status = json.loads(self._path.read_text())
        self.resident_mb.append(status["rss_bytes"] / 2**20)
        self.cpu_seconds.append(status["cpu_seconds"])
        partition = status["partitions"].get("0", {})
        if (stored := partition.get("checkpoint")) is None:
            return 0.0
        self.checkpoints[stored["next_offset"]] = stored["cpu_seconds"]
        return float(stored["age_seconds"]) + time.time() - float(status["at"])


def _served(statuses: Statuses, answers: Answers, worker: WorkerCommand, log: Log) -> dict[str, Any]:
    """What serving costs."""
    statuses.look()
    first, begun, cpu = log.at, time.monotonic(), statuses.cpu_seconds[-1]
    while time.monotonic() - begun < SERVED:
        answers.read()
        worker.check()
        if time.monotonic() - begun > len(statuses.resident_mb):
            statuses.look()
    spent, seconds = statuses.cpu_seconds[-1] - cpu, time.monotonic() - begun
    return {
        "events_per_second": (log.at - first) / seconds,
        "cpu_us_per_event": spent / (log.at - first) * 1e6,
        "resident_mb": max(statuses.resident_mb),
        "checkpoint_cpu_seconds": list(statuses.checkpoints.values()),
        "checkpoint_share": sum(statuses.checkpoints.values()) / seconds,
    }


def _restarted(answers: Answers, log: Log, started: float, worker: WorkerCommand) -> dict[str, float]:
    """Seconds until the next prediction, with the CPU of the worker in them, and until all that waited
    at that moment is answered."""
    before = answers.until
    answers.wait(worker, before)
    first, cpu = time.monotonic() - started, _cpu_seconds(worker.process.pid)
    answers.wait(worker, log.at - RATE)
    return {
        "to_prediction_seconds": first,
        "to_prediction_cpu_seconds": cpu,
        "to_caught_up_seconds": time.monotonic() - started,
    }


def _cpu_seconds(pid: int) -> float:
    """CPU that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(settings: Settings, keys: int, loaded: int) -> dict[str, Any]:
    """A worker that goes on from the checkpoint in the settings' home, is killed, and started again."""
    case, bootstrap = load_case(CASE), settings.bootstrap or ""
    topics = case.topics(settings.namespace)
    log = Log(bootstrap, topics.log, keys, loaded)
    answers = Answers(bootstrap, topics.predictions)
    log.append(MINUTE)
    found: dict[str, Any] = {}
    started = time.monotonic()
    worker = WorkerCommand(CASE, settings)
    try:
        say("a worker starts, a minute behind")
        found["started"] = _restarted(answers, log, started, worker)
        with log.paced():
            statuses = Statuses(settings, case.name)
            say("it serves")
            found["served"] = _served(statuses, answers, worker, log)
            while statuses.look() < BEHIND:
                answers.read()
                worker.check()
            say("it is killed")
            worker.end(signal.SIGKILL)
            killed = time.monotonic()
            answers.drain()
            behind = log.at - max(statuses.checkpoints)
            worker = WorkerCommand(CASE, settings)
            found["killed"] = {"behind_records": behind} | _restarted(answers, log, killed, worker)
            found["served_again"] = _served(Statuses(settings, case.name), answers, worker, log)
        begun = time.monotonic()
        while answers.counted < log.requests and time.monotonic() - begun < WITHIN:
            answers.read()
    finally:
        worker.end()
        answers.close()
    return found | {"lost": log.requests - answers.counted, "repeated": answers.repeated}


def main(home: Path, keys: int, size: int, megabytes: int) -> dict[str, Any]:
    """Make the state if there is none, and measure."""
    stack = LocalStack(home)
    settings = Settings(home=home, bootstrap=stack.up().bootstrap, memory=ByteSize(megabytes << 20))
    built = home / "loaded.json"
    try:
        if not built.exists():
            say(f"makes a state of {size:,} open predictions")
            arguments = map(str, (keys, size, megabytes, home, settings.bootstrap))
            loaded = process.call(__spec__.name, *arguments, within=BUILT_WITHIN)
            built.write_text(json.dumps(loaded))
        return measure(settings, keys, json.loads(built.read_text())["loaded"])
    finally:
        stack.down()


if __name__ == "__main__":
    pin()
    key_count, open_count, memory, folder, *address = sys.argv[1:]
    place = Path(folder).absolute()
    if address:
        with seldom_collected():
            made = Settings(home=place, bootstrap=address[0], memory=ByteSize(int(memory) << 20))
            print(json.dumps(asyncio.run(build(made, int(key_count), int(open_count)))))
    else:
        try:
            print(json.dumps(main(place, int(key_count), int(open_count), int(memory)), indent=2))
        except PeerFailed as error:
            sys.exit(f"{error}")
