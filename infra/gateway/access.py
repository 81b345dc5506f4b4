"""Access keys and their scopes. The file of keys holds only hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec
from starlette.requests import Request

from driftline.atomic_file import replacing
from driftline.infra.errors import InfraError
from driftline.infra.gateway.problems import Problem, no_key, no_scope

Scope = Literal["produce", "read", "read:values", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""produce: send events and get their predictions; read: figures about models; read:values: records of single
events, and features; operate: relay commands, each signed by its operator."""
Allow = Callable[[Request, Scope], None]
"""Checks that the request's key has the scope. Raises Problem 401 or 403."""
_PREFIX = "dlk_"


class AccessKey(msgspec.Struct, frozen=True):
    """One key: its name, its SHA-256, and its scopes."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...]


class _KeyFile(msgspec.Struct):
    keys: list[AccessKey] = []


class AccessKeys:
    """The keys of a gateway, in a JSON file of their hashes. The file is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int] | None = None
        self._by_hash: dict[str, AccessKey] = {}

    def add(self, name: str, scopes: Sequence[str]) -> str:
        """Make a key and store its hash. Returns the key, which cannot be shown again.

        Raises InfraError when the name is taken or a scope is unknown.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            problem = f"unknown scope {unknown}" if unknown else "a key needs a scope"
            raise InfraError(f"{problem}: choose from {', '.join(SCOPES)}")
        keys = self._load()
        if any(key.name == name for key in keys.keys):
            raise InfraError(f"{self.path} has a key {name!r}: remove it there, or choose another name")
        secret = _PREFIX + secrets.token_urlsafe(32)
        keys.keys.append(AccessKey(name, _hash(secret), tuple(scope for scope in SCOPES if scope in scopes)))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)))
        self.path.chmod(0o600)
        return secret

    def allow(self, authorization: str | None, scope: Scope) -> AccessKey:
        """The key in an Authorization header. Raises Problem 401 without a key, and 403 for a key that is
        unknown or lacks the scope."""
        kind, _, secret = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise no_key()
        key = self._known().get(_hash(secret.strip()))
        if key is None:
            raise Problem(403, "Unknown key", "this gateway does not know the key")
        if scope not in key.scopes:
            raise no_scope(key.name, scope)
        return key

    def _known(self) -> dict[str, AccessKey]:
        try:
            status = os.stat(self.path)
            mark = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            mark = (-1, -1)
        if mark != self._read_at:
            self._by_hash = {key.sha256: key for key in self._load().keys}
            self._read_at = mark
        return self._by_hash

    def _load(self) -> _KeyFile:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_KeyFile)
        except FileNotFoundError:
            return _KeyFile()
        except (OSError, msgspec.MsgspecError) as error:
            raise InfraError(f"the keys in {self.path} cannot be read: {error}") from error


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
