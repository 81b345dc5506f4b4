"""Seals: bytes are read back only if they are whole, and this key wrote them under the same label.

A checkpoint is a pickle, and unpickling runs code; so its bytes are opened here first. Layout of a seal,
integers big-endian:

    magic and version (8) | key id (8) | payload length (8) | HMAC-SHA256 (32) | payload

The code covers the header, the label's length, the label and the payload. Key id and length are used for
error messages only: they distinguish another key and a torn file from altered bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import struct
import tempfile
from pathlib import Path

from driftline.atomic_file import sync_folder
from driftline.streams.errors import Unauthentic, UnusableKey

KEY_BYTES = 32

_MAGIC = b"DRIFTSL\x01"
_HEADER = struct.Struct(">8s8sQ")
_MAC_BYTES = hashlib.sha256().digest_size
_OVERHEAD = _HEADER.size + _MAC_BYTES
_HEX_KEY = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")


class Seal:
    """Seals and opens payloads under one key of 32 bytes.

    A label says what the payload is for (case, partition, ...): a seal made under one is refused under
    another, so an authentic file cannot be put in another's place.
    """

    __slots__ = ("_key", "_key_id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UnusableKey(f"a sealing key has {KEY_BYTES} bytes, this one {len(key)}")
        self._key = key
        self._key_id = hmac.digest(key, b"driftline key id", "sha256")[:8]

    def seal(self, payload: bytes, label: bytes) -> bytes:
        """The payload behind its header and code; the payload is copied once."""
        header = _HEADER.pack(_MAGIC, self._key_id, len(payload))
        return b"".join((header, self._code(header, label, payload), payload))

    def open(self, sealed: bytes, label: bytes) -> bytes:
        """The payload; raises `Unauthentic` if it is torn, altered, or from another key or label."""
        if len(sealed) < _OVERHEAD:
            raise Unauthentic(f"torn: {len(sealed)} bytes, a seal alone has {_OVERHEAD}")
        view = memoryview(sealed)
        header, code, payload = view[: _HEADER.size], view[_HEADER.size : _OVERHEAD], view[_OVERHEAD:]
        magic, key_id, length = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise Unauthentic(f"not a seal of this version: it begins with {magic.hex()}, not {_MAGIC.hex()}")
        if not hmac.compare_digest(key_id, self._key_id):
            raise Unauthentic(f"sealed with another key ({key_id.hex()}; this one is {self._key_id.hex()})")
        if len(payload) != length:
            raise Unauthentic(f"torn: {len(payload)} bytes of payload, {length} were sealed")
        if not hmac.compare_digest(code, self._code(header, label, payload)):
            raise Unauthentic(f"altered, or sealed under another label than {label!r}")
        return bytes(payload)

    def _code(self, header: bytes | memoryview, label: bytes, payload: bytes | memoryview) -> bytes:
        code = hmac.new(self._key, header, "sha256")
        code.update(struct.pack(">Q", len(label)))
        code.update(label)
        code.update(payload)
        return code.digest()


def load_key(path: Path, environment: str | None) -> bytes:
    """The sealing key: from the environment's value in hex when set, else from the file, made when missing.

    Processes that start together agree: the file appears whole, by a hard link that only one can make.
    """
    if environment:
        return _from_hex(environment, "the environment's sealing key")
    if not path.exists():
        _create(path)
    return _read(path)


def _from_hex(text: str, where: str) -> bytes:
    if not _HEX_KEY.fullmatch(text.strip()):
        raise UnusableKey(f"{where} is not {2 * KEY_BYTES} hexadecimal digits ({KEY_BYTES} bytes)")
    return bytes.fromhex(text.strip())


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UnusableKey(
                f"{path} has mode {mode:04o}: others than its owner can reach the sealing key. "
                f"If nobody has, run: chmod 600 {path}; else remove the file and the checkpoints it sealed"
            )
        text = file.read()
    return _from_hex(text.decode("ascii", "replace"), str(path))


def _create(path: Path) -> None:
    """A new random key at `path`, durable and whole before it is visible; it never replaces another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # O_EXCL, mode 0600
    draft = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename it never replaces the key of a process that was faster
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(path.parent)
