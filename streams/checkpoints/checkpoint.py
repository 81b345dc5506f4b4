"""Checkpoints: the whole fold state of one partition at one offset, sealed.

A checkpoint is immutable and needs no coordination with the outputs: the worker that takes the partition
over loads any one of them and folds the log forward from there. It is unpickled only after its seal
and its header have been checked.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import msgspec

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.checkpoints.tails import OutputMark
from driftline.streams.errors import StreamsError, Unauthentic
from driftline.streams.records.ports import StoredRecord

KEEP = 3
"""Checkpoints of a partition that are kept."""
SUFFIX = ".checkpoint"
_LENGTH = 4


class CheckpointHeader(msgspec.Struct, frozen=True):
    """What a checkpoint belongs to, and what the broker must still hold for it to be used.

    `log` is the topic, `log_id` its id; `next_offset` the first offset not yet folded; `last_input` the hash
    of the record before it. `outputs` is by kind of output. `rows_in` is the incarnation of the online store
    that has the earlier rows. `segments` are the files beside it that the state refers to.
    """

    log: str
    log_id: str
    partition: int
    partitions: int
    next_offset: int
    last_input: str
    code: Code
    outputs: dict[str, OutputMark]
    rows_in: str = ""
    segments: tuple[str, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True):
    """Header and pickled fold state."""

    header: CheckpointHeader
    state: bytes


class CheckpointContent(NamedTuple):
    """The bytes of a checkpoint, and the segments that were written for it, a list for each table of windows;
    the name of one that could not be written is empty."""

    sealed: bytes
    packed: list[list[str]]


TakeState = Callable[[], Callable[[], CheckpointContent]]
"""Takes a state as it is now. What it returns makes the checkpoint of it, at any time and in any thread."""


class Written(NamedTuple):
    """What a checkpoint has cost: seconds of CPU, and its bytes; and the segments written for it, as in
    `CheckpointContent`."""

    seconds: float
    size: int
    packed: list[list[str]]


class Unfinished(Protocol):
    """A checkpoint that is being written, and is not visible yet."""

    async def finish(self) -> Written:
        """Make it visible, whole and durable; returns what that took. Raises OSError."""
        ...

    async def discard(self) -> None:
        """Give it up."""
        ...


class CheckpointStore(Protocol):
    """Where the checkpoints of a case are kept, a folder for each partition. Names sort by age within one."""

    async def names(self, folder: str) -> Sequence[str]:
        """Names of the checkpoints in a folder, in order."""
        ...

    async def load(self, name: str) -> bytes:
        """The bytes under a name; raises OSError."""
        ...

    def begin(self, name: str, take: TakeState) -> Unfinished:
        """Write the checkpoint of the state at this moment, even if the state changes later."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a checkpoint; one that is gone already is no error."""
        ...


def input_hash(record: StoredRecord) -> str:
    """sha256 of one record of the log: its offset, key and value."""
    digest = hashlib.sha256(b"%d:" % record.offset)
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()


def named(segments: Iterable[str], packed: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All segments that a checkpoint names: those from before it, and those written for it that are files."""
    return (*segments, *filter(None, chain.from_iterable(packed)))


def checkpoint_name(folder: str, header: CheckpointHeader) -> str:
    """A name that sorts by offset; it contains the code, so that checkpoints of several codes can be in one
    folder."""
    return f"{folder}/{header.next_offset:020d}-{header.code.short}{SUFFIX}"


def _label(log: str, partition: int) -> bytes:
    return f"checkpoint of {log}-{partition}".encode()


def encode(checkpoint: Checkpoint, seal: Seal) -> bytes:
    """The sealed bytes of a checkpoint."""
    header = msgspec.json.encode(checkpoint.header)
    state = zlib.compress(checkpoint.state, 1)
    payload = b"".join((len(header).to_bytes(_LENGTH, "big"), header, state))
    return seal.seal(payload, _label(checkpoint.header.log, checkpoint.header.partition))


def decode(content: bytes, log: str, partition: int, seal: Seal) -> Checkpoint:
    """The checkpoint in sealed bytes; raises Unauthentic for bytes that were not sealed for this partition
    with this key."""
    payload = memoryview(seal.open(content, _label(log, partition)))
    start = _LENGTH + int.from_bytes(payload[:_LENGTH], "big")
    header = msgspec.json.decode(payload[_LENGTH:start], type=CheckpointHeader)
    return Checkpoint(header, zlib.decompress(payload[start:]))


class CheckpointRefusal(StreamsError):
    """Why one checkpoint cannot be used. `broker_changed`: the file is sound, but does not belong to what the
    broker holds now."""

    def __init__(self, name: str, reason: str, *, broker_changed: bool = False) -> None:
        super().__init__(f"checkpoint {name}: {reason}")
        self.broker_changed = broker_changed


async def load(store: CheckpointStore, name: str, log: str, partition: int, seal: Seal) -> Checkpoint:
    """The checkpoint under a name; raises CheckpointRefusal if it is torn, altered or from elsewhere."""
    try:
        return decode(await store.load(name), log, partition, seal)
    except (Unauthentic, OSError) as error:
        raise CheckpointRefusal(name, str(error)) from error


async def prune(store: CheckpointStore, folder: str, code: Code, stored: str, keep: int = KEEP) -> None:
    """Remove all but `keep` of this code's checkpoints in a folder, the one just `stored` being the newest.
    Checkpoints beyond it, from a log that was truncated since, do not count."""
    own = [name for name in await store.names(folder) if name.endswith(f"-{code.short}{SUFFIX}")]
    for name in [name for name in own if name <= stored][:-keep]:
        await store.remove(name)
