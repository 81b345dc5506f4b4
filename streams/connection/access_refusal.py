"""Determines why a running Kafka refuses a client, which the libraries report as an outage. A broker closes
the connection of a client that it refuses, and kafka-python retries until its time is over. But a broker
answers requests for its API versions and SASL mechanisms before authentication: its answer, or its silence,
shows what is wrong. Then the user's password or token is sent, as kafka-python would.
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from kafka.net.sasl import get_sasl_mechanism
from kafka.net.sasl.oauth import AbstractTokenProvider

from driftline.streams.connection.security import arguments, ssl_context

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity

HANDSHAKE_WITHIN = 4.0
"""Seconds; a broker that takes longer counts as away."""
_API_VERSIONS = struct.pack(">hhih", 18, 0, 0, -1)
_HANDSHAKE = struct.pack(">hhih", 17, 1, 1, -1)
_AUTHENTICATE = struct.pack(">hhih", 36, 0, 2, -1)
"""Heads of requests: their key, version and number, no client id."""
_NO_SASL = 34
"""Error code of a broker that does not expect SASL from the client."""
_WRONG_USER = 58
"""Error code of a broker that does not accept a user's password or token."""
_TLS_ALERT = b"\x15\x03"


class FileToken(AbstractTokenProvider):  # type: ignore[misc]
    """A token that is read from its file whenever a connection needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """See kafka-python."""
        return self._path.read_text("utf-8").strip()


def refusal(bootstrap: str, security: KafkaSecurity, within: float = HANDSHAKE_WITHIN) -> str | None:
    """Why the first broker of `bootstrap` that answers refuses clients; None if it is away (it does not
    answer `within` so many seconds), or if nothing is known to be wrong."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        host = host.strip("[]")  # as an IPv6 address is written
        try:
            with socket.create_connection((host, int(port)), within) as plain:
                return _reason(plain, host, security)
        except (OSError, ValueError):
            continue
    return None


def _reason(plain: socket.socket, host: str, security: KafkaSecurity) -> str | None:
    try:
        if security.is_encrypted:
            with ssl_context(security).wrap_socket(plain, server_hostname=host) as encrypted:
                return _of_user(encrypted, security)
        return _of_user(plain, security)
    except TimeoutError:
        return None
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message} (ssl_cafile, ssl_check_hostname)"
    except (ssl.SSLError, ConnectionError) as error:
        if not security.is_encrypted:
            return None
        return (
            f"TLS fails: {error}; it may have none (security_protocol), or ask for a certificate of the "
            "client (ssl_certfile)"
        )


def _of_user(connection: socket.socket, security: KafkaSecurity) -> str | None:
    """Why the broker closes this user's connections before authentication."""
    named = (security.sasl_mechanism or "NONE").encode()
    answer = _answer(connection, _API_VERSIONS)
    if answer is None:
        return f"it does not speak {security.security_protocol}, the security_protocol of this client"
    answer = _answer(connection, _HANDSHAKE + struct.pack(">h", len(named)) + named)
    error, mechanisms = _handshake(answer) if answer else (0, "")
    if error == _NO_SASL:
        return "it lets clients in without SASL" if security.is_by_sasl else None
    if not security.is_by_sasl:
        return f"it wants a user, by {mechanisms} (security_protocol, sasl_mechanism)"
    if error:
        return f"it lets users in by {mechanisms}, not by {security.sasl_mechanism} (sasl_mechanism)"
    if not answer or not _is_refused(connection, security):
        return None
    if security.sasl_token_file is not None:
        return "it does not accept the token (sasl_token_file)"
    return (
        f"it knows no user {security.sasl_username!r} with that password by {security.sasl_mechanism} "
        "(sasl_username, sasl_password)"
    )


def _is_refused(connection: socket.socket, security: KafkaSecurity) -> bool:
    """Whether the broker rejects the user's credentials, after it has accepted the mechanism."""
    mechanism = get_sasl_mechanism(security.sasl_mechanism)(**arguments(security, FileToken))
    while not mechanism.is_done():
        credentials = mechanism.auth_bytes()
        answer = _answer(connection, _AUTHENTICATE + struct.pack(">i", len(credentials)) + credentials)
        if not answer:
            return False
        error, length = struct.unpack(">hh", answer[:4])
        if error:
            return bool(error == _WRONG_USER)
        mechanism.receive(answer[8 + max(length, 0) :])
    return False


def _answer(connection: socket.socket, request: bytes) -> bytes | None:
    """The broker's answer without its number; None if it is not an answer of Kafka."""
    connection.sendall(struct.pack(">i", len(request)) + request)
    head = _exactly(connection, 4)
    if len(head) < 4 or head.startswith(_TLS_ALERT):
        return None
    return _exactly(connection, struct.unpack(">i", head)[0])[4:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (some := connection.recv(size - len(found))):
        found += some
    return found


def _handshake(answer: bytes) -> tuple[int, str]:
    """Error code and mechanisms of an answer to a SASL handshake."""
    error, count = struct.unpack(">hi", answer[:6])
    names, rest = [], answer[6:]
    for _ in range(count):
        (size,) = struct.unpack(">h", rest[:2])
        names.append(rest[2 : 2 + size].decode())
        rest = rest[2 + size :]
    return error, ", ".join(names)
