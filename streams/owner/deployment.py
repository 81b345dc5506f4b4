"""One case as it is deployed: its code, and the broker, checkpoints and online store around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.checkpoint import CheckpointStore
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.code.fold_version import fold_version
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import Broker, Place


class RowWriter(Protocol):
    """Takes online feature rows; waits when it cannot keep up."""

    @property
    def incarnation(self) -> str:
        """Identifies the store between two losses of rows; "" while that is not known."""
        ...

    @property
    def first_incarnation(self) -> str:
        """What the store was when rows were first written to it; "" before."""
        ...

    async def offer(self, rows: Mapping[Any, Any]) -> None:
        """Take rows to write; raises FeaturesError when writing has failed for good."""
        ...

    def offered(self) -> int:
        """A ticket for everything offered so far."""
        ...

    async def written(self, ticket: int) -> None:
        """Return when everything up to the ticket is durable in the store."""
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that a partition of the case is owned with."""

    case: UseCase
    code: Code
    topics: Topics
    broker: Broker
    checkpoints: CheckpointStore
    seal: Seal
    rows: RowWriter | None = None

    def log(self, partition: int) -> Place:
        """The partition of the log."""
        return Place(self.topics.log, partition)

    def outputs(self, partition: int) -> dict[str, Place]:
        """The output partitions that mirror it, by kind."""
        return {kind: Place(getattr(self.topics, kind), partition) for kind in KINDS}

    @property
    def group(self) -> str:
        """The consumer group of the workers; other code has another one."""
        return f"{self.topics.log}.worker.{self.code.short}"

    def owner(self, partition: int) -> str:
        """The name under which owners of the partition fence each other."""
        return f"driftline.{self.topics.log}.{partition}"


def code_of(case: UseCase) -> Code:
    """The code of a case on this machine."""
    return Code(case.spec_hash, numeric_fingerprint(), fold_version())
