"""A TLS context whose certificates are those that the files have at each handshake: certificates are renewed
while programs run, and a connection that is lost later is made again with the new ones."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driftline.errors import DriftlineError

log = logging.getLogger("driftline.broker")

_Stamp = tuple[int, int] | None


class RenewedContext(ssl.SSLContext):
    """Makes connections by a context that `read` returns, which is called again when one of `files` has
    changed. While it raises DriftlineError, as where a new certificate is there before its key, the context
    before is used.

    Raises what `read` raises when it is called first.
    """

    def __new__(cls, read: Callable[[], ssl.SSLContext], files: tuple[Path, ...]) -> RenewedContext:
        """See ssl."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, read: Callable[[], ssl.SSLContext], files: tuple[Path, ...]) -> None:
        self._read = read
        self._files = files
        self._seen = self._stamps()
        self._current = read()
        self.check_hostname = self._current.check_hostname

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        """See ssl."""
        return self._of_now().wrap_socket(*arguments, **named)

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """See ssl."""
        return self._of_now().wrap_bio(*arguments, **named)

    def _of_now(self) -> ssl.SSLContext:
        stamps = self._stamps()  # before they are read: what changes meanwhile is read next time
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._current = self._read()
            except DriftlineError as error:
                log.warning("certificates have changed, and those before are used on: %s", error)
            else:
                log.info("certificates have changed, and are used from now on")
        return self._current

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> _Stamp:
    """What changes with a file's content, and with its rights; None while it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
