"""Which stages an event visits, and in which partition of each."""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter

from driftline.features.declare.keys import key_text
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.plan import Plan
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import Target

PLACES_REMEMBERED = 65_536
"""Keys whose partition is not computed again."""


class Itinerary:
    """The way of a case's events through the stages of its plan, which are numbered from the log on.

    The declaration was checked: each event knows the key of every stage that it visits.
    """

    def __init__(self, case: UseCase, plan: Plan) -> None:
        self.plan = plan
        self.last = len(plan.stages) - 1
        self.serving = plan.serving
        self.is_replicated = plan.is_replicated
        tags = {kind: str(kind.__struct_config__.tag) for kind in case.events}
        self._stops = {kind: plan.stops[tag] for kind, tag in tags.items()}
        self._entries = {kind: plan.entries[tag] for kind, tag in tags.items()}
        self._keys = [None if stage.key is None else attrgetter(stage.key) for stage in plan.stages]
        self._counts = [stage.partitions for stage in plan.stages]
        self._known: dict[tuple[int, str], Target] = {}
        self._only = [Target(stage, 0) for stage in range(len(plan.stages))]

    def entry(self, event: Event) -> tuple[bytes | None, int | None]:
        """The record key of an event in the log, and its partition there; None for every one."""
        field = self._entries.get(type(event))
        if field is None:
            return None, None
        text = key_text(getattr(event, field))
        return text.encode(), self._placed(0, text).partition

    def next_stop(self, event: Event, stage: int) -> Target | None:
        """Where an event goes from a stage; None where its way ends."""
        for stop in self._stops.get(type(event), ()):
            if stop > stage:
                return self.at(event, stop)
        return None

    def at(self, event: Event, stage: int) -> Target:
        """Where an event belongs in a stage."""
        key_of = self._keys[stage]
        if key_of is None or self._counts[stage] == 1:
            return self._only[stage]
        return self._placed(stage, key_text(key_of(event)))

    def refusals_of(self, event: Event) -> Target:
        """Where an event that a stage refuses is reported: its own place in the last stage, or the first
        partition there if it has none."""
        if self.last in self._stops[type(event)]:
            return self.at(event, self.last)
        return self._only[self.last]

    def _placed(self, stage: int, text: str) -> Target:
        found = self._known.get((stage, text))
        if found is None:
            if len(self._known) >= PLACES_REMEMBERED:
                self._known.clear()
            found = Target(stage, partition_of(text.encode(), self._counts[stage]))
            self._known[stage, text] = found
        return found

    def edges(self) -> set[tuple[int, int]]:
        """(stage, later stage) for all that write to one another; each writes the events that it refuses to
        the last."""
        found = {(stage, self.last) for stage in range(self.last)}
        for stops in self._stops.values():
            way = (0, *stops)
            found |= set(pairwise(way))
        return found

    def targets(self, stage: int) -> list[Target]:
        """Every partition that a stage writes to; those of the replicas are what their learner writes to."""
        behind = sorted(to for of, to in self.edges() if of == stage)
        if self.is_replicated and stage == self.last:
            behind = [self.serving]
        return [Target(to, partition) for to in behind for partition in range(self._counts[to])]

    def writers(self, stage: int) -> list[Writer]:
        """Every partition that writes to a stage on the way of events, so not what a learner publishes."""
        before = sorted(of for of, to in self.edges() if to == stage)
        return [Writer(of, partition) for of in before for partition in range(self._counts[of])]


def itinerary_of(case: UseCase) -> Itinerary | None:
    """The way of a case's events through its stages; None where one stage is all."""
    plan = case.plan
    return Itinerary(case, plan) if plan.is_chain else None
