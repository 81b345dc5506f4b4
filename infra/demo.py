"""The demo: a case's own source through a real Kafka, a worker beside it, and a report of what came out.

Worker and producer are processes of their own. What is printed and drawn is read back from the
topics, as any consumer would read it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec
from filelock import FileLock, Timeout
from rich.console import Console

from infra import report, summary
from infra.errors import InfraError
from infra.kafka import LocalStack
from infra.progress import Moment, ProgressView, view
from infra.settings import Settings
from infra.slot import status_path
from infra.topics_admin import ensure_topics, records_in
from streams.digest import Digests
from streams.epochs import is_epoch
from streams.messages import Prediction
from streams.processor import Summary
from streams.simulate import result
from streams.storage import Storage
from streams.topics import Topics
from streams.usecase import UseCase, load_case
from streams.watermark import NEVER

if TYPE_CHECKING:
    from kafka import KafkaConsumer

POLL_EVERY = 0.5
READY_WITHIN = 90.0
STALLED_AFTER = 120.0
STOPS_WITHIN = 30.0


class OutputRecord(NamedTuple):
    """A record of an output topic; (offset, ordinal) is its source position."""

    partition: int
    offset: int
    ordinal: int
    key: bytes | None
    value: bytes


@dataclass(slots=True)
class WatchedRun:
    """What was seen of the worker while it ran."""

    samples: list[report.Sample] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    ends: dict[int, int] = field(default_factory=dict)


def run(
    case_path: str,
    settings: Settings,
    *,
    limit: int | None = None,
    partitions: int | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run the case over its own source (`limit` events of it); returns what `demo --json` prints.

    The case's topics on the local broker are made anew, where they hold records only if `fresh` says that
    these may go; on a broker named in the settings nothing is deleted, a namespace of its own is used.
    Progress goes to standard error. Raises InfraError when a log is in the way, another demo of the case
    runs, or worker or producer fail.
    """
    with _alone(load_case(case_path), settings):
        return _run(case_path, settings, limit=limit, partitions=partitions, fresh=fresh)


def _run(
    case_path: str, settings: Settings, *, limit: int | None, partitions: int | None, fresh: bool
) -> dict[str, Any]:
    console = Console(stderr=True)
    case = load_case(case_path)
    if partitions is not None:
        case = replace(case, partitions=partitions)
    if case.source is None:
        raise InfraError(f"{case.name} declares no source: the demo has nothing to stream")
    settings = _prepared(case, settings, console, fresh)
    topics = case.topics(settings.namespace)
    options = [] if partitions is None else ["--partitions", str(partitions)]
    with _process("worker", ["infra.cli", "worker", case_path, *options], settings) as worker:
        before = _ready(worker, status_path(settings, case.name))
        feed = ["infra.feed", case_path, *options]
        if limit is not None:
            feed += ["--limit", str(limit)]
        with _process("producer", feed, settings) as producer, view(case.name, console) as shown:
            outcome = _Watch(case, settings, topics, worker, producer, before).until_folded(shown)
            shown.note("Everything is folded. Reading the topics back ...")
            worker.stop()
    evidence, digests = read_back(str(settings.bootstrap), topics, outcome.status["counts"]["predictions"])
    totals = Summary(outcome.status["counts"], outcome.status["models"])
    document = result(case, totals, outcome.seconds, outcome.cpu_seconds, digests)
    page = settings.home / "reports" / f"{case.name}.html"
    document |= {
        "partitions": case.partitions,
        "served": evidence.served(case.task),
        "report": str(page),
    }
    samples = [evidence.dated(sample) for sample in outcome.samples]
    report.write(page, case.name, document, samples, evidence, description=case.description)
    summary.table(document)
    _print_next(console, case_path, case, document, evidence)
    return document


@contextmanager
def _alone(case: UseCase, settings: Settings) -> Iterator[None]:
    """Raises InfraError where a demo of the case runs in this home already."""
    path = settings.home / f"demo-{settings.qualified(case.name)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)  # let go when the process ends, however it ends
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        raise InfraError(
            f"another demo of {case.name} runs in {settings.home}: wait for its end, or choose another "
            "namespace by DRIFTLINE_NAMESPACE"
        ) from None
    with held:
        yield


def _prepared(case: UseCase, settings: Settings, console: Console, fresh: bool) -> Settings:
    """Settings that name a broker with fresh topics for the case."""
    if settings.bootstrap is not None:
        namespace = f"{settings.namespace or 'demo'}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        settings = replace(settings, namespace=namespace)
        ensure_topics(str(settings.bootstrap), case.topics(namespace).all())
        return settings
    _refuse_second_worker(case, settings)
    stack = LocalStack(settings.home)
    if stack.status() is None:
        console.print(
            "Starting Apache Kafka (the first time it is fetched: about 45 MB) ...", highlight=False
        )
    broker = stack.up()
    console.print(f"Kafka runs at {broker.bootstrap}", highlight=False)
    topics = case.topics(settings.namespace)
    records = 0 if fresh else records_in(broker.bootstrap, topics.log)
    if records:
        raise InfraError(
            f"{topics.log} holds {records:,} records, and the demo begins with an empty log: --fresh deletes "
            "them and all that was made of them, another namespace (DRIFTLINE_NAMESPACE) leaves them"
        )
    ensure_topics(broker.bootstrap, topics.all(), fresh=True)
    # rows of an earlier run would be newer than this run's first ones and win
    shutil.rmtree(settings.features(case.name).path, ignore_errors=True)
    Storage(settings.checkpoints_uri(case.name)).clear()  # they are of the topics before
    status_path(settings, case.name).unlink(missing_ok=True)
    return replace(settings, bootstrap=broker.bootstrap)


def _refuse_second_worker(case: UseCase, settings: Settings) -> None:
    status = _read_status(status_path(settings, case.name))
    if status is None or time.time() - status["at"] > 10:
        return
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return
    raise InfraError(
        f"a worker of {case.name} runs (process {status['pid']}), and the demo makes its topics anew: stop "
        "it first, or choose another namespace by DRIFTLINE_NAMESPACE"
    )


class _Process:
    """A Python module that runs beside us; what it says goes to a file."""

    def __init__(self, name: str, module: Sequence[str], settings: Settings) -> None:
        self.name = name
        self.log = settings.home / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "DRIFTLINE_HOME": str(settings.home),
            "DRIFTLINE_BOOTSTRAP": str(settings.bootstrap),
            "DRIFTLINE_NAMESPACE": settings.namespace,
        }
        with self.log.open("wb") as out:
            self._process = self._start(module, environment, out)

    @staticmethod
    def _start(module: Sequence[str], environment: dict[str, str], out: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        """True when it ended well; raises InfraError, with the end of its log, when it failed."""
        code = self._process.poll()
        if code:
            raise self.failure(f"the {self.name} ended with {code}")
        return code is not None

    def failure(self, what: str) -> InfraError:
        """An error that shows the end of the process's log."""
        tail = self.log.read_text(errors="replace")[-3000:].strip()
        return InfraError(f"{what}; its log {self.log} ends with:\n{tail}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _process(name: str, module: Sequence[str], settings: Settings) -> Iterator[_Process]:
    process = _Process(name, module, settings)
    try:
        yield process
    finally:
        process.stop()


def _read_status(path: Path) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return status


def _event_time(status: dict[str, Any]) -> float | None:
    """Newest event time that the worker has seen, in seconds; None before the first event."""
    at = status["event_time"]
    return at if at is not None and at > NEVER else None


def _ready(worker: _Process, path: Path) -> dict[str, Any]:
    """The worker's first status."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if worker.ended():
            raise worker.failure("the worker ended before it had anything to do")
        status = _read_status(path)
        if status is not None and status["pid"] == worker.pid:
            return status
        time.sleep(0.1)
    raise worker.failure(f"the worker was not ready within {READY_WITHIN:g} s")


class _Watch:
    """Follows worker and producer until every record of the log is folded and acknowledged."""

    def __init__(
        self,
        case: UseCase,
        settings: Settings,
        topics: Topics,
        worker: _Process,
        producer: _Process,
        before: dict[str, Any],
    ) -> None:
        self._bootstrap = str(settings.bootstrap)
        self._topics = topics
        self._path = status_path(settings, case.name)
        self._worker = worker
        self._producer = producer
        self._cpu_before = float(before["cpu_seconds"])
        self._run = WatchedRun(status=before)
        self._started: float | None = None
        self._advanced = time.monotonic()
        self._rates: list[tuple[float, int]] = []

    def until_folded(self, shown: ProgressView) -> WatchedRun:
        """Show progress until all is folded; raises InfraError when something fails or stalls."""
        with _reader(self._bootstrap) as reader:
            while not self._folded(reader):
                self._look(reader, shown)
                time.sleep(POLL_EVERY)
            run = self._run
            run.seconds = time.monotonic() - (self._started or time.monotonic())
        run.status = self._final_status()
        run.cpu_seconds = run.status["cpu_seconds"] - self._cpu_before
        self._sample(run.status)
        return run

    def _folded(self, reader: KafkaConsumer) -> bool:
        done = self._producer.ended()
        if self._worker.ended():
            raise self._worker.failure("the worker ended while events were coming")
        run = self._run
        run.ends = _ends(reader, self._topics.log)
        if self._started is None and any(run.ends.values()):
            self._started = self._advanced = time.monotonic()
        self._take_status()
        return done and self._lag() == 0

    def _take_status(self) -> None:
        status = _read_status(self._path)
        run = self._run
        if status is None or status["at"] == run.status["at"]:
            return
        if status["next_offsets"] != run.status["next_offsets"]:
            self._advanced = time.monotonic()
        elif self._lag() and time.monotonic() - self._advanced > STALLED_AFTER:
            raise self._worker.failure(f"the worker has not moved for {STALLED_AFTER:g} s")
        self._sample(status)
        run.status = status

    def _sample(self, status: dict[str, Any]) -> None:
        """Keep a status; its metrics only when they are newer than the last ones."""
        at = _event_time(status)
        if at is None or self._started is None:
            return
        run = self._run
        known = next((s.models for s in reversed(run.samples) if s.models), {})
        models = status["models"] if status["models"] != known else {}
        run.samples.append(
            report.Sample(
                at,
                time.monotonic() - self._started,
                status["counts"]["events"],
                status["rss_bytes"],
                models,
                {int(partition): offset for partition, offset in status["next_offsets"].items()},
            )
        )

    def _lag(self) -> int:
        offsets = self._run.status["next_offsets"]
        return sum(max(0, end - offsets.get(str(p), 0)) for p, end in self._run.ends.items())

    def _look(self, reader: KafkaConsumer, shown: ProgressView) -> None:
        if self._started is None:
            return
        run = self._run
        now = time.monotonic()
        events = run.status["counts"]["events"]
        self._rates = [*(r for r in self._rates if now - r[0] < 5), (now, events)]
        (first_at, first), (last_at, last) = self._rates[0], self._rates[-1]
        shown.show(
            Moment(
                wall=now - self._started,
                at=_event_time(run.status),
                events=events,
                events_per_second=(last - first) / (last_at - first_at) if last_at > first_at else 0.0,
                lag=self._lag(),
                predictions=run.status["counts"]["predictions"],
                drift_events=run.status["counts"]["drift_events"],
                rss=run.status["rss_bytes"],
                models=run.status["models"],
                newest=_newest(reader, self._topics.predictions) if shown.wants_predictions else (),
            )
        )

    def _final_status(self) -> dict[str, Any]:
        """The status whose metrics cover everything: the one written as the worker ends."""
        self._worker.stop()
        status = _read_status(self._path)
        if status is None or (status["counts"]["predictions"] and not status["models"]):
            raise self._worker.failure("the worker left no final status")
        return status


@contextmanager
def _reader(bootstrap: str, **settings: Any) -> Iterator[KafkaConsumer]:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        group_id=None,
        **settings,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _places(reader: KafkaConsumer, topic: str) -> list[Any]:
    from kafka import TopicPartition

    return [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or ())]


def _ends(reader: KafkaConsumer, topic: str) -> dict[int, int]:
    return {tp.partition: end for tp, end in reader.end_offsets(_places(reader, topic)).items()}


def _newest(reader: KafkaConsumer, topic: str) -> list[Prediction]:
    """The newest prediction of each partition."""
    places = _places(reader, topic)
    ends = reader.end_offsets(places)
    reader.assign(places)
    for tp, end in ends.items():
        reader.seek(tp, max(0, end - 1))
    fetched = reader.poll(timeout_ms=100, max_records=len(places))
    return [msgspec.json.decode(found[-1].value, type=Prediction) for found in fetched.values() if found]


def read_topic(bootstrap: str, topic: str) -> Iterator[OutputRecord]:
    """Every committed record of an output topic up to its present end, each source position once;
    code epochs, which no input caused, are left out.

    Within a partition they come in the order of their source positions. Raises InfraError when they
    are not in that order, or the end cannot be reached.
    """
    from streams.positions import position_of

    with _reader(bootstrap, max_poll_records=5_000, max_partition_fetch_bytes=4_194_304) as reader:
        places = _places(reader, topic)
        ends = reader.end_offsets(places)
        reader.assign(places)
        reader.seek_to_beginning(*places)
        seen = dict.fromkeys((tp.partition for tp in places), (-1, -1))
        idle_since = time.monotonic()
        while any(reader.position(tp) < end for tp, end in ends.items()):
            fetched = reader.poll(timeout_ms=500)
            if fetched:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > STALLED_AFTER:
                raise InfraError(f"the end of {topic} could not be read: {ends}")
            for tp, records in fetched.items():
                for record in records:
                    if is_epoch(record):
                        continue
                    position = position_of(record.headers)
                    if position <= seen[tp.partition]:
                        continue
                    seen[tp.partition] = position
                    yield OutputRecord(tp.partition, *position, record.key, record.value)


def read_back(bootstrap: str, topics: Topics, predictions: int) -> tuple[report.RunRecords, dict[str, str]]:
    """What the report needs of the topics, and their digests; there are about so many predictions."""
    evidence = report.RunRecords(every=max(1, predictions // report.FEATURE_SAMPLE))
    digests = Digests(topics.partitions)

    def read(kind: str) -> Iterator[OutputRecord]:
        for record in read_topic(bootstrap, getattr(topics, kind)):
            digests.update(kind, record.partition, record.offset, record.ordinal, record.value)
            yield record

    for record in read("predictions"):
        evidence.prediction(record.key, record.value, record.partition, record.offset)
    for record in read_topic(bootstrap, topics.outcomes):
        evidence.outcome(record.value)
    for record in read("drift"):
        evidence.drift(record.value)
    for record in read("models"):
        evidence.change(record.value)
    return evidence, digests.as_dict()


def _print_next(
    console: Console, case_path: str, case: UseCase, document: dict[str, Any], evidence: report.RunRecords
) -> None:
    """Where the report is, and three commands that look at what the run has left behind."""
    commands = [
        f"driftline predictions tail {case_path} --max 5",
        f"driftline drift tail {case_path} --max 5",
    ]
    known = evidence.keys
    shown = next((found for found in case.views() if known.keys() >= set(found.keys)), None)
    if shown is not None:
        keys = " ".join(f"{name}={known[name]}" for name in shown.keys)
        commands.append(f"driftline features get {case_path} {shown.name} {keys}")
    lines = [
        f"report {document['report']}",
        "",
        "Kafka still runs (`driftline down` stops it). To try next:",
        *(f"  {command}" for command in commands),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
