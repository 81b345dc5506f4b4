"""Another password and other certificates of a secured Kafka, as docs/operating.md says: nothing is lost."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import shop
import trustme
from cryptography import x509
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from pydantic import SecretStr

from driftline.client import EventProducer, PredictionConsumer
from driftline.infra.local import secured as secured_broker
from driftline.infra.local.kafka import HOST, LocalStack, free_port
from driftline.infra.local.secured import ADMIN, BROKER, SecuredBroker, _pkcs8
from driftline.infra.topics.acls import allow
from driftline.infra.topics.rights import rights
from driftline.settings import KafkaSecurity
from driftline.streams.connection import clients
from driftline.streams.connection.roles import Role
from driftline.streams.connection.security import own_security
from driftline.streams.errors import NotLetIn
from tests.infra.deploy.test_deployment_kafka import answer
from tests.infra.local.test_secured_kafka import Secured

EACH = 20
GROUPS = ("first", "second", "third")
TOPICS = shop.orders.topics()
ROLES = (Role.WORKER, Role.GATEWAY, Role.ARCHIVER, Role.PRODUCER, Role.CONSUMER, Role.OPERATOR)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path)
    try:
        yield stack
    finally:
        stack.down(wipe=True)


def replace_password(secured: Secured, user: str) -> str:
    """Give a user another password, in Kafka and in its file; returns the one before."""
    admin = clients.admin(secured.bootstrap)
    password = secrets.token_urlsafe(32)
    try:
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password, iterations=8192)]
        )
    finally:
        admin.close()
    file = Path(secured.variables(user)["DRIFTLINE_SASL_PASSWORD_FILE"])
    before = file.read_text()
    file.write_text(password)
    return before


def trust_another(secured: Secured) -> trustme.CA:
    """Put another authority beside the one that clients trust, and the broker."""
    authority = trustme.CA(organization_name="another")
    add(authority, Path(secured.variables(ADMIN)["DRIFTLINE_SSL_CAFILE"]))
    return authority


def add(authority: trustme.CA, trusted: Path) -> None:
    """Put an authority into a file of trusted ones."""
    trusted.write_bytes(trusted.read_bytes() + authority.cert_pem.bytes())


def certify(secured: Secured, authority: trustme.CA) -> None:
    """Give the broker a certificate of the authority, which it uses from its next start on."""
    certificate = authority.issue_cert(HOST, "localhost", common_name=BROKER)
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    trusted = Path(secured.variables(ADMIN)["DRIFTLINE_SSL_CAFILE"])
    (trusted.parent / "broker.pem").write_bytes(_pkcs8(certificate.private_key_pem.bytes()) + chain)


class ClientCertificate:
    """The one certificate of all clients of a secured Kafka that asks for one: an authority of the clients'
    own signs it, and it ends after some seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._authority = trustme.CA(organization_name="clients")
        self.file = folder / "client.pem"
        make, variables, security = SecuredBroker.make, SecuredBroker.variables, SecuredBroker.security

        def with_clients(broker: SecuredBroker, host: str) -> None:
            make(broker, host)
            add(self._authority, Path(broker.variables(ADMIN)["DRIFTLINE_SSL_CAFILE"]))

        asks = "listener.name.clients.ssl.client.auth=required\n"
        monkeypatch.setattr(secured_broker, "_PROPERTIES", secured_broker._PROPERTIES + asks)
        monkeypatch.setattr(SecuredBroker, "make", with_clients)
        certfile = {"DRIFTLINE_SSL_CERTFILE": str(self.file)}
        monkeypatch.setattr(SecuredBroker, "variables", lambda *given: {**variables(*given), **certfile})
        monkeypatch.setattr(
            SecuredBroker, "security", lambda *given: self.presented(security(*given), self.file)
        )

    @staticmethod
    def presented(security: KafkaSecurity, file: Path) -> KafkaSecurity:
        return security.model_copy(update={"ssl_certfile": file})

    def issue(self, seconds: float) -> None:
        """Replace the certificate by one that is valid for so long."""
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        issued = self._authority.issue_cert("clients", not_after=ends)
        new = self.file.with_suffix(".new")
        issued.private_key_and_cert_chain_pem.write_to_path(str(new))
        new.replace(self.file)

    @staticmethod
    def is_over(former: Path) -> bool:
        """Whether an earlier one has ended."""
        return datetime.now(UTC) > x509.load_pem_x509_certificate(former.read_bytes()).not_valid_after_utc


class Users:
    """This process as one user of a secured Kafka after the other."""

    def __init__(self, secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
        self._secured = secured
        self._monkeypatch = monkeypatch

    def become(self, user: str) -> None:
        for name, value in self._secured.variables(user).items():
            self._monkeypatch.setenv(name, value)

    def produce(self, part: int) -> None:
        self.become(Role.PRODUCER)
        with EventProducer(shop.orders) as producer:
            for number in range(part * EACH, (part + 1) * EACH):
                producer.send(shop.asked(number, number))

    def answered(self, parts: int) -> None:
        """See that each request of so many parts has its one prediction."""
        self.become(Role.CONSUMER)
        with PredictionConsumer(shop.orders, group=GROUPS[parts - 1], timeout=60) as consumer:
            found = [
                prediction.event_id for _, prediction in zip(range(parts * EACH), consumer, strict=False)
            ]
        assert sorted(found) == sorted(f"asked-{number}" for number in range(parts * EACH))

    def refused(self, user: str, password: str) -> None:
        """See that a user's former password is worth nothing."""
        self.become(user)
        former = own_security().model_copy(update={"sasl_password": SecretStr(password)})
        with pytest.raises(NotLetIn, match=f"no user '{user}' with that password"):
            clients.admin(self._secured.bootstrap, former)


def served(
    stack: LocalStack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Secured, Users, subprocess.Popen[str]]:
    """A secured Kafka where every role has its rights, its users, and a worker that has answered the first
    part."""
    secured = Secured(stack.up(secure=True).bootstrap, folder, stack.users)
    users = Users(secured, monkeypatch)
    users.become(ADMIN)
    for role in ROLES:
        for group in GROUPS if role is Role.CONSUMER else (None,):
            allow(secured.bootstrap, f"User:{role}", rights(role, TOPICS, group=group))
    worker = secured.start("worker", "worker", "shop:orders")
    users.produce(0)
    users.answered(1)
    return secured, users, worker


def with_gateway(secured: Secured, eventually: Callable[..., Any]) -> tuple[subprocess.Popen[str], int, str]:
    """A gateway that is ready, its port, and a key to produce."""
    port = free_port()
    gateway = secured.start("gateway", "gateway", "serve", "shop:orders", "--port", str(port))
    key = secured.json("gateway", "gateway", "key", "all", "--scope", "produce")["key"]
    eventually(lambda: answer(port, "/readyz")[0] == 200)
    return gateway, port, key


@pytest.mark.soak
@pytest.mark.integration
def test_a_password_and_the_certificates_are_replaced_and_nothing_is_lost(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    secured, users, worker = served(stack, tmp_path, monkeypatch)

    users.become(ADMIN)
    before = replace_password(secured, Role.WORKER)
    users.refused(Role.WORKER, before)
    worker.terminate()
    worker.communicate(timeout=120)
    users.produce(1)
    worker = secured.start("worker", "worker", "shop:orders")
    users.answered(2)

    gateway, port, key = with_gateway(secured, eventually)
    archive = secured.start("archiver", "archive", "shop:orders", "--part-size", "10")
    authority = trust_another(secured)
    certify(secured, authority)
    stack.down()
    stack.up(secure=True)
    Path(secured.variables(ADMIN)["DRIFTLINE_SSL_CAFILE"]).write_bytes(authority.cert_pem.bytes())
    users.produce(2)
    users.answered(3)
    request = msgspec.json.encode(shop.asked(3 * EACH, 3 * EACH))
    eventually(lambda: answer(port, "/v1/cases/orders/predictions", request, key)[0] == 200)
    begun = 3 * EACH // 10
    eventually(lambda: len(list((tmp_path / "archive").rglob("*.parquet"))) >= begun)
    assert [one.poll() for one in (worker, gateway, archive)] == [None] * 3, "nothing was started again"
    said = secured.run("operator", "audit", "shop:orders")  # ends with 1 where something differs
    for one in (worker, gateway, archive):
        one.terminate()
        said += one.communicate(timeout=120)[0]
    assert not [password for password in [*secured.passwords(), before, key] if password in said]


@pytest.mark.soak
@pytest.mark.integration
def test_a_clients_certificate_is_renewed_and_nothing_is_lost(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    certificate = ClientCertificate(monkeypatch, tmp_path)
    certificate.issue(90)
    secured, users, worker = served(stack, tmp_path, monkeypatch)
    gateway, port, key = with_gateway(secured, eventually)

    former = shutil.copy(certificate.file, tmp_path / "former.pem")
    certificate.issue(3_600)
    eventually(lambda: certificate.is_over(former), within=120)
    stack.down()
    stack.up(secure=True)
    users.produce(1)
    users.answered(2)
    request = msgspec.json.encode(shop.asked(2 * EACH, 2 * EACH))
    eventually(lambda: answer(port, "/v1/cases/orders/predictions", request, key)[0] == 200)
    assert [one.poll() for one in (worker, gateway)] == [None] * 2, "nothing was started again"
    users.become(ADMIN)
    with pytest.raises(NotLetIn):
        clients.admin(secured.bootstrap, certificate.presented(own_security(), former))
    secured.run("operator", "audit", "shop:orders")
    for one in (worker, gateway):
        one.terminate()
        one.communicate(timeout=120)
