"""Fixtures for tests on a real Kafka, on this machine or in containers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from kafka import KafkaConsumer, TopicPartition

from driftline.infra.local.kafka import LocalStack, answers, free_port
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.clients.producer import EventProducer
from driftline.streams.connection.log_throttling import LIBRARIES
from driftline.streams.declare.events import Event
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.positions import SourcePosition, source_of
from driftline.streams.simulation.digest import DIGESTED, Digests
from tests.commands.forked_command import Command, ForkedCommand, cold_command, completed

CASES = Path(__file__).parent / "cases"
"""Where the tests' own cases are, for workers to import."""

# how long an example takes is the machine's, and decides nothing
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", UNTIMED)
settings.register_profile("soak", UNTIMED, max_examples=5_000)
settings.load_profile("untimed")

os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
"""The tests' brokers are too short-lived to be compiled twice: they take 7.6 s of CPU instead of 13.3."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack", choices=("local", "docker"), default="local", help="where the tests' Kafka runs"
    )


LAST = 0.1
"""The share of the files that do not wait which come after all that wait."""


def taking_turns(files: Sequence[Path], waiting: Set[Path]) -> dict[Path, float]:
    """The place of each file, so that those that wait and those that do not are spread evenly; each kind is
    in the order in which it came. The last files are those that do not wait: they are short, and when a
    process has no more of them, the others are nearly done too."""
    places = {}
    for kind, until in (
        ([file for file in files if file in waiting], 1.0 - LAST),
        ([file for file in files if file not in waiting], 1.0),
    ):
        places |= {file: until * (number + 0.5) / len(kind) for number, file in enumerate(kind)}
    return places


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a broker is an integration test.

    Files with such tests, which wait more than they work, take turns with the others, so that the processors
    have something to do all the time.
    """
    for item in items:
        if {"bootstrap", "lab", "stack", "system_of"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)
    waiting = {item.path for item in items if item.get_closest_marker("integration")}
    places = taking_turns([*dict.fromkeys(item.path for item in items)], waiting)
    items.sort(key=lambda item: places[item.path])


def engine_missing() -> str | None:
    """Why no containers can be run, None when they can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for question in (["docker", "compose", "version"], ["docker", "info"]):
        asked = subprocess.run(question, capture_output=True, text=True, check=False)
        if asked.returncode:
            return f"{' '.join(question)}: {(asked.stderr.strip() or 'fails').splitlines()[0]}"
    return None


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """The broker alone: the worker's image takes minutes to build, and the tests bring their own."""
    return ["up --wait kafka"]


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(Path(__file__).parents[1] / "docker-compose.yml")


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Kafka of these tests' own."""
    if request.config.getoption("--stack") == "docker":
        reason = engine_missing()
        if reason is not None:
            pytest.skip(f"--stack docker: {reason}")
        os.environ["KAFKA_PORT"] = str(free_port())
        services: Any = request.getfixturevalue("docker_services")
        address = f"127.0.0.1:{services.port_for('kafka', 9092)}"
        services.wait_until_responsive(timeout=90, pause=0.5, check=lambda: answers(address))
        yield address
        return
    stack = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        yield stack.up().bootstrap
    finally:
        stack.down(wipe=True)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any], float], Any]:
    """Waits until a condition gives something true, and returns that; fails at the deadline (seconds).

    On a busy machine the start of a worker alone takes half a minute.
    """

    def wait(condition: Callable[[], Any], within: float = 240.0) -> Any:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        pytest.fail(f"the condition did not come true within {within:g} s")

    return wait


@dataclass
class System:
    """A case under a namespace of its own on the tests' broker, and the workers that serve it."""

    case_path: str
    case: UseCase
    bootstrap: str
    namespace: str
    home: Path
    workers: list[Command] = field(default_factory=list)

    @property
    def topics(self) -> Topics:
        return self.case.topics(self.namespace)

    @property
    def environment(self) -> dict[str, str]:
        """That of the commands which belong to this system."""
        return os.environ | {
            "DRIFTLINE_HOME": str(self.home),
            "DRIFTLINE_BOOTSTRAP": self.bootstrap,
            "DRIFTLINE_NAMESPACE": self.namespace,
            "PYTHONPATH": str(CASES),
        }

    @property
    def status(self) -> dict[str, Any] | None:
        name = ".".join(filter(None, (self.namespace, self.case.name)))
        path = self.home / "status" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """What each worker has written to its status file."""
        return [json.loads(path.read_text()) for path in (self.home / "status").glob("*.json")]

    def start(self) -> Command:
        """One more worker."""
        return self.command("worker", self.case_path)[0]

    def command(self, *arguments: str, cold: bool = False, **environment: str) -> tuple[Command, Path]:
        """A command of this system that runs beside the test, and the file of what it says; a `cold` one is
        a new Python, which imports everything itself."""
        said = self.home / f"{arguments[0]}-{len(self.workers)}.log"
        begun = cold_command if cold else ForkedCommand
        process = begun(arguments, self.environment | environment, said)
        self.workers.append(process)
        return process, said

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of this system, run to its end."""
        return completed(*arguments, environment=self.environment | environment)

    def stop(self, worker: Command) -> None:
        """Ask a worker to end, and see that it ends well."""
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0

    @cached_property
    def _consumer(self) -> KafkaConsumer:
        """Asks for ends, and reads; it does so again and again, and a new one takes ten times as long."""
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            # a request behind a fetch that waits at a partition's end waits as long
            fetch_max_wait_ms=10,
        )

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        if "_consumer" in vars(self):
            self._consumer.close()

    def places(self, topic: str) -> list[TopicPartition]:
        """The partitions of one of the case's topics, those between stages too."""
        return [TopicPartition(topic, p) for p in range(self._counts[topic])]

    @cached_property
    def _counts(self) -> dict[str, int]:
        """The partitions of each topic. They are asked for again and again, and the hash of the case's code,
        which is in the names of topics between stages, takes 20 ms."""
        specs = [*self.topics.all(), *self.topics.between(code_of(self.case).short)]
        return {spec.name: spec.partitions for spec in specs}

    def ends(self, topic: str) -> dict[int, int]:
        """Where a reader of committed records ends, by partition: an open transaction is not passed."""
        return {tp.partition: end for tp, end in self._consumer.end_offsets(self.places(topic)).items()}

    def folded(self, worker: Command) -> bool:
        """Whether this worker has folded all of the log."""
        assert worker.poll() is None, "the worker ended"
        ends = self.ends(self.topics.log)
        folded = [status["next_offsets"] for status in self.statuses if status["pid"] == worker.pid]
        return any(all(to.get(str(p), 0) >= end for p, end in ends.items()) for to in folded)

    def read(self, topic: str) -> list[Any]:
        """All records of a topic, those of a partition in their order."""
        consumer, places = self._consumer, self.places(topic)
        consumer.assign(places)
        try:
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            records: list[Any] = []
            while any(consumer.position(tp) < ends[tp] for tp in places):
                for fetched in consumer.poll(1000).values():
                    records.extend(fetched)
            return records
        finally:
            consumer.unsubscribe()

    def refolded(self, *, rows: bool = False) -> list[tuple[PartitionProcessor, Outputs]]:
        """What a run of the log without any fault makes: of each partition the processor and its outputs."""
        records = self.read(self.topics.log)
        processors = [PartitionProcessor(self.case, n, rows=rows) for n in range(self.case.partitions)]
        return [(p, p.step([r for r in records if r.partition == n])) for n, p in enumerate(processors)]

    def sources(self, topic: str) -> list[tuple[int, SourcePosition]]:
        """Source positions; a code epoch on the models topic has none."""
        positions = [(r.partition, source_of(r.headers)) for r in self.read(topic)]
        return [(partition, position) for partition, position in positions if position is not None]

    def digests(self) -> dict[str, str]:
        """Digests of the topics; a code epoch on the models topic, which no input caused, has no part."""
        digests = Digests(self.topics.learning, self.topics.predicting)
        for kind in DIGESTED:
            for record in self.read(getattr(self.topics, kind)):
                position = source_of(record.headers)
                if position is not None:
                    digests.update(kind, record.partition, *position, record.value)
        return digests.as_dict()

    def produce(self, events: Iterable[Event]) -> None:
        with EventProducer(self.case, self.bootstrap, namespace=self.namespace) as producer:
            for event in events:
                producer.send(event)


@pytest.fixture
def system_of(bootstrap: str, tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Makes a system of the case at `module:attribute`; its workers end with the test.

    The namespace is a new one, or the one given; so is the broker, by its address.
    """
    systems: list[System] = []

    def made(case_path: str, namespace: str | None = None, address: str = bootstrap) -> System:
        case = load_case(case_path)
        if namespace is None:
            namespace = f"t{uuid.uuid4().hex[:8]}"
        home = tmp_path / f"system-{len(systems)}"
        home.mkdir()
        system = System(case_path, case, address, namespace, home)
        ensure_topics(address, system.topics.all())
        systems.append(system)
        return system

    yield made
    for system in systems:
        system.close()


@pytest.fixture(autouse=True)
def _own_logs() -> None:
    """No test sees what another has left out of the libraries' logs, as each command does."""
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LIBRARIES]:
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.filters.clear()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees or touches the developer's own stack."""
    for name in [name for name in os.environ if name.startswith("DRIFTLINE_") and name != "DRIFTLINE_JARS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "home"))
