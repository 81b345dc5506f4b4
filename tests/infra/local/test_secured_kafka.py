"""A secured Kafka: each role works with the rights that `driftline acl` prints, and with nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import parcels
import pytest
import shop
import till
from kafka.admin import NewTopic
from kafka.errors import TopicAuthorizationFailedError
from pydantic import SecretStr

from driftline.client import EventProducer, PredictionConsumer
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import LocalStack, free_port
from driftline.infra.topics.acls import allow
from driftline.infra.topics.rights import Right, rights
from driftline.settings import KafkaSecurity
from driftline.streams.connection import clients
from driftline.streams.connection.access_refusal import refusal
from driftline.streams.connection.roles import Role
from driftline.streams.connection.security import own_security
from driftline.streams.declare.topics import TopicSpec
from driftline.streams.errors import NotLetIn
from driftline.streams.owner.deployment import code_of
from tests.commands.forked_command import completed

Eventually = Callable[..., Any]
ASKED = 40
GROUP = "readers"
CASES = str(Path(__file__).parents[2] / "cases")


@dataclass
class Secured:
    """A secured broker, and what a user of it has in the environment."""

    bootstrap: str
    home: Path
    users: dict[str, str]

    def variables(self, user: str) -> dict[str, str]:
        lines = Path(self.users[user]).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines) | {
            "DRIFTLINE_HOME": str(self.home),
            "DRIFTLINE_BOOTSTRAP": self.bootstrap,
        }

    def passwords(self) -> list[str]:
        return [Path(self.variables(user)["DRIFTLINE_SASL_PASSWORD_FILE"]).read_text() for user in self.users]

    def environment(self, user: str, others: Mapping[str, str]) -> dict[str, str]:
        return os.environ | self.variables(user) | {"PYTHONPATH": CASES} | others

    def start(self, user: str, *arguments: str, **others: str) -> subprocess.Popen[str]:
        """A command of a user, which runs beside the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "driftline", *arguments],
            env=self.environment(user, others),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, user: str, *arguments: str, **others: str) -> str:
        """What a command of a user says; it has to end well."""
        done = self._done(user, arguments, others)
        return done.stdout + done.stderr

    def json(self, user: str, *arguments: str, **others: str) -> Any:
        """The JSON that a command of a user prints on standard output; it has to end well."""
        return json.loads(self._done(user, (*arguments, "--json"), others).stdout)

    def _done(self, user: str, arguments: Sequence[str], others: dict[str, str]) -> Any:
        done = completed(*arguments, environment=self.environment(user, others))
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    stack = LocalStack(home)
    try:
        yield Secured(stack.up(secure=True).bootstrap, home, stack.users)
    finally:
        stack.down(wipe=True)


@pytest.fixture
def become(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives this process the credentials of a user."""

    def be(user: str) -> None:
        for name, value in secured.variables(user).items():
            monkeypatch.setenv(name, value)

    return be


@pytest.fixture
def allowed(secured: Secured, become: Callable[[str], None]) -> None:
    """Every role has its rights to the orders, and none to anything else."""
    become("admin")
    for role in Role:
        if role is not Role.BRIDGE:
            group = GROUP if role is Role.CONSUMER else None
            allow(secured.bootstrap, f"User:{role}", rights(role, shop.orders.topics(), group=group))


def command_lines() -> str:
    """The command lines of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue  # it has ended
    return b"\n".join(found).decode(errors="replace")


def serving(secured: Secured, worker: subprocess.Popen[str]) -> Mapping[str, Any] | None:
    """The worker's status, once it has answered every request."""
    assert worker.poll() is None, worker.communicate()[0]
    path = secured.home / "status" / f"{shop.orders.name}.json"
    status = json.loads(path.read_text()) if path.exists() else {}
    return status if sum(status.get("next_offsets", {}).values()) >= ASKED else None


@pytest.mark.integration
def test_each_role_works_with_the_rights_that_are_printed_for_it_and_tells_no_secret(
    secured: Secured, become: Callable[[str], None], allowed: None, eventually: Eventually
) -> None:
    worker = secured.start("worker", "worker", "shop:orders")
    said: list[str] = []
    try:
        topics = shop.orders.topics()
        become("admin")
        eventually(lambda: _has_topic(secured.bootstrap, topics.models))
        become("producer")
        with EventProducer(shop.orders) as producer:
            for number in range(ASKED):
                producer.send(shop.asked(number, number))
        eventually(lambda: serving(secured, worker))
        said.append(command_lines())
        become("consumer")
        with PredictionConsumer(shop.orders, group=GROUP, timeout=10) as consumer:
            assert sum(1 for _ in consumer) == ASKED
        said.append(secured.run("archiver", "archive", "shop:orders", "--once"))
        said.append(secured.run("operator", "audit", "shop:orders"))  # ends with 1 where something differs
        said.append(secured.run("operator", "status"))
        said.append(secured.run("operator", "config", "show"))
    finally:
        worker.terminate()
        said.append(worker.communicate(timeout=120)[0])
    said.append((secured.home / "kafka" / "broker.log").read_text())
    assert not [password for password in secured.passwords() if any(password in text for text in said)]


@pytest.mark.integration
def test_operators_and_producers_commands_and_an_upgrade_have_the_rights_they_need(
    secured: Secured, become: Callable[[str], None], allowed: None, eventually: Eventually, tmp_path: Path
) -> None:
    source, topics = tmp_path / "asked.jsonl", shop.orders.topics()
    source.write_bytes(b"\n".join(msgspec.json.encode(event) for event in shop.trade(20)))
    said: list[str] = []
    worker = secured.start("worker", "upgrade", "shop:orders")
    try:
        become("admin")
        eventually(lambda: _has_topic(secured.bootstrap, topics.models))
        said.append(secured.run("producer", "produce", "shop:orders", str(source)))
        said.append(secured.run("worker", "upgrade", "shop:orders", "--plan"))
        become("producer")
        wrong = clients.producer(secured.bootstrap)
        event = shop.asked(900, 900)
        wrong.send(topics.log, shop.orders.codec().encode(event), b"other", partition=0)
        wrong.close()
        become("operator")

        def refused() -> bool:
            listed = json.loads(secured.run("operator", "dead-letters", "list", "shop:orders", "--json"))
            return any(group["stage"] == "key" for group in listed["groups"])

        eventually(refused)
        retry = ("dead-letters", "retry", "shop:orders", "--stage", "key")
        said += [secured.run("operator", *retry, "--dry-run"), secured.run("operator", *retry)]
        said.append(secured.run("operator", "replay", "shop:orders"))
        said.append(secured.run("operator", "models", "list", "shop:orders"))
    finally:
        worker.terminate()
        said.append(worker.communicate(timeout=120)[0])
    assert not [password for password in secured.passwords() if any(password in text for text in said)]


def _has_topic(bootstrap: str, topic: str) -> bool:
    admin = clients.admin(bootstrap)
    try:
        return topic in admin.list_topics()
    finally:
        admin.close()


@pytest.mark.integration
def test_nobody_but_the_worker_may_publish_a_prediction(
    secured: Secured, become: Callable[[str], None], allowed: None
) -> None:
    become("admin")
    topic = shop.orders.topics().predictions
    if not _has_topic(secured.bootstrap, topic):
        admin = clients.admin(secured.bootstrap)
        admin.create_topics([NewTopic(topic, shop.orders.partitions, 1)])
        admin.close()
    for role in Role:
        if role in (Role.WORKER, Role.BRIDGE):  # a bridge may not even see it
            continue
        become(role)
        producer = clients.producer(secured.bootstrap, enable_idempotence=False)
        try:
            with pytest.raises(TopicAuthorizationFailedError):
                producer.send(topic, b"{}", partition=0).get(30)
        finally:
            producer.close(timeout=0)


@pytest.mark.integration
def test_a_bridge_works_with_its_rights_and_those_of_a_reader_of_the_foreign_kafka(
    secured: Secured, become: Callable[[str], None]
) -> None:
    become("admin")
    topics = till.sales.topics()
    admin = clients.admin(secured.bootstrap)
    admin.create_topics([NewTopic(till.till.topic, 1, 1), *(_new(spec) for spec in topics.all())])
    admin.close()
    allow(secured.bootstrap, "User:bridge", rights(Role.BRIDGE, topics, bridge=till.till.name))
    foreign = [Right("Topic", "Literal", till.till.topic, one) for one in ("Read", "DescribeConfigs")]
    group = Right("Group", "Prefixed", f"{topics.log}.bridge.", "Read")
    allow(secured.bootstrap, "User:gateway", [*foreign, group])  # as if it were a user of another Kafka
    producer = clients.producer(secured.bootstrap)
    for second in range(ASKED):
        sale = {"what": "sold", "second": second, "shop": "s", "amount": 1.0}
        producer.send(till.till.topic, json.dumps(sale).encode())
    producer.close()
    OnlineStoreRepo(
        RepositoryLocation.of("orders", secured.home, "", "sqlite", None), shop.orders.views()
    ).apply()
    gateway = secured.variables("gateway")
    of_foreign = {
        name.replace("DRIFTLINE_", "DRIFTLINE_FOREIGN_"): value
        for name, value in gateway.items()
        if name != "DRIFTLINE_HOME"
    }
    said = secured.run("bridge", "bridge", "till:till", "--once", "--json", **of_foreign)
    report = json.loads(said.splitlines()[-1])
    assert report["events"] == ASKED


def _new(spec: TopicSpec) -> NewTopic:
    return NewTopic(spec.name, spec.partitions, 1, topic_configs=spec.config)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"security_protocol": "PLAINTEXT"}, "it does not speak PLAINTEXT"),
        ({"security_protocol": "SSL"}, "it wants a user, by SCRAM-SHA-512"),
        ({"sasl_password": SecretStr("guessed")}, "no user 'consumer' with that password by SCRAM-SHA-512"),
        ({"sasl_mechanism": "PLAIN"}, "it lets users in by SCRAM-SHA-512, not by PLAIN"),
        ({"sasl_username": "nobody"}, "no user 'nobody' with that password"),
        ({"ssl_cafile": None}, "its certificate is not accepted.*ssl_cafile"),
    ],
)
def test_a_client_that_is_not_let_in_gets_the_reason_long_before_its_time_is_over(
    secured: Secured, become: Callable[[str], None], change: dict[str, Any], reason: str
) -> None:
    become("consumer")
    security = own_security().model_copy(update=change)
    begun = time.monotonic()
    with pytest.raises(NotLetIn, match=reason) as raised:
        clients.admin(secured.bootstrap, security, bootstrap_timeout_ms=120_000)
    assert time.monotonic() - begun < 100
    assert "guessed" not in str(raised.value)


@pytest.mark.integration
def test_a_gateway_that_is_not_let_in_ends_and_gives_the_reason(secured: Secured, tmp_path: Path) -> None:
    guessed = tmp_path / "guessed"
    guessed.write_text("guessed")
    named = {"DRIFTLINE_SASL_PASSWORD_FILE": str(guessed)}
    gateway = secured.start("gateway", "gateway", "serve", "shop:orders", "--port", str(free_port()), **named)
    said, _ = gateway.communicate(timeout=120)
    assert gateway.returncode != 0
    assert "no user 'gateway' with that password" in said
    assert "Traceback" not in said


@pytest.mark.integration
def test_a_user_who_is_known_is_not_refused_by_a_broker_that_is_slow(
    secured: Secured, become: Callable[[str], None]
) -> None:
    become("consumer")
    assert refusal(secured.bootstrap, own_security()) is None


def test_a_broker_that_is_away_is_no_refusal() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert refusal(f"127.0.0.1:{nobody.getsockname()[1]}", KafkaSecurity()) is None


def test_a_broker_that_was_made_without_users_is_not_secured_afterwards(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "meta.properties").touch()
    with pytest.raises(InfraError, match=r"was made without users.*--wipe"):
        LocalStack(tmp_path).up(secure=True)


@pytest.mark.soak
@pytest.mark.integration
def test_a_chain_is_served_proved_handed_over_and_archived_by_the_rights_of_its_roles(
    secured: Secured, become: Callable[[str], None], eventually: Eventually, tmp_path: Path
) -> None:
    case, new = "parcels:on_two", "parcels:on_two_anew"
    topics = parcels.on_two.topics()
    become("admin")
    for role in (Role.WORKER, Role.PRODUCER, Role.CONSUMER, Role.OPERATOR, Role.ARCHIVER):
        group = GROUP if role is Role.CONSUMER else None
        allow(secured.bootstrap, f"User:{role}", rights(role, topics, group=group))
    source, happened = tmp_path / "parcels.jsonl", list(parcels.events(60))
    source.write_bytes(b"\n".join(msgspec.json.encode(event) for event in happened))
    old_topics = {spec.name for spec in topics.between(code_of(parcels.on_two).short)}
    workers = [secured.start("worker", "worker", case)]
    try:
        eventually(lambda: _has_topic(secured.bootstrap, topics.models))
        secured.run("producer", "produce", case, str(source))
        become("consumer")
        with PredictionConsumer(parcels.on_two, group=GROUP, timeout=60) as consumer:
            requests = sum(isinstance(event, parcels.Sent) for event in happened)
            assert len(list(islice(consumer, requests))) == requests
        secured.run("operator", "audit", case)
        secured.run("operator", "lineage", "s10:breaks", case)
        workers.append(secured.start("worker", "upgrade", new))
        eventually(lambda: workers[0].poll() is not None)
        assert workers[0].returncode == 0, workers[0].communicate()[0]
        secured.run("operator", "audit", new)
        secured.run("operator", "lineage", "s10:breaks", new)
        become("admin")

        def are_deleted() -> bool:
            secured.run("archiver", "archive", new, "--once", "--part-size", "10")
            return not any(_has_topic(secured.bootstrap, name) for name in old_topics)

        eventually(are_deleted)
        assert workers[1].poll() is None
    finally:
        for worker in workers:
            worker.terminate()
            worker.communicate(timeout=120)


@pytest.mark.soak
@pytest.mark.integration
def test_a_demo_runs_by_the_rights_that_are_printed_for_a_namespace_of_demos(
    secured: Secured, become: Callable[[str], None]
) -> None:
    namespace = "demo-secured"
    become("admin")
    for role in (Role.WORKER, Role.PRODUCER, Role.OPERATOR):
        allow(secured.bootstrap, "User:operator", rights(role, shop.orders.topics(namespace)))
    found = secured.json("operator", "demo", "shop:orders", "--limit", "200", DRIFTLINE_NAMESPACE=namespace)
    assert found["predictions"] == sum(isinstance(event, shop.Asked) for event in islice(shop.trade(), 200))
