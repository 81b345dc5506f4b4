"""The proxy itself: what each of its modes does to connections."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.lab.proxy import Proxy

PATIENCE = 20.0
QUIET = 0.2
"""Seconds of silence that show that nothing passes; what fails to pass for other reasons fails elsewhere."""


@pytest.fixture
def network() -> Iterator[Proxy]:
    """In front of a server that sends back what it is sent."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with server, Proxy(f"127.0.0.1:{server.getsockname()[1]}") as proxy:
        yield proxy


@pytest.fixture
def connect(network: Proxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def connected() -> socket.socket:
        host, port = network.address.rsplit(":", 1)
        opened.append(socket.create_connection((host, int(port)), PATIENCE))
        return opened[-1]

    yield connected
    for each in opened:
        each.close()


def asks(connection: socket.socket, word: bytes = b"word") -> bytes:
    connection.sendall(word)
    answer = b""
    while len(answer) < len(word) and (more := connection.recv(len(word))):
        answer += more
    return answer


def is_silent(connection: socket.socket) -> bool:
    return not select.select([connection], [], [], QUIET)[0]


def test_bytes_pass_and_an_end_is_reported(network: Proxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    assert asks(connection) == b"word"
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""


def test_what_was_sent_into_a_frozen_network_arrives_once_it_is_restored(
    network: Proxy, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    asks(connection)
    network.freeze()
    connection.sendall(b"held")
    late = connect()
    late.sendall(b"held")
    assert is_silent(connection)
    assert is_silent(late)
    network.restore()
    assert connection.recv(4) == b"held"
    assert late.recv(4) == b"held"


def test_a_delay_is_that_of_both_ways(network: Proxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    asks(connection)
    network.delay(0.1)
    begun = time.monotonic()
    asks(connection)
    assert time.monotonic() - begun >= 0.2


def test_a_throttled_connection_is_no_faster_than_its_rate(
    network: Proxy, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    network.throttle(10_000)
    begun = time.monotonic()
    asks(connection, b"x" * 2_000)
    asks(connection)  # waits for what came before it
    assert time.monotonic() - begun >= 0.2


def test_a_forgotten_connection_stays_silent_for_ever_and_new_ones_are_as_usual(
    network: Proxy, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    asks(connection)
    network.half_open()
    connection.sendall(b"lost")
    assert asks(connect()) == b"word"
    network.restore()
    assert is_silent(connection)


def test_connections_are_reset_until_the_network_is_restored(
    network: Proxy, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    asks(connection)
    network.reset()
    with pytest.raises(ConnectionError):
        asks(connection)
    with pytest.raises(ConnectionError):
        asks(connect())
    network.restore()
    assert asks(connect()) == b"word"
