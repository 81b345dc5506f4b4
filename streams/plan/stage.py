"""What a plan consists of: stages one behind the other, each a fold over a log of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One fold over a topic that is partitioned by `key`; None where one partition holds everything.

    `topic` is the kind of the topic, as "events" or "by-merchant"; `computes` is what the fold does there,
    and `features` are the names of those that are read there.
    """

    topic: str
    key: str | None
    partitions: int
    computes: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a case, in the order in which a request goes through them.

    `entries` are the fields that decide the partition of the log where an event begins, by the event's tag;
    None stands for every partition. `label_hops` are the topics that a label is written to.
    """

    case: str
    partitions: int
    stages: tuple[Stage, ...]
    entries: Mapping[str, str | None]
    label_hops: int

    @property
    def request_hops(self) -> int:
        """Topics that a request is written to before it is answered: the log, and one for each stage more."""
        return len(self.stages)

    @property
    def is_runnable(self) -> bool:
        """Whether workers can run it: they run one stage; several can be simulated."""
        return len(self.stages) == 1

    @property
    def verdict(self) -> str:
        """Whether it can be run, and what can be instead."""
        if self.is_runnable:
            return "this plan needs one stage, and runs"
        return (
            f"this plan needs {len(self.stages)} stages, which can be simulated (driftline simulate CASE "
            f"--partitions {self.partitions}); a worker runs one: partitions=1 works, where "
            "all of them are one"
        )
