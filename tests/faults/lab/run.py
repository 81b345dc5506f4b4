"""One run of the fault lab: a case in a namespace of its own, with its workers and its producer."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.parts import Archive
from driftline.streams.checkpoints.checkpoint import SUFFIX
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import load_case
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.outputs import Target
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces
from tests.faults.lab.feed import CASE, PIECE, PRODUCER, Feed, source
from tests.faults.lab.markers import only_markers
from tests.faults.lab.stack import Lab, LabError, until
from tests.faults.lab.worker_process import WorkerProcess

CHECKPOINTS_EVERY = (0.1, 0.4, 1.0, 1000.0)
"""Seconds between a worker's checkpoints, of which one is drawn: successors begin near and far behind."""

COLD = 0.25
"""Share of the workers that begin as a new interpreter, with hashes of their own; the others are forked
from one that has imported everything."""


class Measured(NamedTuple):
    """Seconds that something took, and the machine's load average of the last minute at its end."""

    what: str
    seconds: float
    load: float


class Run:
    """One case under faults, in a namespace of its own. Everything random comes from `random`."""

    _numbers = itertools.count()

    def __init__(
        self,
        lab: Lab,
        seed: int,
        limit: int,
        *,
        case_path: str = CASE,
        pace: float = 2_000.0,
    ) -> None:
        self.lab = lab
        self.seed = seed
        self.limit = limit
        self.random = random.Random(seed)
        self.case_path = case_path
        self.case = load_case(case_path)
        self.namespace = f"f{next(self._numbers)}{secrets.token_hex(3)}"
        self.stages = StagePlaces(self.topics, code_of(self.case).short, itinerary_of(self.case))
        self.targets = [to for stage in range(self.stages.count) for to in self.stages.targets_of(stage)]
        """Every partition of every stage; of a case of one stage those of the log."""
        self.home = lab.home / self.namespace
        self.home.mkdir()
        self.key = secrets.token_hex(32)
        self.workers: list[WorkerProcess] = []
        self.commands: list[subprocess.Popen[bytes]] = []
        self.measured: list[Measured] = []
        self.log_is_the_source = True
        """Whether the log is to hold the source's events, each once and in their order."""
        self.reached_at = lab.bootstrap
        """Where workers reach the broker."""
        self._started = time.monotonic()
        self.pace = pace
        """Events a second, to be said before the first is fed."""
        self._feed: Feed | None = None
        self.fed = 0.0
        self._consumer: KafkaConsumer | None = None
        self.events = list(source(case_path, limit))
        ensure_topics(lab.bootstrap, self.topics.all())

    @property
    def topics(self) -> Topics:
        return self.case.topics(self.namespace)

    @property
    def settings(self) -> Settings:
        """Those of the workers."""
        return Settings(home=self.home, bootstrap=self.lab.bootstrap, namespace=self.namespace, key=self.key)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DRIFTLINE_HOME": str(self.home),
            "DRIFTLINE_BOOTSTRAP": self.reached_at,
            "DRIFTLINE_NAMESPACE": self.namespace,
            "DRIFTLINE_KEY": self.key,
        }

    def note(self, text: str) -> None:
        """Tell what happens."""
        print(f"  {time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    @staticmethod
    def clock() -> Callable[[], float]:
        """Says how many seconds have passed since now."""
        started = time.monotonic()
        return lambda: time.monotonic() - started

    def measure(self, what: str, seconds: float) -> None:
        measured = Measured(what, seconds, os.getloadavg()[0])
        self.measured.append(measured)
        self.note(f"{what}: {seconds:.2f} s (load {measured.load:.1f})")

    # workers

    def worker(self, *options: str, case_path: str | None = None) -> WorkerProcess:
        """One more worker process, with these options of the launcher; of other code where it is named."""
        if "--checkpoint-every" not in options:
            options = (*options, "--checkpoint-every", str(self.random.choice(CHECKPOINTS_EVERY)))
        worker = WorkerProcess(self, case_path or self.case_path, options, cold=self.random.random() < COLD)
        self.workers.append(worker)
        return worker

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of driftline beside the workers."""
        with (self.home / f"command-{len(self.commands)}.log").open("wb") as said:
            started = subprocess.Popen(
                [sys.executable, "-m", "driftline", *arguments],
                env={**os.environ, **self.environment},
                stdout=said,
                stderr=said,
            )
        self.commands.append(started)
        return started

    def names(self, partitions: Iterable[int] | None = None) -> set[str]:
        """What a status calls these partitions of the log (all partitions of all stages)."""
        return {self.stages.name(target) for target in self._targets(partitions)}

    def _targets(self, partitions: Iterable[int] | None) -> list[Target]:
        return self.targets if partitions is None else [Target(0, partition) for partition in partitions]

    def _until(self, worker: WorkerProcess, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that a worker does, as long as it lives and gets further in its topics."""

        def done() -> bool:
            self._must_live(worker)
            return condition()

        until(done, f"a worker {what}; see {worker.log}", progress=lambda: worker.offsets)

    def until_serving(self, worker: WorkerProcess, partitions: Iterable[int] | None = None) -> None:
        """Wait until a worker serves these partitions of the log (all of all stages)."""
        wanted = self.names(partitions)
        self._until(
            worker, lambda: worker.in_state("serving") >= wanted, f"serves partitions {sorted(wanted)}"
        )

    def until_folded(self, worker: WorkerProcess, partitions: Iterable[int] | None = None) -> None:
        """Wait until a worker has folded these partitions of the log (all of all stages) to their end."""
        what = f"folds partitions {sorted(self.names(partitions))} to the end"
        self._until(worker, lambda: self.all_folded(worker, partitions), what)

    def all_folded(self, worker: WorkerProcess, partitions: Iterable[int] | None = None) -> bool:
        """Whether a worker has folded all that is in these partitions of the log (all of all stages)."""
        found = worker.offsets  # before the ends, which have all that was sent by then
        behind: list[tuple[TopicPartition, int, int]] = []
        for target in self._targets(partitions):
            folded = found.get(self.stages.name(target), 0)
            place = TopicPartition(*self.stages.input(target))
            if folded < (end := self.ends(place.topic)[place.partition]):
                behind.append((place, folded, end))
        # a take-over leaves markers on all topics that stages write to; on the log there are none
        if not found or any(place.topic == self.topics.log for place, *_ in behind):
            return False
        with closing(self.consumer()) as consumer:
            return all(only_markers(consumer, *one) for one in behind)

    def until_passed(self, worker: WorkerProcess, share: float) -> None:
        """Wait until a worker has folded this share of what is in the log now."""
        wanted = share * sum(self.ends(self.topics.log).values())

        def passed() -> bool:
            return sum((worker.status or {"next_offsets": {}})["next_offsets"].values()) >= wanted

        self._until(worker, passed, f"folds {wanted:.0f} records")

    @staticmethod
    def _must_live(worker: WorkerProcess) -> None:
        if not worker.alive:
            raise LabError(f"the worker exited with {worker.process.exitcode}; see {worker.log}")

    def until_refused(self, worker: WorkerProcess, partitions: Iterable[int], *words: str) -> None:
        """Wait until a worker refuses these partitions of the log for a reason that has these words in it."""
        wanted = self.names(partitions)

        def refused() -> bool:
            self._must_live(worker)
            return worker.in_state("refused") >= wanted

        until(refused, f"partitions {sorted(wanted)} are refused; see {worker.log}")
        for partition in sorted(wanted):
            reason = worker.partitions[partition]["reason"]
            self.note(f"partition {partition} is refused: {reason.splitlines()[0]}")
            for word in words:
                if word not in reason:
                    raise LabError(f"the reason does not say {word!r}: {reason}")

    # the producer

    @property
    def busy(self) -> list[int]:
        """The partitions that requests go to; few keys may leave others with broadcast events alone."""
        codec, ask = self.case.codec(), self.case.task.ask
        keys = {codec.key(event) for event in self.events if isinstance(event, ask)}
        return sorted({partition_of(key, self.case.partitions) for key in keys if key is not None})

    def _requests(self) -> list[int]:
        """How many requests to predict the first n events hold, for every n."""
        ask = self.case.task.ask
        return list(itertools.accumulate((isinstance(event, ask) for event in self.events), initial=0))

    def feed_to(self, share: float) -> None:
        """Let the producer go on until this share of all requests is in the log."""
        if self._feed is None:
            self._feed = Feed(self.case, self.lab.bootstrap, self.namespace, self.events, self.pace)
            self._counts = self._requests()
            self._feed.start()
        self.fed = max(self.fed, share)
        if share >= 1:
            self._feed.open(len(self.events))
            return
        # events leave in pieces
        self._feed.open(-(-bisect_left(self._counts, share * self._counts[-1]) // PIECE) * PIECE)

    def until_fed(self) -> None:
        """Wait until all that the producer may send is acknowledged."""
        assert self._feed is not None
        until(self._feed.is_level, "the producer comes to its gate")

    def finish_feed(self) -> None:
        """Send everything and wait for it."""
        self.feed_to(1)
        assert self._feed is not None
        self._feed.finish()

    def inject(self, records: Iterable[tuple[bytes | None, bytes | None, int]]) -> None:
        """Append (key, value, partition) to the log as any client might."""
        self.log_is_the_source = False
        producer = KafkaProducer(bootstrap_servers=self.lab.bootstrap, max_request_size=4 << 20, **PRODUCER)
        try:
            sent = [
                producer.send(self.topics.log, value, key=key, partition=partition)
                for key, value, partition in records
            ]
            for future in sent:
                future.get(60)
        finally:
            producer.close()

    # the broker

    def places(self, topic: str) -> list[TopicPartition]:
        specs = [*self.topics.all(), *self.topics.between(self.stages.code)]
        return [TopicPartition(topic, p) for one in specs if one.name == topic for p in range(one.partitions)]

    @property
    def admin(self) -> KafkaAdminClient:
        """A client to be closed by its user."""
        return KafkaAdminClient(bootstrap_servers=self.lab.bootstrap)

    def consumer(self) -> KafkaConsumer:
        """A client to be closed by its user."""
        return KafkaConsumer(
            bootstrap_servers=self.lab.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
        )

    def ends(self, topic: str) -> dict[int, int]:
        """The end offset of each partition of a topic."""
        if self._consumer is None:
            self._consumer = self.consumer()
        try:
            found = self._consumer.end_offsets(self.places(topic), 5_000)
        except KafkaError:
            consumer, self._consumer = self._consumer, None
            consumer.close()
            raise
        return {tp.partition: end for tp, end in found.items()}

    def begins(self, topic: str) -> dict[int, int]:
        """The first offset that each partition of a topic still has."""
        with closing(self.consumer()) as consumer:
            found = consumer.beginning_offsets(self.places(topic))
        return {tp.partition: begin for tp, begin in found.items()}

    def read(self, topic: str) -> list[list[Any]]:
        """All committed records of a topic, by partition."""
        with closing(self.consumer()) as consumer:
            places = self.places(topic)
            consumer.assign(places)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            records: list[list[Any]] = [[] for _ in places]
            while any(consumer.position(tp) < ends[tp] for tp in places):
                for tp, fetched in consumer.poll(500).items():
                    records[tp.partition].extend(fetched)
            return records

    def delete_records(self, topic: str, ends: Mapping[int, int]) -> None:
        """Make the broker forget what lies before these offsets."""
        with closing(self.admin) as admin:
            admin.delete_records({TopicPartition(topic, p): end for p, end in ends.items()})

    def until_published(self, share: float) -> None:
        """Wait until about this share of all predictions is on its topic, with some markers of fences."""
        wanted = int(share * self._counts[-1])

        def published() -> int:
            return sum(self.ends(self.topics.predictions).values())

        def enough() -> bool:
            if self.workers:
                self.workers[-1].check()
            return published() >= wanted

        until(enough, f"{wanted} predictions are published", progress=published)

    def next_prediction(self) -> Callable[[], float]:
        """Look at the topic's end; the function returned waits for the next prediction beyond it and
        returns the seconds since."""
        started = time.monotonic()
        consumer = self.consumer()
        consumer.assign(self.places(self.topics.predictions))
        for tp, end in consumer.end_offsets(self.places(self.topics.predictions)).items():
            consumer.seek(tp, end)

        def wait() -> float:
            try:
                until(lambda: consumer.poll(20), "a prediction comes")
                return time.monotonic() - started
            finally:
                consumer.close()

        return wait

    # checkpoints

    def checkpoints(self, partition: int | None = None, stage: int = 0) -> list[Path]:
        """The checkpoints of all partitions or of one, oldest first."""
        folder = Path(self.settings.checkpoints_uri(self.case.name))
        inner = "*" if partition is None else self.stages.folder(Target(stage, partition))
        return sorted(folder.glob(f"{inner}/*{SUFFIX}"), key=lambda path: path.name)

    @property
    def _busy(self) -> list[list[Path]]:
        """The checkpoints of each busy partition; behind the log all are busy."""
        own = [self.checkpoints(partition) for partition in self.busy]
        return [*own, *(self.checkpoints(to.partition, to.stage) for to in self.targets if to.stage)]

    def until_checkpoints(self, count: int = 1) -> None:
        """Wait until each busy partition has so many checkpoints."""
        until(
            lambda: all(len(found) >= count for found in self._busy),
            f"{count} checkpoints of each busy partition",
        )

    def checkpoint_age(self) -> float | None:
        """Seconds since the newest checkpoint of the busy partition whose newest is the oldest; None
        while one has none."""
        newest = [found[-1:] for found in self._busy]
        if not all(newest):
            return None
        return time.time() - min(found.stat().st_mtime for (found,) in newest)

    # the archive

    def archive(self, part_size: int) -> dict[int, int]:
        """Archive what is complete of the log; returns the end of each partition that has any."""
        archive = Archive(self.settings.archive_uri(self.case.name), part_size)
        Archiver(archive, self.lab.bootstrap, [self.topics.log], f"{self.topics.log}.archiver").once()
        return self.archive_ends()

    def archive_ends(self) -> dict[int, int]:
        """Where the archive of each partition of the log ends that has any."""
        archive = Archive(self.settings.archive_uri(self.case.name))
        ends = {p: archive.end(self.topics.log, p) for p in range(self.case.partitions)}
        return {p: end for p, end in ends.items() if end > 0}

    def archived_parts(self, partition: int) -> list[Path]:
        """The files that the archive of a partition of the log consists of, oldest first."""
        folder = Path(self.settings.archive_uri(self.case.name))
        return sorted(folder.glob(f"{self.topics.log}/partition={partition}/*.parquet"))

    # the end

    def settle(self, worker: WorkerProcess) -> dict[str, Any]:
        """All events are sent, every other worker is stopped; this one folds to the end and is stopped.

        Returns its last status.
        """
        self.finish_feed()
        for other in self.workers:
            if other is not worker and other.alive:
                self.measure("SIGTERM to exit", other.terminate())
        self.until_folded(worker)
        self.measure("SIGTERM to exit", worker.terminate())
        status = worker.status
        assert status is not None
        return status

    def close(self) -> None:
        """End the producer and every process of this run, and remove its topics."""
        if self._feed is not None:
            self._feed.abandon()
        for worker in self.workers:
            if worker.alive:
                worker.kill()
        for command in self.commands:
            if command.poll() is None:
                command.kill()
                command.wait()
        if self._consumer is not None:
            self._consumer.close()
        self.lab.restore()
        admin = self.admin
        try:
            # a broker with the topics of a hundred runs takes minutes to start again
            own = [topic for topic in admin.list_topics() if topic.startswith(f"{self.namespace}.")]
            admin.delete_topics(own)
        finally:
            admin.close()
