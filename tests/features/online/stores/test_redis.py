"""What is Redis's own: outages, a full server, keys that expire, TLS and passwords."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError
from shops import BY_SHOP, LIVE, Shops, price, put, repo_at

from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.client import FeatureClient
from driftline.features.online.stores import redis_rows, wire
from driftline.features.online.transient_failures import is_transient, reason
from driftline.features.online.writer import OnlineWriter, RowStore
from tests.features.redis_server import RedisServer

DEADLINE = 60.0


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as found:
        yield found


def key_of(shop: str, project: str = "shops") -> bytes:
    return bytes(wire.entity_keys(("shop",))((shop,))) + project.encode()


def write(client: Redis, key: bytes, view: str, stamp: int, value: bytes, lived: timedelta | None) -> None:
    layout = redis_rows.Layout(view, ["f"])
    redis_rows.make_calls(client, list(redis_rows.calls(layout, lived, [(key, stamp, [value])])))


STAMPS = st.integers(-(2**52), 2**52) | st.integers(-3_000_000, 3_000_000)


@given(st.lists(st.tuples(STAMPS, st.booleans()), min_size=2, max_size=6))
@example([(0, True), (-1, True)])
@example([(-1_000_001, False), (-1_000_000, False), (-999_999, False)])
def test_of_any_times_the_newest_is_kept(shared_redis: RedisServer, rows: list[tuple[int, bool]]) -> None:
    with Redis.from_url(shared_redis.url) as client:
        client.delete(b"k")
        for stamp, _ in rows:
            write(client, b"k", "v", stamp, f"{stamp}".encode(), None)
        newest = max(stamp for stamp, _ in rows)
        layout = redis_rows.Layout("v", ["f"])
        held = client.hmget(b"k", [layout.stamp, layout.fields[0]])
    assert held == [wire.timestamp(newest), f"{newest}".encode()]


def test_a_server_that_lost_its_scripts_is_given_them_again(
    redis_url: str, tmp_path: Path, client: Redis
) -> None:
    repo = repo_at(tmp_path / "feast", redis_url)
    repo.apply()
    store = RowStore(repo)
    for n in range(3):
        client.script_flush()
        store.put({(BY_SHOP, (f"{shop}",)): (1e9 + n, {"price_1h": n}) for shop in range(200)})
    assert price(repo, "199") == 2


def test_a_key_lives_as_long_as_its_row(redis_url: str, tmp_path: Path, client: Redis) -> None:
    live = repo_at(tmp_path / "feast", redis_url, LIVE)
    live.apply()
    now = time.time()
    put(live, {"a": (now - 600, {"price_1h": 1.0})})
    assert 2400 <= client.ttl(key_of("a")) <= 3001
    put(live, {"a": (now, {"price_1h": 2.0})})
    assert 3000 <= client.ttl(key_of("a")) <= 3601
    put(live, {"gone": (now - 3601, {"price_1h": 1.0})})
    assert client.exists(key_of("gone")) == 0


def test_rows_from_history_stay(redis_url: str, tmp_path: Path, client: Redis) -> None:
    repo = repo_at(tmp_path / "feast", redis_url)
    repo.apply()
    put(repo, {"a": (1e9, {"price_1h": 1.0})})
    assert client.ttl(key_of("a")) == -1
    assert price(repo, "a") == 1.0


def test_a_hash_of_several_views_lives_as_long_as_the_longest(client: Redis) -> None:
    now = int(time.time() * 1e6)
    write(client, b"k", "hour", now, b"1", timedelta(hours=1))
    write(client, b"k", "minute", now, b"2", timedelta(minutes=1))
    assert 3000 < client.ttl(b"k") <= 3600
    write(client, b"k", "day", now, b"3", timedelta(days=1))
    assert 80_000 < client.ttl(b"k") <= 86_400
    write(client, b"k", "ever", now, b"4", None)
    write(client, b"k", "hour", now + 1, b"5", timedelta(hours=1))
    assert client.ttl(b"k") == -1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_redis_that_is_gone_for_a_while_is_waited_for_and_nothing_is_lost(
    redis_of: Callable[..., RedisServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_of()
    probe = Redis.from_url(server.url)
    server.wait(probe)
    repo = repo_at(tmp_path / "feast", server.url)
    repo.apply()

    async def run() -> None:
        writer = OnlineWriter(repo)

        async def offer(first: int) -> None:
            for n in range(first, first + 500):
                await writer.offer({(BY_SHOP, (f"{n % 50}",)): (1e9 + n, {"price_1h": float(n)})})
                await asyncio.sleep(0)

        await offer(0)
        await asyncio.wait_for(writer.written(writer.offered()), DEADLINE)
        server.stop()
        await offer(500)
        ticket = asyncio.create_task(writer.written(writer.offered()))
        await until(lambda: "the online store fails" in caplog.text)
        await offer(1_000)
        assert not ticket.done()
        server.start()
        await asyncio.wait_for(ticket, DEADLINE)
        await writer.close(DEADLINE)

    asyncio.run(run())
    assert "the online store works again" in caplog.text
    assert [price(repo, f"{shop}") for shop in range(50)] == [1_450.0 + shop for shop in range(50)]
    probe.close()


def test_a_full_redis_is_reported_and_waited_for(
    redis_of: Callable[..., RedisServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_of("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    probe = Redis.from_url(server.url)
    server.wait(probe)
    repo = repo_at(tmp_path / "feast", server.url)
    repo.apply()

    async def run() -> None:
        writer = OnlineWriter(repo)
        await writer.offer({(BY_SHOP, (f"{n}",)): (1e9, {"price_1h": float(n)}) for n in range(300)})
        await until(lambda: "Redis is full" in caplog.text)
        probe.config_set("maxmemory", "1gb")
        await asyncio.wait_for(writer.written(writer.offered()), DEADLINE)
        await writer.close()

    asyncio.run(run())
    assert [price(repo, f"{n}") for n in (0, 299)] == [0.0, 299.0]
    probe.close()


def test_which_failures_of_redis_pass(redis_of: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = redis_of("--requirepass", "let me in")
    asked = Redis.from_url(server.url, password="let me in")
    server.wait(asked)
    with pytest.raises(ResponseError) as wrong:
        asked.execute_command("HGET", "k")  # type: ignore[no-untyped-call]
    asked.config_set("maxmemory", "1")
    with pytest.raises(OutOfMemoryError) as full:
        asked.set("k", "v")
    assert is_transient(full.value)
    assert "Redis is full" in reason(full.value)
    assert not is_transient(wrong.value)
    with pytest.raises(Exception, match="invalid") as refused:
        Redis.from_url(server.url, password="wrong").ping()
    assert not is_transient(refused.value)
    server.stop()
    with pytest.raises(Exception, match="refused") as gone:
        asked.ping()
    assert is_transient(gone.value)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for the loopback."""
    key, found = folder / "key.pem", folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-keyout", str(key), "-out", str(found), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return key, found


@contextmanager
def behind_tls(port: int, key: Path, found: Path) -> Iterator[int]:
    """A port at which TLS is spoken and passed on to another, as a proxy before Redis does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(found, key)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.close()

    async def accept(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        answers, asked = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(source, asked), pass_on(answers, target))

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(DEADLINE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_password_and_the_pools_options_are_part_of_the_url(
    redis_of: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = redis_of("--requirepass", "a,b=1")
    url = server.url.replace("redis://", "redis://:a%2Cb%3D1@") + "?max_connections=2"
    with Redis.from_url(url) as probe:
        server.wait(probe)
    repo = repo_at(tmp_path / "feast", url)
    repo.apply()
    put(repo, {"a": (1e9, {"price_1h": 2.5})})
    assert price(repo, "a") == 2.5
    pool = repo.store._get_provider().online_store._client.connection_pool
    assert pool.max_connections == 2
    assert "a%2C" not in repo.place.settings_file.read_text()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
def test_tls_is_part_of_the_url(shared_redis: RedisServer, redis_url: str, tmp_path: Path) -> None:
    key, found = certificate(tmp_path)
    with behind_tls(shared_redis.port, key, found) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        trusting = repo_at(tmp_path / "feast", f"{url}?ssl_ca_certs={found}")
        trusting.apply()
        put(trusting, {"a": (1e9, {"price_1h": 2.5})})
        assert price(trusting, "a") == 2.5
        assert asyncio.run(read_async(trusting)) == 2.5
        with pytest.raises(FeaturesError, match="CERTIFICATE_VERIFY_FAILED"):
            price(repo_at(tmp_path / "other", url), "a")


async def read_async(repo: OnlineStoreRepo) -> Any:
    async with FeatureClient(Shops(), repo.place) as client:
        return (await client.get_async(BY_SHOP, {"shop": "a"}))["price_1h"]


def test_a_cluster_is_refused(tmp_path: Path, redis_url: str) -> None:
    repo = repo_at(tmp_path / "feast", redis_url)
    repo.apply()
    repo.store.config.online_store.redis_type = "redis_cluster"
    with pytest.raises(FeaturesError, match="no cluster"):
        RowStore(repo).put({(BY_SHOP, ("a",)): (1e9, {})})


def test_feast_reads_with_asyncio(tmp_path: Path, redis_url: str) -> None:
    live = repo_at(tmp_path / "feast", redis_url, LIVE)
    live.apply()
    put(live, {"a": (time.time(), {"price_1h": 2.5})})

    async def read() -> Any:
        return await live.store.get_online_features_async(
            features=[f"{BY_SHOP}:price_1h"], entity_rows=[{"shop": "a"}, {"shop": "nobody"}]
        )

    assert asyncio.run(read()).to_dict()["price_1h"] == [2.5, None]
