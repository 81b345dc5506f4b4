"""A network between clients and a broker that freezes, delays, throttles, forgets or resets connections.

    with Proxy("127.0.0.1:9093") as network:
        ...  # clients connect to network.address
        network.freeze()
        network.restore()

A Kafka client follows the address that the broker advertises, so the broker has to advertise the proxy's:
`ProxiedStack` has a listener for that, beside the one that tests themselves use.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from driftline.infra.local.kafka import HOST, LocalStack, free_port

PIECE = 64 * 1024
WAITING = 64
"""Pieces of one direction that may be on their way; then the sender has to wait, as for a full window."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST."""


class _Link:
    """One connection of a client, and the one to the broker for it."""

    def __init__(self, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.ends = (client, broker)
        self.forgotten = False

    def reset(self) -> None:
        for end in self.ends:
            _reset(end)


def _reset(end: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it is closed already
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


class Proxy:
    """Carries bytes between its `address` and `upstream` (host:port), as its mode says.

    It has a thread of its own; a mode holds from the moment the call returns.
    """

    def __init__(self, upstream: str, port: int = 0) -> None:
        self._upstream = upstream
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._delay = 0.0
        self._rate = float("inf")
        self._refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"{HOST}:{self._port}"

    def start(self) -> Self:
        """Listen; the port is known then."""
        self._thread.start()
        self._do(self._listen())
        return self

    # modes

    def freeze(self) -> None:
        """Nothing passes, in either direction; nothing is lost: all of it comes once restored."""
        self._call(self._passing.clear)

    def delay(self, seconds: float) -> None:
        """Every byte is on its way for so long, in each direction."""
        self._call(lambda: setattr(self, "_delay", seconds))

    def throttle(self, bytes_per_second: float) -> None:
        """Each direction of each connection carries no more than this."""
        self._call(lambda: setattr(self, "_rate", bytes_per_second))

    def half_open(self) -> None:
        """Connections that are there stay open and carry nothing ever again; new ones are as usual."""
        self._call(lambda: [setattr(link, "forgotten", True) for link in self._links])

    def reset(self) -> None:
        """Connections are reset, new ones too, at once."""

        def refuse() -> None:
            self._refusing = True
            for link in list(self._links):
                link.reset()

        self._call(refuse)

    def restore(self) -> None:
        """All is well again, but for connections that are reset or forgotten."""

        def heal() -> None:
            self._refusing, self._delay, self._rate = False, 0.0, float("inf")
            self._passing.set()

        self._call(heal)

    def close(self) -> None:
        """Reset every connection and listen no more."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # in the thread

    def _call(self, change: Callable[[], object]) -> None:
        async def changed() -> None:
            change()

        self._do(changed())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(client)
            return
        host, port = self._upstream.rsplit(":", 1)
        try:
            from_broker, broker = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(client)
            return
        link = _Link(client, broker)
        self._links.add(link)
        for reader, writer in ((from_client, broker), (from_broker, client)):
            task = asyncio.create_task(self._carry(link, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until either end closes; then the other end learns of it too."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING)
        writing = asyncio.create_task(self._deliver(link, waiting, writer))
        try:
            while True:
                piece = await reader.read(PIECE)
                await waiting.put((self._loop.time() + self._delay, piece))
                if not piece:
                    await writing
                    return
        except OSError:
            link.reset()
        finally:
            writing.cancel()
            self._links.discard(link)

    async def _deliver(
        self, link: _Link, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, piece = await waiting.get()
            await asyncio.sleep(due - self._loop.time())
            await self._passing.wait()
            if link.forgotten:
                continue  # not even the end is passed on
            if not piece:
                writer.close()
                return
            with suppress(OSError):  # the reader of the other direction tells of it
                writer.write(piece)
                await writer.drain()
            await asyncio.sleep(len(piece) / self._rate)


class ProxiedStack(LocalStack):
    """A local broker that also listens behind a proxy: who connects to `network.address` stays there.

    The broker's own address, for whoever is not to be disturbed, is that of `up()`.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._behind = free_port()
        self.network = Proxy(f"{HOST}:{self._behind}").start()

    def _properties(self, port: int, controller: int) -> str:
        listener = f",PROXIED://{HOST}:{self._behind}\n"
        advertised = f",PROXIED://{self.network.address}\n"
        lines = []
        for line in super()._properties(port, controller).splitlines():
            added = {
                "listeners": listener,
                "advertised.listeners": advertised,
                "listener.security.protocol.map": ",PROXIED:PLAINTEXT\n",
            }.get(line.partition("=")[0], "\n")
            lines.append(line + added)
        return "".join(lines)

    def down(self, *, wipe: bool = False) -> bool:
        self.network.close()
        return super().down(wipe=wipe)
