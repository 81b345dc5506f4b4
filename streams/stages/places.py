"""Where the stages of a case read and write: the places of one code on the broker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from driftline.streams.declare.topics import Topics
from driftline.streams.records.outputs import KINDS, Target
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import POSITIONS_OF_AN_EPOCH
from driftline.streams.stages.itinerary import Itinerary


@dataclass(frozen=True, slots=True)
class StagePlaces:
    """The places of a case's stages. Without an `itinerary` the case is one stage, whose topic is the log.

    `code` is the short hash of the code, and `number` that of its epoch: records between stages belong to one
    epoch only. A target is any partition of a stage, also of the first one, to which nothing is sent.
    """

    topics: Topics
    code: str
    itinerary: Itinerary | None = None
    number: int = 0

    @property
    def label(self) -> str:
        """What the names of topics between stages end with: the code, and the number of its epoch behind the
        first."""
        return of_epoch(self.code, self.number)

    @property
    def first_position(self) -> int:
        """The source position of offset 0 of every topic behind the log."""
        return self.first_position_of(self.number)

    @staticmethod
    def first_position_of(number: int) -> int:
        """That of the epoch with this number."""
        return number * POSITIONS_OF_AN_EPOCH

    @property
    def count(self) -> int:
        """How many stages the case has."""
        return 1 if self.itinerary is None else len(self.itinerary.plan.stages)

    @property
    def serving(self) -> int:
        """The number of the stage that answers."""
        return 0 if self.itinerary is None else self.itinerary.plan.serving

    def partitions(self, stage: int) -> int:
        """How many partitions a stage has."""
        if self.itinerary is None:
            return self.topics.partitions
        return self.itinerary.plan.stages[stage].partitions

    def targets_of(self, stage: int) -> list[Target]:
        """All partitions of a stage."""
        return [Target(stage, partition) for partition in range(self.partitions(stage))]

    def kind(self, stage: int) -> str:
        """The kind of the topic that a stage folds."""
        return "events" if self.itinerary is None else self.itinerary.plan.stages[stage].topic

    def input(self, target: Target) -> Place:
        """The input of a partition of a stage: the log for the first."""
        return Place(self.topics.of_stage(self.kind(target.stage), self.label), target.partition)

    def epochs_in(self, topics: Sequence[str]) -> list[int]:
        """The numbers of this code's epochs of which there are topics between stages among these."""
        first = {self.topics.of_stage(self.kind(stage), self.code) for stage in range(1, self.count)}
        return sorted(set().union(*(epochs_of(name, topics) for name in first)))

    def sent_to(self, stage: int) -> list[Place]:
        """All that a stage sends to."""
        return [] if self.itinerary is None else [self.input(to) for to in self.itinerary.targets(stage)]

    def written_alone(self, owned: Collection[Target]) -> set[Place]:
        """The inputs of those of these targets that are written by these alone."""
        if self.itinerary is None:
            return set()
        of_others = {
            to
            for stage in range(self.count)
            if not all(target in owned for target in self.targets_of(stage))
            for to in self.itinerary.targets(stage)
        }
        return {self.input(target) for target in owned if target.stage and target not in of_others}

    def outputs(self, target: Target) -> dict[str, Place]:
        """What a partition of a stage alone writes for users, by kind. Of dead letters there is a partition
        for each one of each stage, one stage after the other."""
        stage, partition = target
        kinds = self._kinds(stage)
        before = sum(map(self.partitions, range(stage)))
        return {
            kind: Place(getattr(self.topics, kind), partition + (before if kind == "dead_letters" else 0))
            for kind in kinds
        }

    def _kinds(self, stage: int) -> Sequence[str]:
        """What a stage puts out: the one that answers predictions, the last one all that follows from
        labels; they are one where no replicas answer."""
        return [
            kind
            for kind in KINDS
            if kind == "dead_letters" or stage == (self.serving if kind == "predictions" else self.count - 1)
        ]

    def name(self, target: Target) -> str:
        """A partition's name in messages: its number, preceded by the stage in later stages."""
        return f"{self.kind(target.stage)}/{target.partition}" if target.stage else str(target.partition)

    def folder(self, target: Target) -> str:
        """Where the checkpoints of a partition are: of every epoch in a folder of its own."""
        stage = f"{self.kind(target.stage)}-" if target.stage else ""
        return f"{stage}{target.partition:05d}" + (f"-{self.number}" if self.number else "")


def of_epoch(first: str, number: int) -> str:
    """What the first epoch of some code names `first`, of that code's epoch with this number."""
    return f"{first}-{number}" if number else first


def epochs_of(first: str, topics: Collection[str]) -> set[int]:
    """The numbers of the epochs that have a topic among these, which the first epoch names `first`.

    >>> sorted(epochs_of("by-card.0a1b", ["by-card.0a1b", "by-card.0a1b-2", "by-card.0a1b-x"]))
    [0, 2]
    """
    later = (topic.rpartition("-") for topic in topics)
    numbers = {int(number) for name, _, number in later if name == first and number.isdecimal()}
    return numbers | ({0} if first in topics else set())
