"""Online features: writes, reads and freshness, beside Feast's own store and bare Redis, in one run.

python -m driftline.bench.features.rows --json

Writes and reads are timed in slices, and the fastest run of each slice counts, which excludes other work on
the machine. Redis is measured if a redis-server is on the PATH or beside this Python.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from driftline.bench.features import freshness
from driftline.bench.peers.worker_command import WorkerCommand
from driftline.features.declare.constructors import count, mean
from driftline.features.declare.declaration import HOUR, View, views
from driftline.features.declare.on_demand import OnDemandView
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.features.online.stores import wire
from driftline.features.online.stores.redis_rows import Layout
from driftline.features.online.writer import RowStore
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics

BATCHES = (100, 1000)
"""The number of rows, of 10 features each, that are written at once."""
ENTITIES = 1000
SLICES = 30
READS = 2000
PACE_SECONDS = {200: 10.0, 2000: 5.0}
"""Length of a paced run by its rate, in events a second."""
ANSWERS_WITHIN = 30.0


class Sale(msgspec.Struct):
    """The event type that the rows are computed from."""

    shop: str
    price: float


class Case:
    """Ten features of a shop."""

    name = "bench"

    def views(self) -> list[View]:
        """One view."""
        features = {f"mean_{n}h": mean(Sale, "price", by="shop", over=n * HOUR) for n in range(1, 10)}
        return views(self.name, {**features, "count_1h": count(Sale, by="shop", over=HOUR)})

    def on_demand_views(self) -> list[OnDemandView]:
        """None."""
        return []


(DECLARED,) = Case().views()


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """The URL of a Redis started for this run; None if there is no redis-server."""
    beside = Path(sys.executable).parent / "redis-server"
    executable = shutil.which("redis-server") or (str(beside) if beside.exists() else None)
    if executable is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [executable, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _await(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def _await(url: str) -> None:
    from redis import Redis
    from redis.exceptions import ConnectionError as Unreachable

    deadline = time.monotonic() + ANSWERS_WITHIN
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _rows(random_: random.Random, number: int, at: float) -> dict[RowKey, StampedRow]:
    def values() -> dict[str, Any]:
        return {name: 7 if w.is_whole else random_.random() for name, w in DECLARED.features.items()}

    return {(DECLARED.name, (f"shop{n}",)): (at + n * 1e-6, values()) for n in range(number)}


def _fastest_cpu_us(write: Callable[[Any], None], batches: list[Any], rows: int) -> float:
    """CPU µs of this process for a row, in the fastest of the batches."""
    found = []
    for batch in batches:
        begun = time.process_time()
        write(batch)
        found.append((time.process_time() - begun) / rows * 1e6)
    return min(found)


def _feasts_own(place: RepositoryLocation, folder: Path) -> Any:
    """A Feast store with the same registry and rows that uses Feast's own online store."""
    from feast import FeatureStore, RepoConfig

    settings = place.feast_settings()
    address = place.online_store.removeprefix("redis://").removesuffix("/0")
    settings["online_store"] = (
        {"type": "sqlite", "path": str(folder / "feasts-own.db")}
        if place.is_sqlite
        else {"type": "redis", "connection_string": f"{address},db=1"}
    )
    store = FeatureStore(repo_path=str(place.path), config=RepoConfig(**settings))
    view = store.get_feature_view(DECLARED.name)
    store._get_provider().online_store.update(store.config, [], [view], [], [], True)
    return store


def writes(repo: OnlineStoreRepo, feast: Any) -> dict[str, Any]:
    """CPU us a row, ours and Feast's `write_to_online_store`, by rows in a batch."""
    import pandas as pd

    store = RowStore(repo)
    random_ = random.Random(1)
    now = time.time() - 600
    store.put(_rows(random_, ENTITIES, now))
    found: dict[str, Any] = {}
    for size in BATCHES:
        ours = [_rows(random_, size, now + 1 + turn) for turn in range(SLICES)]
        theirs = []
        for batch in ours[: SLICES // 5]:
            frame = [
                {"shop": key[0], "event_timestamp": datetime.fromtimestamp(at, UTC), **values}
                for (_, key), (at, values) in batch.items()
            ]
            theirs.append(pd.DataFrame(frame))
        mine = _fastest_cpu_us(store.put, ours, size)
        feasts = _fastest_cpu_us(
            lambda frame: feast.write_to_online_store(DECLARED.name, frame), theirs, size
        )
        found[str(size)] = {
            "cpu_us_per_row": mine,
            "feast_cpu_us_per_row": feasts,
            "times_faster": feasts / mine,
        }
        now += SLICES + 1
    return found


def _p50_us(reads: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """The median time of each, measured in turns, so that other work on the machine affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(repeat):
        for name, read in reads.items():
            begun = time.perf_counter()
            read()
            times[name].append(time.perf_counter() - begun)
    return {name: median(found) * 1e6 for name, found in times.items()}


def reads(repo: OnlineStoreRepo) -> dict[str, Any]:
    """p50 in µs of reads of one entity and of 100: by the client, by bare HMGET (Redis), by Feast on our
    store."""
    place = repo.place
    keys = [{"shop": f"shop{n}"} for n in range(100)]
    names = [f"{DECLARED.name}:{feature}" for feature in DECLARED.features]
    with FeatureClient(Case(), place) as client:
        one: dict[str, Callable[[], Any]] = {"client": lambda: client.get(DECLARED.name, keys[5])}
        many: dict[str, Callable[[], Any]] = {"client": lambda: client.get_many(DECLARED.name, keys)}
        one["feast"] = lambda: repo.store.get_online_features(features=names, entity_rows=keys[5:6])
        many["feast"] = lambda: repo.store.get_online_features(features=names, entity_rows=keys)
        if not place.is_sqlite:
            one["hmget"], many["hmget"] = _bare(place)
        found = {"1": _p50_us(one, READS), "100": _p50_us(many, READS // 10)}
    for times in found.values():
        times["feast_over_client"] = times["feast"] / times["client"]
        if "hmget" in times:
            times["client_over_hmget"] = times["client"] / times["hmget"]
    return found


def _bare(place: RepositoryLocation) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """HMGET of one entity, and of 100 in a pipeline."""
    from redis import Redis

    client: Any = Redis.from_url(place.online_store)
    layout = Layout(DECLARED.name, list(DECLARED.features))
    fields = [*layout.fields, layout.stamp]
    encode = wire.entity_keys(DECLARED.keys)
    keys = [bytes(encode((f"shop{n}",))) + place.project.encode() for n in range(100)]

    def many() -> Any:
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, fields)
            return pipe.execute()

    return lambda: client.hmget(keys[5], fields), many


def fresh(bootstrap: str, folder: Path, online_store: str, name: str) -> dict[str, Any]:
    """Freshness with a worker of its own."""
    case = freshness.ticks
    namespace = f"bench-{os.getpid()}-{name}"
    settings = Settings(
        home=folder / name, bootstrap=bootstrap, namespace=namespace, online_store=online_store
    )
    settings.home.mkdir()
    ensure_topics(bootstrap, case.topics(namespace).all())
    worker = WorkerCommand("driftline.bench.features.freshness:ticks", settings)
    try:
        place = settings.features(case.name)
        return freshness.measure(bootstrap, namespace, place, worker.check, PACE_SECONDS)
    finally:
        worker.end()


def measure(bootstrap: str, folder: Path) -> dict[str, Any]:
    """All measurements, by store."""
    found: dict[str, Any] = {}
    with redis_server(folder) as url:
        for name, online_store in (("sqlite", "sqlite"), ("redis", url)):
            if online_store is None:
                found[name] = {"reason": "there is no redis-server"}
                continue
            repo = OnlineStoreRepo(
                RepositoryLocation(folder / f"repo-{name}", "bench", online_store), [DECLARED]
            )
            repo.apply()
            _say(f"{name}: writes")
            written = writes(repo, _feasts_own(repo.place, folder))
            _say(f"{name}: reads")
            read = reads(repo)
            _say(f"{name}: freshness")
            found[name] = {
                "writes": written,
                "reads": read,
                "freshness": fresh(bootstrap, folder, online_store, name),
            }
    return found


def main(settings: Settings) -> dict[str, Any]:
    """Measure on the broker of the settings, or on a local one that is started for this run."""
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        stack = None if settings.bootstrap else LocalStack(Path(folder) / "stack")
        try:
            bootstrap = settings.bootstrap or (stack.up().bootstrap if stack else "")
            return measure(bootstrap, Path(folder))
        finally:
            if stack is not None:
                stack.down(wipe=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line")
    as_json = parser.parse_args().json
    print(json.dumps(main(Settings.read()), indent=None if as_json else 2))
