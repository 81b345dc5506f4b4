"""How clients are let in: the same by every library, with certificates of an authority of the tests' own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

import driftline as dl
from driftline.setting_sources import SettingsError
from driftline.settings import KafkaSecurity
from driftline.streams.connection import async_clients, clients
from driftline.streams.connection.access_refusal import refusal
from driftline.streams.connection.security import arguments, own_security, ssl_context

USER = {"sasl_username": "worker", "sasl_password": "open-sesame"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """The authority's certificate, and a client's with its key, which a password opens."""
    certificate = authority.issue_cert("client")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"opens"))
    contents = {
        "ssl_cafile": authority.cert_pem.bytes(),
        "ssl_certfile": certificate.cert_chain_pems[0].bytes(),
        "ssl_keyfile": sealed,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def secured(protocol: str, **settings: Any) -> KafkaSecurity:
    return KafkaSecurity.model_validate({"security_protocol": protocol} | settings)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_every_library_is_reported_the_same(protocol: str, mechanism: str) -> None:
    security = secured(protocol, sasl_mechanism=mechanism, **USER)
    for token in (clients.FileToken, async_clients.AsyncFileToken):
        options = arguments(security, token)
        assert ("ssl_context" in options) == (protocol == "SASL_SSL")
        options.pop("ssl_context", None)
        assert options == {
            "security_protocol": protocol,
            "sasl_mechanism": mechanism,
            "sasl_plain_username": "worker",
            "sasl_plain_password": "open-sesame",
        }
    faust = async_clients.faust_credentials(security)
    assert isinstance(faust, SASLCredentials)
    assert (faust.protocol, faust.mechanism) == (AuthProtocol[protocol], SASLMechanism(mechanism))
    assert (faust.username, faust.password) == ("worker", "open-sesame")


def test_plain_text_and_tls_alone_name_no_user() -> None:
    assert arguments(secured("PLAINTEXT"), clients.FileToken) == {"security_protocol": "PLAINTEXT"}
    assert async_clients.faust_credentials(secured("PLAINTEXT")) is None
    assert set(arguments(secured("SSL"), clients.FileToken)) == {"security_protocol", "ssl_context"}
    faust = async_clients.faust_credentials(secured("SSL"))
    assert isinstance(faust, SSLCredentials)
    assert faust.context.verify_mode == ssl.CERT_REQUIRED


def test_a_token_is_read_again_whenever_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    security = secured("SASL_SSL", sasl_mechanism="OAUTHBEARER", sasl_token_file=file)
    plain = arguments(security, clients.FileToken)["sasl_oauth_token_provider"]
    faust = async_clients.faust_credentials(security)
    assert isinstance(faust, OAuthCredentials)
    assert faust.protocol is AuthProtocol.SASL_SSL
    assert (plain.token(), asyncio.run(faust.oauth_cb.token())) == ("first", "first")
    file.write_text("renewed")
    assert (plain.token(), asyncio.run(faust.oauth_cb.token())) == ("renewed", "renewed")


def test_a_brokers_certificate_is_verified_and_its_name_unless_that_is_switched_off(
    files: dict[str, Path],
) -> None:
    context = ssl_context(secured("SSL", ssl_cafile=files["ssl_cafile"]))
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    context = ssl_context(secured("SSL", ssl_cafile=files["ssl_cafile"], ssl_check_hostname=False))
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ssl_cafile": "is-not-there"}, "ssl_cafile: .*is-not-there"),
        ({"ssl_password": "guessed"}, "ssl_certfile, ssl_keyfile or ssl_password: "),
        (
            {"ssl_password": None},
            "ssl_certfile, ssl_keyfile or ssl_password: ",
        ),  # nobody is asked
    ],
)
def test_a_certificate_or_key_that_cannot_be_used_is_named(
    files: dict[str, Path], change: dict[str, Any], said: str
) -> None:
    assert ssl_context(secured("SSL", **files, ssl_password="opens"))
    with pytest.raises(SettingsError, match=said) as raised:
        ssl_context(secured("SSL", **files | {"ssl_password": "opens"} | change))
    assert "guessed" not in str(raised.value)


def test_clients_are_let_in_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"}.items():
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    for name, value in USER.items():
        monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", value)
    assert own_security() == secured("SASL_PLAINTEXT", sasl_mechanism="PLAIN", **USER)
    faust = async_clients.faust_credentials()
    assert isinstance(faust, SASLCredentials)
    assert faust.username == "worker"


def served_once(answer: Callable[[socket.socket], None], host: str = "127.0.0.1") -> str:
    """The address of a server that takes one connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            answer(connection)

    Thread(target=serve, daemon=True).start()
    return f"{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def has_ipv6() -> bool:
    """Whether this machine can be reached by an IPv6 address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_broker_with_an_ipv6_address_is_asked_why_it_lets_nobody_in() -> None:
    reason = refusal(
        served_once(lambda connection: connection.sendall(b"no TLS here"), "::1"), secured("SSL")
    )
    assert reason is not None
    assert "security_protocol" in reason


def test_a_broker_that_asks_for_a_certificate_of_the_client_is_reported(
    authority: trustme.CA, files: dict[str, Path]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["ssl_cafile"])
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def handshake(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except ssl.SSLError:
            return  # as it should

    reason = refusal(served_once(handshake), secured("SSL", ssl_cafile=files["ssl_cafile"]))
    assert reason is not None
    assert "certificate of the client (ssl_certfile)" in reason


def test_a_client_of_what_has_no_tls_is_reported() -> None:
    """The library tries again and again until its time is over, and says no more than that."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # the test is over
            with connection, suppress(OSError):  # one that says nothing, or is gone, is not waited for
                connection.settimeout(1.0)
                connection.recv(1)
                connection.sendall(b"no TLS here")

    server = Thread(target=serve, daemon=True)
    server.start()
    try:
        with pytest.raises(dl.NotLetIn, match=r"TLS fails.*security_protocol"):
            clients.admin(f"127.0.0.1:{listening.getsockname()[1]}", secured("SSL"), bootstrap_timeout_ms=500)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        server.join(30)
        assert not server.is_alive()


class Peer:
    """A TLS server that wants a certificate of its clients, and remembers whose it was."""

    def __init__(self, authority: trustme.CA) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.certify(authority)

    def certify(self, authority: trustme.CA) -> None:
        """Have a certificate of this authority from now on, and trust its clients."""
        authority.configure_trust(self._context)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)

    def met(self, context: ssl.SSLContext) -> str | None:
        """The name in the certificate with which a client has come; None if one does not trust the other."""
        names: list[str] = []

        def handshake(connection: socket.socket) -> None:
            with suppress(OSError), self._context.wrap_socket(connection, server_side=True) as client:
                named = client.getpeercert() or {}
                names.append(dict(named["subjectAltName"])["DNS"])  # type: ignore[arg-type]
                client.sendall(b"met")

        host, port = served_once(handshake).split(":")

        async def by_loop() -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            try:
                return await reader.read(3)
            finally:
                writer.close()

        with suppress(ssl.SSLError):
            assert asyncio.run(by_loop()) == b"met"
        return names[0] if names else None


def write_identity(files: dict[str, Path], authority: trustme.CA, name: str) -> None:
    """Write a client's certificate and key, of this authority, over those that are there."""
    certificate = authority.issue_cert(name)
    files["ssl_keyfile"].write_bytes(certificate.private_key_pem.bytes())
    files["ssl_certfile"].write_bytes(certificate.cert_chain_pems[0].bytes())


def test_certificates_that_are_renewed_are_those_of_the_next_connection(
    files: dict[str, Path], authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    write_identity(files, authority, "first")
    context = ssl_context(secured("SSL", **files))
    peer = Peer(authority)
    assert peer.met(context) == "first"
    write_identity(files, authority, "second")
    assert peer.met(context) == "second"

    files["ssl_certfile"].write_bytes(authority.issue_cert("half").cert_chain_pems[0].bytes())
    assert peer.met(context) == "second", "a certificate whose key is not there yet is none"
    assert "those before are used on" in caplog.text

    other = trustme.CA()
    peer.certify(other)
    assert peer.met(context) is None, "an authority that is not trusted yet"
    write_identity(files, other, "third")
    files["ssl_cafile"].write_bytes(other.cert_pem.bytes())
    assert peer.met(context) == "third"
    assert Peer(authority).met(context) is None, "one that is trusted no longer"


def test_a_synchronous_client_has_the_renewed_certificate_too(
    files: dict[str, Path], authority: trustme.CA
) -> None:
    write_identity(files, authority, "first")
    context = ssl_context(secured("SSL", **files))
    files["ssl_cafile"].write_bytes(trustme.CA().cert_pem.bytes())
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)

    def handshake(connection: socket.socket) -> None:
        with suppress(OSError):
            serving.wrap_socket(connection, server_side=True).close()

    host, port = served_once(handshake).split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"),
    ):
        context.wrap_socket(plain, server_hostname=host)
