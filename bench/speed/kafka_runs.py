"""Runs from Kafka to Kafka on one broker: driftline's workers and their peers on the same events."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from driftline.bench.cases import FLIGHTS
from driftline.bench.log import Log
from driftline.bench.peers import process
from driftline.bench.peers.process import Assignment, Limits, PeerFailed
from driftline.bench.speed import gateway, latency, recovery
from driftline.bench.speed.attempts import attempt, say
from driftline.infra.local.kafka import free_port
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.positions import position_of
from driftline.streams.simulation.digest import PartitionDigest, combined

EVERYTHING = "driftline.bench.cases:everything"
WORKER = "driftline.bench.peers.worker"
PACE_SECONDS = {200: 15.0, 1000: 3.0}
"""Length of one paced run by its rate, in events a second."""
AGREEMENT = 1e-6
"""The largest allowed difference of a peer's probability from driftline's, as peers sum in floats."""
RECOVERED_WITHIN = 400.0
"""Seconds for each of the two measurements of take-over and recovery."""


class KafkaRuns:
    """The runs of one bench on one broker; their topics are removed at the end."""

    def __init__(
        self, bootstrap: str, log: Log, folder: Path, limits: Limits, case_path: str = FLIGHTS
    ) -> None:
        self.case: UseCase = load_case(case_path)
        self.log = log
        self._bootstrap = bootstrap
        self._folder = folder
        self._limits = limits
        self._token = f"bench-{uuid4().hex[:8]}"
        self._turn = 0
        self._published: dict[str, float] = {}

    def assign(self, *, own: bool = False, **options: Any) -> Assignment:
        """Fresh topics for one run: the case's own, or plain ones. The log is not yet filled."""
        self._turn += 1
        namespace = f"{self._token}-{self._turn}"
        case_topics = self.case.topics(namespace)
        assignment = Assignment(
            case=options.pop("case", EVERYTHING),
            bootstrap=self._bootstrap,
            namespace=namespace,
            log=case_topics.log,
            predictions=case_topics.predictions,
            outcomes=case_topics.outcomes,
            home=process.home(self._folder, namespace),
            **options,
        )
        between = case_topics.between(code_of(self.case).short)
        specs = [*case_topics.all(), *between] if own else process.topics(assignment, self.log.partitions)
        ensure_topics(self._bootstrap, specs)
        return assignment

    def driftline(self, expected: dict[str, Any], **options: Any) -> dict[str, Any]:
        """One driftline worker over the whole log; its predictions' digest must be simulate's."""
        assignment = self.assign(own=True, **options)
        self.log.produce(self._bootstrap, assignment.log)
        found = self._measure(WORKER, assignment, expected)
        if not assignment.exact:
            return found  # without source positions there is no digest
        digests = [PartitionDigest() for _ in range(self.log.partitions)]
        for record in self._predictions(assignment):
            offset, ordinal = position_of(record.headers)
            digests[record.partition].update(offset, ordinal, record.value)
            message = json.loads(record.value)
            if message["probabilities"] is not None:
                self._published[message["event_id"]] = message["probabilities"].get("true", 0.0)
        if combined(digests) != expected["digest"]:
            raise PeerFailed("the worker's predictions are not those of simulate: the digests differ")
        return found

    def peer(self, module: str, expected: dict[str, Any], **options: Any) -> dict[str, Any]:
        """One peer over the whole log; its probabilities must be driftline's but for rounding."""
        assignment = self.assign(**options)
        self.log.produce(self._bootstrap, assignment.log)
        found = self._measure(module, assignment, expected)
        difference = found["largest_difference"] = self._difference(assignment)
        if difference is not None and difference > AGREEMENT:
            raise PeerFailed(f"{module}'s predictions differ from driftline's by up to {difference}")
        return found

    def _measure(self, module: str, assignment: Assignment, expected: dict[str, Any]) -> dict[str, Any]:
        outputs = {getattr(assignment, kind): expected[kind] for kind in ("predictions", "outcomes")}
        return process.measure(module, assignment, len(self.log), outputs, self._limits)

    def _difference(self, assignment: Assignment) -> float | None:
        """Largest difference of a probability from driftline's; None when it published none."""
        if not self._published:
            return None
        worst = 0.0
        for record in self._predictions(assignment):
            message = json.loads(record.value)
            p = message["probabilities"]["true"]
            worst = max(worst, abs(p - self._published.get(message["event_id"], float("inf"))))
        return worst

    def _predictions(self, assignment: Assignment) -> list[Any]:
        """All predictions of a run, each partition in its order."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        tps = [TopicPartition(assignment.predictions, p) for p in range(self.log.partitions)]
        try:
            consumer.assign(tps)
            ends = consumer.end_offsets(tps)
            found: list[Any] = []
            while any(consumer.position(tp) < end for tp, end in ends.items()):
                for records in consumer.poll(timeout_ms=1000, max_records=5000).values():
                    found += records
            return found
        finally:
            consumer.close()

    def latency(self, rounds: int) -> dict[str, Any]:
        """driftline, itself while its metrics are scraped, itself without what makes it exact, and a bare
        aiokafka loop under the same paced load, in turns."""
        services = {
            "driftline": (WORKER, self.assign(own=True)),
            "driftline_scraped": (WORKER, self.assign(own=True, metrics=f"127.0.0.1:{free_port()}")),
            "driftline_inexact": (WORKER, self.assign(own=True, exact=False)),
            "aiokafka": ("driftline.bench.peers.echo", self.assign()),
        }
        with ExitStack() as stack:
            running = {
                name: (stack.enter_context(process.running(module, assignment, self._limits)), assignment)
                for name, (module, assignment) in services.items()
            }
            return asyncio.run(
                latency.measure(self.case, self.log, running, PACE_SECONDS, rounds, self._limits)
            )

    def gateway(self, requests: int) -> dict[str, Any]:
        """So many requests of one client over HTTP, and as many over the topics."""
        assignment = self.assign(own=True)
        with process.running(WORKER, assignment, self._limits) as worker:
            return gateway.measure(self.case, self.log, worker, assignment, requests, self._limits)

    def recovery(self, log_file: Path, rounds: int) -> dict[str, Any]:
        """The cost of a take-over, and the outage after a worker is killed; `failures` by measurement."""

        def silent_fold() -> dict[str, Any]:
            assignment = self.assign(own=True)
            self.log.produce(self._bootstrap, assignment.log)
            with process.running(WORKER, assignment, self._limits) as worker:
                recovery.all_answered(assignment, self.log, worker)
            return self._recover("silent_fold", assignment, log_file, rounds)

        def kill() -> dict[str, Any]:
            return self._recover("kill", self.assign(own=True), log_file, rounds)

        found = {"silent_fold": attempt(silent_fold), "kill": attempt(kill)}
        failures = {name: part["failure"] for name, part in found.items() if "failure" in part}
        figures = {
            name: value for part in found.values() for name, value in part.items() if name != "failure"
        }
        return figures | ({"failures": failures} if failures else {})

    def _recover(self, what: str, assignment: Assignment, log_file: Path, rounds: int) -> dict[str, Any]:
        encoded = msgspec.json.encode(assignment).decode()
        arguments = (encoded, str(log_file), what, str(rounds))
        return process.call("driftline.bench.speed.recovery", *arguments, within=RECOVERED_WITHIN)

    def clean(self) -> None:
        """Remove the runs' topics, the peers' own (change logs) among them: they carry the name too."""
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
            try:
                admin.delete_topics([name for name in admin.list_topics() if self._token in name])
            finally:
                admin.close()
        except KafkaError as error:  # what was measured is worth more than a tidy broker
            say(f"topics whose names begin with {self._token} are left on {self._bootstrap}: {error}")
