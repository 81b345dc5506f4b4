"""The services of the secured deployment, as processes with the commands and variables of the compose files:
real Kafka with rights, real Redis with a password, and a request that goes through all of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import shop

from driftline.infra.local import deployment_secrets
from driftline.infra.local.kafka import LocalStack, free_port
from driftline.infra.observe.files import contents
from driftline.infra.observe.measures import ALL_MEASURES
from tests.features.redis_server import redis_executable
from tests.infra.deploy.deployment import filled, secured
from tests.streams.status.test_metrics_kafka import OF_REPLICAS, ONCE_IT_HAPPENED

CASES = str(Path(__file__).parents[2] / "cases")
ASKED = 30
pytestmark = pytest.mark.integration


def answer(port: int, path: str, body: bytes | None = None, key: str = "") -> tuple[int, bytes]:
    """Status and body; 0 where nobody listens."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
    except OSError:
        return 0, b""


@dataclass
class Deployment:
    """The services, with the places of this test in place of the containers'."""

    folder: Path
    bootstrap: str
    redis_port: int = field(default_factory=free_port)
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = secured()["services"]
        self.secrets = self.folder / "secrets"
        self.home = self.folder / "data"

    def here(self, text: str) -> str:
        """A command or variable of a container as this machine has it."""
        text = filled(text, CASE="shop:orders").replace("kafka:29092", self.bootstrap)
        return text.replace("/run/secrets/", f"{self.secrets}/").replace("exec docker-entrypoint.sh", "exec")

    def environment(self, service: str) -> dict[str, str]:
        given = {
            name: self.here(value) for name, value in self.services[service].get("environment", {}).items()
        }
        if "DRIFTLINE_METRICS" in given:
            given["DRIFTLINE_METRICS"] = f"127.0.0.1:{self.port(service)}"
        return os.environ | given | {"DRIFTLINE_HOME": str(self.home), "PYTHONPATH": CASES}

    def port(self, service: str) -> int:
        return self.ports.setdefault(service, free_port())

    def metrics_port(self, service: str) -> int:
        """Where Prometheus asks: a gateway has an address apart for it."""
        return self.port("metrics of the gateway" if service == "gateway" else service)

    def command(self, service: str) -> list[str]:
        parts = [self.here(part) for part in self.services[service]["command"]]
        if service == "gateway":
            parts[parts.index("--host") + 1] = "127.0.0.1"
            parts[parts.index("--port") + 1] = str(self.port(service))
        if "--metrics" in parts:
            parts[parts.index("--metrics") + 1] = f"127.0.0.1:{self.metrics_port(service)}"
        return [sys.executable, "-m", "driftline", *parts]

    def said(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()

    def begin(self, service: str, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                command or self.command(service),
                env=self.environment(service),
                stdout=log,
                stderr=log,
                start_new_session=True,  # a shell's own processes end with it
            )
        return self.processes[service]

    def begin_redis(self) -> redis.Redis:
        data = self.folder / "redis"
        data.mkdir()
        shell, flag, script = self.services["redis"]["command"]
        server = f"{redis_executable()} - --port {self.redis_port} --bind 127.0.0.1 --dir {data}"
        self.begin("redis", [shell, flag, self.here(script).replace("redis-server -", server)])
        store = self.secrets / "online_store"
        store.write_text(store.read_text().replace(deployment_secrets.REDIS, f"127.0.0.1:{self.redis_port}"))
        return redis.Redis.from_url(store.read_text())

    def give_rights(self) -> None:
        (script,) = self.services["rights"]["command"]
        shell = self.here(script).replace("driftline acl", f"{sys.executable} -m driftline acl")
        subprocess.run(["sh", "-c", shell], env=self.environment("rights"), check=True, timeout=300)

    def end(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    stack = LocalStack(tmp_path / "broker")
    deployed = None
    try:
        broker = stack.up(secure=True)
        deployed = Deployment(tmp_path, broker.bootstrap)
        deployment_secrets.make(deployed.secrets)
        for kept in Path(stack.users["admin"]).parent.iterdir():  # this broker has users of its own
            (deployed.secrets / kept.name).write_bytes(kept.read_bytes())
        yield deployed
    finally:
        if deployed is not None:
            deployed.end()
        stack.down(wipe=True)


def _answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.ConnectionError:
        return False


def measured(port: int, series: str) -> float:
    """The sum of a series in a scrape."""
    lines = answer(port, "/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series + "{"))


def absent_in_scrapes(deployment: Deployment) -> set[str]:
    """Series that dashboard or rules name, and no service serves."""
    named = set(re.findall(r"driftline_\w+", "".join(contents().values())))
    ports = [deployment.metrics_port(service) for service in ("worker", "audit", "gateway")]
    scrapes = [answer(port, "/metrics")[1].decode() for port in ports]
    return {series for series in named if not any(f"\n{series}{{" in scrape for scrape in scrapes)}


@pytest.mark.soak
def test_the_services_answer_requests_with_the_rights_and_secrets_that_the_files_give_them(
    deployment: Deployment, eventually: Callable[..., Any]
) -> None:
    store = deployment.begin_redis()
    eventually(lambda: _answers(store))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=deployment.redis_port).ping()
    deployment.give_rights()
    deployment.begin("worker")
    eventually(lambda: answer(deployment.port("worker"), "/readyz")[0] == 200)
    for service in ("gateway", "archive", "audit"):
        deployment.begin(service)
    gateway = deployment.port("gateway")
    eventually(lambda: answer(gateway, "/readyz")[0] == 200)
    new_key = [sys.executable, "-m", "driftline", "gateway", "key", "all", "--scope", "produce"]
    new_key += ["--scope", "read:values"]
    made = subprocess.run(
        new_key, env=deployment.environment("gateway"), capture_output=True, text=True, check=True
    )
    key = made.stdout.strip()
    path, facts = "/v1/cases/orders/predictions", "/v1/cases/orders/events"
    assert answer(gateway, path, b"{}")[0] == 401
    for number in range(ASKED):
        status, body = answer(gateway, path, msgspec.json.encode(shop.asked(number, number)), key)
        assert status == 200, body
        status, body = answer(gateway, facts, msgspec.json.encode(shop.settled(number, number)), key)
        assert status == 200, body
    eventually(lambda: measured(deployment.port("audit"), "driftline_audit_checked") >= ASKED)
    assert measured(deployment.port("audit"), "driftline_audit_differences") == 0
    assert measured(deployment.port("worker"), "driftline_predictions_total") == ASKED
    assert eventually(store.dbsize), "online rows are in the Redis with the password"
    assert answer(gateway, "/v1/cases/orders/features/orders_by_shop?shop=s", key=key)[0] == 200
    may_be_absent = {ALL_MEASURES[name].series for name in ONCE_IT_HAPPENED + OF_REPLICAS}
    eventually(lambda: absent_in_scrapes(deployment) <= may_be_absent)
    running = {name: process.poll() for name, process in deployment.processes.items()}
    assert running == dict.fromkeys(deployment.processes), running
    passwords = [path.read_text() for path in deployment.secrets.glob("*password*")]
    lines = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in deployment.processes.values()]
    said = json.dumps([deployment.said(service) for service in deployment.processes] + lines)
    assert not [secret for secret in passwords if secret in said]
