"""The whole bench: everything on the same events, in one run, ratios first.

python -m driftline.bench.run --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from driftline.bench import latency, peer, recovery, table
from driftline.bench.cases import FLIGHTS
from driftline.bench.log import Log
from driftline.bench.peer import Assignment, PeerFailed
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.records.positions import position_of
from driftline.streams.simulation.digest import PartitionDigest, combined

CHAMPION_ALONE = "driftline.bench.cases:champion_alone"
EVERYTHING = "driftline.bench.cases:everything"
RESULTS = Path(__file__).parent / "results.json"
README = Path(__file__).resolve().parents[1] / "README.md"
PACE_SECONDS = {200: 15.0, 1000: 3.0}
"""Length of one paced run by its rate, in events a second."""
AGREEMENT = 1e-6
"""Largest difference of a peer's probability from driftline's: theirs are summed in floats."""


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    """One run of the bench, on one broker; its topics are removed at the end."""

    def __init__(self, bootstrap: str, limit: int, folder: Path) -> None:
        self._bootstrap = bootstrap
        self.case: UseCase = load_case(FLIGHTS)
        self._folder = folder
        self._token = f"bench-{uuid4().hex[:8]}"
        self._turn = 0
        self._topics: list[str] = []
        _say(f"lays out {limit:,} events")
        self.log = Log.of(self.case, limit)
        self._log_file = folder / "log"
        self.log.save(self._log_file)
        self._published: dict[str, float] = {}

    def fold(self, rounds: int) -> dict[str, Any]:
        """Bare River and the fold from memory."""
        _say("bare River, and the fold by stage")
        return peer.call("driftline.bench.fold", FLIGHTS, str(self._log_file), str(rounds))

    def handwritten(self) -> dict[str, Any]:
        """The job by hand from memory."""
        _say("the job by hand, from memory")
        return peer.call("driftline.bench.job", FLIGHTS, str(self._log_file))

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
            home=peer.home(self._folder, namespace),
            **options,
        )
        specs = case_topics.all() if own else peer.topics(assignment, self.log.partitions)
        self._topics += ensure_topics(self._bootstrap, specs)
        return assignment

    def kafka(self, expected: dict[str, Any], **options: Any) -> dict[str, Any]:
        """One driftline worker over the whole log; its predictions' digest must be simulate's."""
        assignment = self.assign(own=True, **options)
        self.log.produce(self._bootstrap, assignment.log)
        found = self._measure("driftline.bench.kafka", assignment, expected)
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

    def peer(self, module: str, expected: dict[str, Any], *, durable: bool) -> dict[str, Any]:
        """One peer over the whole log; its probabilities must be driftline's but for rounding."""
        assignment = self.assign(durable=durable)
        self.log.produce(self._bootstrap, assignment.log)
        found = self._measure(module, assignment, expected)
        difference = found["largest_difference"] = self._difference(assignment)
        if difference is not None and difference > AGREEMENT:
            raise PeerFailed(f"{module}'s predictions differ from driftline's by up to {difference}")
        return found

    def _measure(self, module: str, assignment: Assignment, expected: dict[str, Any]) -> dict[str, Any]:
        outputs = {getattr(assignment, kind): expected[kind] for kind in ("predictions", "outcomes")}
        return peer.measure(module, assignment, len(self.log), outputs)

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
        """driftline, itself without what makes it exact, and a bare aiokafka loop under the same paced
        load, in turns."""
        _say(f"latency at {' and '.join(map(str, PACE_SECONDS))} events a second, {rounds} runs each")
        ours, bare, theirs = self.assign(own=True), self.assign(own=True, exact=False), self.assign()
        with (
            peer.running("driftline.bench.kafka", ours) as worker,
            peer.running("driftline.bench.kafka", bare) as inexact,
            peer.running("driftline.bench.echo", theirs) as echo,
        ):
            services = {
                "driftline": (worker, ours),
                "driftline_inexact": (inexact, bare),
                "aiokafka": (echo, theirs),
            }
            return asyncio.run(latency.measure(self.case, self.log, services, PACE_SECONDS, rounds))

    def recovery(self, rounds: int) -> dict[str, Any]:
        """What a take-over costs, and how long a killed worker is away."""
        _say("take-over, silent fold, a worker killed")
        folded, killed = self.assign(own=True), self.assign(own=True)
        self.log.produce(self._bootstrap, folded.log)
        with peer.running("driftline.bench.kafka", folded) as worker:
            recovery.all_answered(folded, self.log, worker)
        found = recovery.silent_fold(folded, self.log, self._folder / "recovery", rounds)
        return found | recovery.kill(killed, self.log)

    def clean(self) -> None:
        """Remove the run's topics."""
        from kafka import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            # the peers' own topics (change logs) carry the run's name too
            admin.delete_topics([name for name in admin.list_topics() if self._token in name])
        finally:
            admin.close()


def _attempt(run: Callable[[], dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Medians over runs of one peer; nulls and the reason where it failed."""
    try:
        runs = [run() for _ in range(rounds)]
    except PeerFailed as error:
        _say(str(error))
        return {"cpu_us_per_event": None, "events_per_second": None, "reason": str(error)}
    result = {name: median(one[name] for one in runs) for name in ("cpu_us_per_event", "events_per_second")}
    differences = [one["largest_difference"] for one in runs if one.get("largest_difference") is not None]
    extra = {"largest_difference_from_driftline": max(differences)} if differences else {}
    return {**result, "runs_cpu_us_per_event": [one["cpu_us_per_event"] for one in runs], **extra}


def _missing(package: str) -> dict[str, Any]:
    reason = f"{package} is not installed"
    _say(reason)
    return {"cpu_us_per_event": None, "events_per_second": None, "reason": reason}


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def measure(bench: Bench, rounds: int, latency_rounds: int) -> dict[str, Any]:
    """Everything, as it goes into results.json."""
    fold = bench.fold(rounds)
    hand = bench.handwritten()
    by_hand = hand["outputs"]
    outputs = fold["outputs"]
    per_event = fold["us_per_event"]
    peers: dict[str, Any] = {
        name: {"cpu_us_per_event": us, "events_per_second": 1e6 / us}
        for name, us in (
            ("river", per_event["river"]),
            ("handwritten", hand["cpu_us_per_event"]),
            ("simulate_champion", per_event["champion_alone"]),
            ("simulate", per_event["everything"]),
        )
    }
    _say("driftline, Kafka to Kafka")
    for name, variant, options, repeat in (
        ("driftline_champion", "champion_alone", {"case": CHAMPION_ALONE}, rounds),
        ("driftline", "everything", {}, rounds),
        ("driftline_inexact", "everything", {"exact": False}, rounds),
        ("driftline_feast", "everything", {"feast": True}, rounds),
    ):
        peers[name] = _attempt(lambda v=variant, o=options: bench.kafka(outputs[v], **o), repeat)  # type: ignore[misc]
    for name, module, package, durable, repeat in (
        ("quix", "driftline.bench.quix", "quixstreams", True, rounds),
        ("quix_memory", "driftline.bench.quix", "quixstreams", False, 1),
        ("faust", "driftline.bench.faust_plain", "faust", True, 1),
        ("faust_memory", "driftline.bench.faust_plain", "faust", False, 1),
    ):
        _say(name)
        if find_spec(package) is None:
            peers[name] = _missing(package)
            continue
        peers[name] = _attempt(lambda m=module, d=durable: bench.peer(m, by_hand, durable=d), repeat)  # type: ignore[misc]
    try:
        delays = bench.latency(latency_rounds)
    except PeerFailed as error:
        _say(str(error))
        delays = {"reason": str(error)}
    try:
        recovered = bench.recovery(rounds)
    except PeerFailed as error:
        _say(str(error))
        recovered = {"reason": str(error)}

    def cpu(name: str) -> float | None:
        found: float | None = peers[name]["cpu_us_per_event"]
        return found

    def p99(rate: int, other: str = "aiokafka") -> float | None:
        if "reason" in delays:
            return None
        ratio: float = delays["driftline"][str(rate)]["p99_ms"] / delays[other][str(rate)]["p99_ms"]
        return ratio

    flight = fold["us_per_flight"]
    return {
        "ratios": {
            "core_fold_vs_river": flight["champion_alone"] / flight["river"],
            "fold_vs_river": flight["everything"] / flight["river"],
            "adaptation_vs_champion": 1.0
            + fold["stages_us_per_flight"]["drift manager and promotion, with them"]
            / flight["champion_alone"],
            "kafka_vs_simulate_cpu": _over(cpu("simulate"), cpu("driftline")),
            "faust_vs_driftline_cpu": _over(cpu("faust"), cpu("driftline_champion")),
            "quix_vs_driftline_cpu": _over(cpu("quix"), cpu("driftline_champion")),
            "latency_p99_vs_aiokafka_200": p99(200),
            "latency_p99_vs_aiokafka_1000": p99(1000),
            "exactness_cpu": _over(cpu("driftline"), cpu("driftline_inexact")),
            "exactness_latency_p99_200": p99(200, "driftline_inexact"),
            "exactness_latency_p99_1000": p99(1000, "driftline_inexact"),
            "silent_fold_vs_simulate_speed": recovered.get("silent_fold_speed"),
            "faust_memory_vs_driftline_cpu": _over(cpu("faust_memory"), cpu("driftline_champion")),
            "quix_memory_vs_driftline_cpu": _over(cpu("quix_memory"), cpu("driftline_champion")),
            "kafka_with_feast_vs_simulate_cpu": _over(cpu("simulate"), cpu("driftline_feast")),
        },
        "events": len(bench.log),
        "predictions": fold["predictions"],
        "peers": peers,
        "latency": delays,
        "recovery": recovered,
        "fold": fold,
        "machine": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def main(
    settings: Settings,
    *,
    limit: int = 60_000,
    rounds: int = 3,
    latency_rounds: int = 5,
    results: Path = RESULTS,
    readme: Path | None = README,
) -> dict[str, Any]:
    """Measure, write results.json and the README's table, show the tables on standard error.

    Uses the broker of the settings, or the local one, started when it does not run and stopped then.
    `limit` counts source events; `rounds` are repeats of what is quick.
    """
    started = time.monotonic()
    stack = None if settings.bootstrap else LocalStack(settings.home)
    was_up = stack is None or stack.status() is not None
    bootstrap = settings.bootstrap or (stack.up().bootstrap if stack else "")
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            bench = Bench(bootstrap, limit, Path(folder))
            try:
                found = measure(bench, rounds, latency_rounds)
            finally:
                bench.clean()
    finally:
        if stack is not None and not was_up:
            stack.down()
    found["seconds"] = round(time.monotonic() - started, 1)
    results.write_text(json.dumps(found, indent=2) + "\n")
    if readme is not None and readme.exists():
        table.write_readme(found, readme)
    table.show(found)
    return found


if __name__ == "__main__":
    pin()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--limit", type=int, default=60_000, help="events of the source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-rounds", type=int, default=5)
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    answer = main(Settings.from_environment(), **arguments)
    if as_json:
        print(json.dumps(answer))
