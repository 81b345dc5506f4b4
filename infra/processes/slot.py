"""Slots: the workers of a case that share a home have slots 1, 2, ..., each for a process's lifetime.

A slot determines the names of its worker's status file and Kafka client. Who gets a slot knows that the
process before it has ended, so it can put that one out of the consumer group, where it would keep its
partitions until the session times out. A process that is stopped or slow still has its slot.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from driftline.infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker's. `client_id` is its name to Kafka, and that of every process in the slot before it;
    `is_new` says that there was none."""

    status_path: Path
    client_id: str
    is_new: bool


def status_path(settings: Settings, case: str, number: int = 1) -> Path:
    """Where the worker of a case in this slot writes its status."""
    suffix = "" if number == 1 else f"@{number}"  # no name of a case has it
    return settings.home / "status" / f"{settings.qualified(case)}{suffix}.json"


@contextmanager
def own_slot(settings: Settings, case: str) -> Iterator[Slot]:
    """The first slot that no running worker has."""
    for number in count(1):
        path = status_path(settings, case, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("a+") as lock:
            try:
                # released when the process ends, however. Not filelock: it is of the open file (flock), so a
                # forked writer of a checkpoint that outlives the process would keep the slot
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                continue
            lock.seek(0)
            known = lock.read()
            client_id = known or f"driftline-{secrets.token_hex(8)}"
            if not known:
                lock.write(client_id)
                lock.flush()
            yield Slot(path, client_id, is_new=not known)
            return


_FLOCK = "hhqqi0q"
"""C's struct flock on 64-bit Linux: type, whence, start, length, process."""


def is_taken(path: Path) -> bool:
    """Whether a process has the slot of this status file: here, in a container, or on another machine that
    shares the folder. A process number says none of that: in another container it is somebody else's.

    Not for a process that has a slot itself: asking would let go of it, and does not see it.
    """
    try:
        with path.with_suffix(".lock").open("rb") as lock:
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, question))
    except FileNotFoundError:
        return False
    return bool(answer[0] != fcntl.F_UNLCK)


def put_out(bootstrap: str, group: str, client_id: str) -> int:
    """Remove a client's members, whose processes have ended, from a consumer group; returns how many. Raises
    KafkaError, also if no group has ever had a member.
    """
    from kafka.admin import MemberToRemove

    from driftline.streams.connection import clients

    with closing(clients.admin(bootstrap)) as admin:
        ended = _members(admin, group, client_id)
        if ended:
            admin.remove_group_members(group, [MemberToRemove(member_id=member) for member in ended])
    return len(ended)


def is_member(bootstrap: str, group: str, client_id: str) -> bool:
    """Whether a client has a place in a consumer group; raises KafkaError."""
    from driftline.streams.connection import clients

    with closing(clients.admin(bootstrap)) as admin:
        return bool(_members(admin, group, client_id))


def _members(admin: Any, group: str, client_id: str) -> list[str]:
    from kafka.errors import GroupIdNotFoundError

    try:
        members = admin.describe_groups([group])[group]["members"]
    except GroupIdNotFoundError:
        return []
    return [member["member_id"] for member in members if member["client_id"] == client_id]
