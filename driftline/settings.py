"""Settings: what a process knows of its surroundings, one model for every program of driftline.

Each is named alike in the environment (`DRIFTLINE_NAMESPACE`), in a file (`namespace`) and on the command
line (`--set namespace=team`); `driftline.setting_sources` reads them. Neither module imports anything of
driftline but its errors, so that every layer may use them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

MASK = "****"
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^:,\s\[\]]+"
_BROKER = re.compile(rf"(?:{_HOST})(?::([0-9]{{1,5}}))?")
_LISTENING = re.compile(rf"(?:({_HOST})?:)?([0-9]{{1,5}})")
_KEY = re.compile(r"\s*[0-9A-Fa-f]{64}\s*")
_LAST_PORT = 65_535


def listening_address(text: str) -> tuple[str, int]:
    """host:port, or a port alone, which is of the loopback interface; an IPv6 address is in brackets.

    Raises ValueError.
    """
    found = _LISTENING.fullmatch(text)
    if found is None or int(found[2]) > _LAST_PORT:
        raise ValueError("write host:port to listen on, such as 127.0.0.1:9464 or [::1]:9464")
    return (found[1] or "127.0.0.1").strip("[]"), int(found[2])


def _can_be_listened_on(text: str) -> str:
    listening_address(text)
    return text


def _names_brokers(text: str) -> str:
    for address in text.split(","):
        found = _BROKER.fullmatch(address.strip())
        if found is None or int(found[1] or 0) > _LAST_PORT:
            raise ValueError("write host:port, several with commas, an IPv6 address in brackets")
    return text


def _is_key(key: SecretStr) -> SecretStr:
    if _KEY.fullmatch(key.get_secret_value()) is None:
        raise ValueError("it has to be 64 hexadecimal digits (32 bytes)")
    return key


Brokers = Annotated[str, AfterValidator(_names_brokers)]


class KafkaSecurity(BaseModel):
    """How clients are let in by a Kafka cluster, under the names that Kafka's clients give it.

    `ssl_cafile` is whom brokers' certificates are trusted by (None: whom this machine trusts);
    `ssl_certfile` and `ssl_keyfile` are the client's own certificate and key (mutual TLS), `ssl_password`
    opens the key file. `sasl_token_file` holds the token of OAUTHBEARER; it is read again at every
    connection, so whoever renews the token writes the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = Field(default=None, repr=False)
    sasl_token_file: Path | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: SecretStr | None = Field(default=None, repr=False)
    ssl_check_hostname: bool = True

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are made by TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def is_by_sasl(self) -> bool:
        """Whether clients name themselves by SASL."""
        return self.security_protocol.startswith("SASL")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """A setting that would have no effect is refused: who gave it believes to be protected by it."""
        given = sorted(name for name in self.model_fields_set if getattr(self, name) is not None)
        of_sasl = [name for name in given if name.startswith("sasl_")]
        of_tls = [name for name in given if name.startswith("ssl_")]
        if of_sasl and not self.is_by_sasl:
            raise ValueError(
                f"{_listed(of_sasl)}: no effect with security_protocol {self.security_protocol}: "
                "it has to be SASL_SSL, or SASL_PLAINTEXT within a trusted network"
            )
        if of_tls and not self.is_encrypted:
            raise ValueError(
                f"{_listed(of_tls)}: no effect with security_protocol {self.security_protocol}: it has to "
                "be SSL or SASL_SSL"
            )
        if self.is_by_sasl:
            self._require_sasl()
        if (self.ssl_keyfile or self.ssl_password) and not self.ssl_certfile:
            raise ValueError(
                "ssl_certfile: needed by ssl_keyfile and ssl_password, as the certificate of that key"
            )
        return self

    def _require_sasl(self) -> None:
        if self.sasl_mechanism is None:
            raise ValueError(f"sasl_mechanism: needed by security_protocol {self.security_protocol}")
        if self.sasl_mechanism == "OAUTHBEARER":
            needed, useless = ["sasl_token_file"], ["sasl_username", "sasl_password"]
        else:
            needed, useless = ["sasl_username", "sasl_password"], ["sasl_token_file"]
        if missing := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"{_listed(missing)}: needed by sasl_mechanism {self.sasl_mechanism}")
        if given := [name for name in useless if getattr(self, name)]:
            raise ValueError(f"{_listed(given)}: no effect with sasl_mechanism {self.sasl_mechanism}")


class ForeignKafka(KafkaSecurity):
    """The Kafka that bridges read, where it is another one than the log's."""

    bootstrap: Brokers | None = None


class SettingValues(KafkaSecurity):
    """Where things are.

    `home` keeps the local broker's data, the Feast repositories and reports; `bootstrap` names a Kafka to
    use instead of the local one (None: the local one), and the settings of `KafkaSecurity` how it lets
    clients in; `namespace` prefixes topics, groups and Feast projects so that teams can share a cluster.
    `archive` and `checkpoints` are folders or pyarrow.fs URIs (None: below `home`); `key` seals checkpoints,
    64 hex digits (None: one made below `home`). `online_store` is "sqlite" (a file below `home`) or the URL
    of a Redis, `registry` the URL of a database for Feast's registry (None: a SQLite file below `home`).
    `memory` is how much of a worker's memory its state takes, one half predictions that wait packed, one half
    windows: older ones are in files beside the checkpoints (None: all are in memory). `jars` is where those
    of the local broker are kept (None: in the user's cache). `metrics` is the address, host:port, at which
    workers serve their metrics and health (None: nowhere). `log` is what processes log:
    text for people, or JSON objects, one a line. `foreign` is what bridges read, `cases` are short names on
    the command line.
    """

    home: Path = Field(default=Path(".driftline"), validate_default=True)
    bootstrap: Brokers | None = None
    namespace: str = ""
    archive: str | None = Field(default=None, repr=False)
    checkpoints: str | None = Field(default=None, repr=False)
    key: Annotated[SecretStr, AfterValidator(_is_key)] | None = Field(default=None, repr=False)
    online_store: str = Field(default="sqlite", repr=False)
    registry: str | None = Field(default=None, repr=False)
    memory: ByteSize | None = None
    jars: Path | None = None
    metrics: Annotated[str, AfterValidator(_can_be_listened_on)] | None = None
    log: Literal["text", "json"] = "text"
    foreign: ForeignKafka = ForeignKafka()
    cases: dict[str, str] = {}

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.absolute()

    @property
    def security(self) -> KafkaSecurity:
        """How the log's Kafka lets this process in."""
        return KafkaSecurity.model_construct(
            **{name: getattr(self, name) for name in KafkaSecurity.model_fields}
        )


def confidential(kind: type[BaseModel]) -> set[str]:
    """Settings that may hold a secret, if only as part of a URL: those which the model keeps out of its text.

    They may be kept in a file of their own, are never flags, and are shown masked.
    """
    return {name for name, field in kind.model_fields.items() if not field.repr}


def masked(value: object) -> str | None:
    """A value as it may be read by anybody: passwords masked, also those within URLs."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str) and "://" in value:
        return _without_secrets(value)
    return None if value is None else str(value)


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    account, at, place = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    query = "&".join(f"{name}={MASK}" for name, _ in parse_qsl(parts.query))
    return parts._replace(netloc=f"{user}{colon}{MASK if colon else ''}{at}{place}", query=query).geturl()


def _listed(names: list[str]) -> str:
    return " and ".join(names)
