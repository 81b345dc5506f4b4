"""The whole bench: everything on the same events, in one run, ratios first.

python -m driftline.bench.run --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from driftline.bench import readme, table
from driftline.bench.cases import FLIGHTS
from driftline.bench.log import Log
from driftline.bench.peers import process
from driftline.bench.peers.apart import version
from driftline.bench.peers.process import Limits
from driftline.bench.sample_run import sample_run
from driftline.bench.speed.attempts import attempt, medians, not_measured, say
from driftline.bench.speed.kafka_runs import PACE_SECONDS, KafkaRuns
from driftline.bench.speed.ratios import ratios
from driftline.bench.speed.scale import SIZES, Size
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.streams.code.fold_version import fold_version
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.usecase import load_case

CHAMPION_ALONE = "driftline.bench.cases:champion_alone"
FROM_MEMORY_WITHIN = 600.0
"""The time-out, in seconds, of measurements without Kafka."""
HTTP_REQUESTS = 2_000
"""The number of requests of the client of the gateway, and of the client over the topics."""
PACKAGES = ("river", "faust-streaming", "quixstreams", "bytewax", "pathway", "aiokafka")


class Peer(NamedTuple):
    """A stream framework that does the job written by hand."""

    module: str
    package: str
    options: dict[str, Any]
    once: bool = False
    """Too slow for more than one round."""


_QUIX = "driftline.bench.peers.quix", "quixstreams"
_BYTEWAX = "driftline.bench.peers.bytewax_flow", "bytewax"
_PATHWAY = "driftline.bench.peers.pathway_table", "pathway"
_FAUST = "driftline.bench.peers.faust_plain", "faust-streaming"
PEERS = {
    "quix": Peer(*_QUIX, {"durable": True, "apart": "quixstreams"}),
    "quix_memory": Peer(*_QUIX, {"durable": False, "apart": "quixstreams"}, once=True),
    "bytewax": Peer(*_BYTEWAX, {"durable": True, "apart": "bytewax"}),
    "bytewax_memory": Peer(*_BYTEWAX, {"durable": False, "apart": "bytewax"}, once=True),
    "pathway_memory": Peer(*_PATHWAY, {"durable": False, "apart": "pathway"}),
    "faust": Peer(*_FAUST, {"durable": True}, once=True),
    "faust_memory": Peer(*_FAUST, {"durable": False}, once=True),
}
WORKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "driftline_champion": ("champion_alone", {"case": CHAMPION_ALONE}),
    "driftline": ("everything", {}),
    "driftline_inexact": ("everything", {"exact": False}),
    "driftline_feast": ("everything", {"feast": True}),
}
"""By name: the fold whose outputs are expected, and what is assigned to the worker."""


def _from_memory(fold: dict[str, Any], hand: dict[str, Any]) -> dict[str, Any]:
    """The figures of what needs no Kafka, as those of peers."""
    per_event = fold["us_per_event"]
    measured = {
        "river": per_event["river"],
        "simulate_champion": per_event["champion_alone"],
        "simulate": per_event["everything"],
    }
    if "failure" not in hand:
        measured["handwritten"] = hand["cpu_us_per_event"]
    figures = {name: {"cpu_us_per_event": us, "events_per_second": 1e6 / us} for name, us in measured.items()}
    return figures if "failure" not in hand else figures | {"handwritten": not_measured(hand["failure"])}


def _peer(runs: KafkaRuns, name: str, hand: dict[str, Any], rounds: int) -> dict[str, Any]:
    peer = PEERS[name]
    if version(peer.package) is None:
        return not_measured(f"{peer.package} is not installed")
    if "failure" in hand:
        return not_measured("the job by hand failed, whose outputs are the peer's too")
    say(name)
    return medians(
        lambda: runs.peer(peer.module, hand["outputs"], **peer.options), 1 if peer.once else rounds
    )


def _scale(size: Size) -> dict[str, Any]:
    arguments = map(str, size)
    return process.call("driftline.bench.speed.scale", *arguments, within=FROM_MEMORY_WITHIN)


def measure(runs: KafkaRuns, log_file: Path, rounds: int, latency_rounds: int) -> dict[str, Any]:
    """All measurements, as in results.json. Raises PeerFailed if the fold itself fails, with which all others
    are compared."""
    say("bare River, and the fold by stage")
    fold = process.call(
        "driftline.bench.speed.fold", FLIGHTS, str(log_file), str(rounds), within=FROM_MEMORY_WITHIN
    )
    say("the job by hand, from memory")
    hand = attempt(
        lambda: process.call("driftline.bench.peers.job", FLIGHTS, str(log_file), within=FROM_MEMORY_WITHIN)
    )
    peers = _from_memory(fold, hand)
    for name, (expected, options) in WORKERS.items():
        say(f"{name}, Kafka to Kafka")
        peers[name] = medians(lambda e=expected, o=options: runs.driftline(fold["outputs"][e], **o), rounds)  # type: ignore[misc]
    for name in PEERS:
        peers[name] = _peer(runs, name, hand, rounds)
    say(f"latency at {' and '.join(map(str, PACE_SECONDS))} events a second, {latency_rounds} runs each")
    delays = attempt(lambda: runs.latency(latency_rounds))
    say("one client of the gateway")
    over_http = attempt(lambda: runs.gateway(HTTP_REQUESTS))
    say("payments with more cards, and with more events")
    scale = {name: attempt(lambda s=size: _scale(s)) for name, size in SIZES.items()}  # type: ignore[misc]
    say("take-over, silent fold, a worker killed")
    recovered = runs.recovery(log_file, rounds)
    return {
        "ratios": ratios(fold, peers, delays, over_http, recovered),
        "events": len(runs.log),
        "predictions": fold["predictions"],
        "peers": peers,
        "latency": delays,
        "over_http": over_http,
        "recovery": recovered,
        "fold": fold,
        "scale": scale,
        "machine": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "sample_run": msgspec.to_builtins(sample_run()),
        "versions": {"fold": fold_version()} | {package: version(package) for package in PACKAGES},
    }


def main(
    settings: Settings,
    *,
    limit: int = 60_000,
    rounds: int = 3,
    latency_rounds: int = 5,
) -> dict[str, Any]:
    """Measure, write results.json and the README's block, show the tables on standard error.

    Uses the broker of the settings, or the local one, started when it does not run and stopped then.
    `limit` counts source events; `rounds` are repeats of what is quick. A peer that fails costs its own
    figures alone: the tables say why.
    """
    started = time.monotonic()
    stack = None if settings.bootstrap else LocalStack(settings.home)
    was_up = stack is None or stack.status() is not None
    bootstrap = settings.bootstrap or (stack.up().bootstrap if stack else "")
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as name:
            folder = Path(name)
            say(f"lays out {limit:,} events")
            log = Log.of(load_case(FLIGHTS), limit)
            log.save(folder / "log")
            runs = KafkaRuns(bootstrap, log, folder, Limits())
            try:
                found = measure(runs, folder / "log", rounds, latency_rounds)
            finally:
                runs.clean()
    finally:
        if stack is not None and not was_up:
            stack.down()
    found["seconds"] = round(time.monotonic() - started, 1)
    readme.RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    table.show(found)
    readme.write_blocks()
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
    answer = main(Settings.read(), **arguments)
    if as_json:
        print(json.dumps(answer))
