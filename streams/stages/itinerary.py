"""Which stages an event visits, and in which partition of each."""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter

from driftline.features.declare.keys import key_text
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.events import Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.plan import Plan, Stage
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import Target

PLACES_REMEMBERED = 65_536
"""Keys of a stage whose partition is not computed again."""


class _Places:
    """The partitions of a stage: where events belong by its key."""

    def __init__(self, number: int, stage: Stage) -> None:
        self._number = number
        self._partitions = stage.partitions
        self._key_of = None if stage.key is None or stage.partitions == 1 else attrgetter(stage.key)
        self._first = Target(number, 0)
        self._known: dict[str, Target] = {}

    def of(self, event: Event) -> Target:
        """Where an event belongs; one partition takes all, and so does a stage without a key."""
        return self._first if self._key_of is None else self.by(key_text(self._key_of(event)))

    def by(self, text: str) -> Target:
        """Where the events of a key belong."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= PLACES_REMEMBERED:
                self._known.clear()
            found = self._known[text] = Target(self._number, partition_of(text.encode(), self._partitions))
        return found


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
        self._counts = [stage.partitions for stage in plan.stages]
        self._places = [_Places(number, stage) for number, stage in enumerate(plan.stages)]
        self._next = [self._next_of(stage) for stage in range(len(plan.stages))]

    def _next_of(self, stage: int) -> dict[type[Event], _Places]:
        """The next stage of each type of event behind a stage; none where its way ends."""
        behind = {kind: [stop for stop in stops if stop > stage] for kind, stops in self._stops.items()}
        return {kind: self._places[stops[0]] for kind, stops in behind.items() if stops}

    def entry(self, event: Event) -> tuple[bytes | None, int | None]:
        """The record key of an event in the log, and its partition there; None for every one."""
        field = self._entries.get(type(event))
        if field is None:
            return None, None
        text = key_text(getattr(event, field))
        return text.encode(), self._places[0].by(text).partition

    def next_stop(self, event: Event, stage: int) -> Target | None:
        """Where an event goes from a stage; None where its way ends."""
        places = self._next[stage].get(event.__class__)
        return None if places is None else places.of(event)

    def refusals_of(self, event: Event) -> Target:
        """Where an event that a stage refuses is reported: its own place in the last stage, or the first
        partition there if it has none."""
        if self.last in self._stops[type(event)]:
            return self._places[self.last].of(event)
        return Target(self.last, 0)

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
