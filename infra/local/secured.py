"""The local broker as a secured one: TLS, users by SCRAM, and only what a rule allows. Its own certificate
authority, made once in the broker's folder, signs its certificate. There is a user for each role, without any
rights yet, and `admin`, who may do everything. Anyone who may read their password files has access.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from driftline.settings import KafkaSecurity
from driftline.streams.connection.roles import Role

ADMIN = "admin"
MECHANISM = "SCRAM-SHA-512"
BROKER = "driftline-broker"
"""Name in the broker's certificate, by which its controller knows it."""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENTS://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:SSL,CLIENTS:SASL_SSL
inter.broker.listener.name=CLIENTS
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
listener.name.clients.{mechanism_key}.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="{admin}" password="{password}";
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{admin};User:{broker}
"""


class SecuredBroker:
    """What a secured broker and its users need, in a folder that its owner alone may read.

    `seen_at` is the folder's name for who uses the files, where that is not its own: containers see some of
    the files each, as a user of their own, for whom they are readable then.
    """

    def __init__(self, folder: Path, seen_at: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._seen_at = seen_at or self._folder
        self._mode = 0o600 if seen_at is None else 0o644

    @property
    def is_there(self) -> bool:
        """Whether it was made."""
        return (self._folder / "broker.pem").exists()

    def make(self, host: str) -> None:
        """Make the authority, the broker's certificate, and the users with their passwords."""
        import trustme

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for user in (ADMIN, *Role):
            self._write(f"{user}.password", secrets.token_urlsafe(32).encode())
            named = "".join(f"{name}={value}\n" for name, value in self.variables(user).items())
            self._write(f"{user}.env", named.encode())
        authority = trustme.CA(organization_name="driftline local")
        certificate = authority.issue_cert(host, "localhost", common_name=BROKER)
        self._write("ca.pem", authority.cert_pem.bytes())
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        self._write("broker.pem", _pkcs8(certificate.private_key_pem.bytes()) + chain)

    @property
    def users(self) -> dict[str, str]:
        """The users, each with its file of variables for the environment."""
        return {user: str(self._folder / f"{user}.env") for user in (ADMIN, *map(str, Role))}

    def variables(self, user: str) -> Mapping[str, str]:
        """The environment variables with which driftline's clients connect as a user."""
        return {
            "DRIFTLINE_SECURITY_PROTOCOL": "SASL_SSL",
            "DRIFTLINE_SASL_MECHANISM": MECHANISM,
            "DRIFTLINE_SASL_USERNAME": user,
            "DRIFTLINE_SASL_PASSWORD_FILE": str(self._seen_at / f"{user}.password"),
            "DRIFTLINE_SSL_CAFILE": str(self._seen_at / "ca.pem"),
        }

    def security(self, user: str = ADMIN) -> KafkaSecurity:
        """The security settings of a user."""
        return KafkaSecurity.model_validate(
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": MECHANISM,
                "sasl_username": user,
                "sasl_password": self._password(user),
                "ssl_cafile": self._folder / "ca.pem",
            }
        )

    def properties(self, host: str, port: int, controller: int) -> str:
        """The broker's settings, as far as they differ from those of a broker that lets everybody in."""
        return _PROPERTIES.format(
            host=host, port=port, controller=controller, folder=self._seen_at, admin=ADMIN, broker=BROKER,
            mechanism=MECHANISM, mechanism_key=MECHANISM.lower(), password=self._password(ADMIN),
        )  # fmt: skip

    def arguments(self) -> Path:
        """A file of arguments for the formatting of the broker's storage, by which the users are there before
        it starts; on a command line everybody could read their passwords."""
        lines = [
            line
            for user in (ADMIN, *Role)
            for line in ("--add-scram", f"{MECHANISM}=[name={user},password={self._password(user)}]")
        ]
        return self._write("arguments", "\n".join(lines).encode())

    def _password(self, user: str) -> str:
        return (self._folder / f"{user}.password").read_text("utf-8")

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), self._mode)  # whatever the umask is
            file.write(content)
        return path


def _pkcs8(key: bytes) -> bytes:
    """A private key in the one form that Kafka reads."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
