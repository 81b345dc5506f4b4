"""A chain whose records reach their stages in any order of the writers, once or several times."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import msgspec

from driftline.streams.between.stage_record import Accepted
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.stage_fold import StageFold


class Way(NamedTuple):
    """From an instance of a writer to a target."""

    writer: Target
    instance: int
    target: Target


def fold_place(fold: StageFold) -> Target:
    """Where a fold is at home."""
    return Target(fold.number, fold.partition)


class Published(NamedTuple):
    """What a chain has put out: `letters` by the number of their stage."""

    predictions: list[Prediction]
    outcomes: list[Outcome]
    letters: dict[int, list[Output]]


class Delivery:
    """The stages of a chain, between which a record waits until it is appended.

    Each writer's records to a target stay in order. Partitions crash: one goes back to its last checkpoint,
    folds again from there and sends again what it has sent. What was on its way is lost, or is appended some
    time later by the instance that was thought dead. A `careful` writer checkpoints only when all that it
    sent is appended.
    """

    def __init__(self, chain: Chain, seed: int, *, careful: bool = True) -> None:
        self._careful = careful
        self._instances = dict.fromkeys((fold_place(f) for stage in chain.stages for f in stage), 0)
        self._stages = chain.stages
        self._random = Random(seed)
        self._topics: dict[Target, list[Accepted]] = {
            fold_place(fold): [] for stage in chain.stages for fold in stage
        }
        self._read = dict.fromkeys(self._topics, 0)
        self._on_the_way: dict[Way, deque[bytes]] = {}
        self._snapshots = {place: self._fold(place).snapshot() for place in self._topics}
        self.outputs: dict[tuple[Target, str, int, int], Output] = {}
        self.torn: list[tuple[Target, str, int, int]] = []
        """Positions of outputs that were put out again with other bytes."""

    def _fold(self, place: Target) -> StageFold:
        return self._stages[place.stage][place.partition]

    def write(self, partition: int, key: bytes | None, value: bytes) -> None:
        """Append a record to the log."""
        self._append(Target(0, partition), value, key)

    def _append(self, place: Target, value: bytes, key: bytes | None = None) -> None:
        topic = self._topics[place]
        topic.append(Accepted(len(topic), key, value))

    def topic(self, place: Target) -> Sequence[Accepted]:
        """What was appended to the topic of a stage, in its order."""
        return self._topics[place]

    def run(self, crashes: int = 0) -> None:
        """Until nothing is left to be appended or folded."""
        while moves := self._moves():
            if crashes and self._random.random() < 0.01:
                self._crash(self._random.choice(list(self._topics)))
                crashes -= 1
                continue
            move = self._random.choice(moves)
            if isinstance(move, Target):
                self._advance(move)
            else:
                waiting = self._on_the_way[move]
                for _ in range(self._random.randint(1, len(waiting))):
                    self._append(move.target, waiting.popleft())

    def _moves(self) -> list[Target | Way]:
        behind = [place for place, topic in self._topics.items() if self._read[place] < len(topic)]
        return [*behind, *(way for way, waiting in self._on_the_way.items() if waiting)]

    def _advance(self, place: Target) -> None:
        first, topic = self._read[place], self._topics[place]
        end = self._random.randint(first + 1, min(len(topic), first + 50))
        step = self._fold(place).step(topic[first:end])
        self._read[place] = end
        self._note(place, step)
        for target, value in step.sends:
            way = Way(place, self._instances[place], target)
            self._on_the_way.setdefault(way, deque()).append(value)
        if self._random.random() < 0.1 and not (self._careful and self._sends_of(place)):
            self._snapshots[place] = self._fold(place).snapshot()

    def _sends_of(self, place: Target) -> list[deque[bytes]]:
        """What a partition has sent that is not appended yet."""
        here = self._instances[place]
        ways = self._on_the_way.items()
        return [w for way, w in ways if w and way.writer == place and way.instance == here]

    def _crash(self, place: Target) -> None:
        if self._random.random() < 0.5:
            for waiting in self._sends_of(place):
                waiting.clear()
        self._instances[place] += 1
        fold = self._fold(place)
        fold.restore(pickle.loads(self._snapshots[place]))
        self._read[place] = fold.next_offset

    def _note(self, place: Target, outputs: Outputs) -> None:
        for kind in ("predictions", "outcomes", "drift", "models", "dead_letters"):
            for output in getattr(outputs, kind):
                position = place, kind, output.offset, output.ordinal
                known = self.outputs.setdefault(position, output)
                if known != output:
                    self.torn.append(position)

    def published(self) -> Published:
        """All outputs, each position once, in the order of positions."""
        of = {
            kind: [output for (_, what, *_), output in sorted(self.outputs.items()) if what == kind]
            for kind in ("predictions", "outcomes")
        }
        letters: dict[int, list[Output]] = {}
        for (place, kind, *_), output in sorted(self.outputs.items()):
            if kind == "dead_letters":
                letters.setdefault(place.stage, []).append(output)
        return Published(
            [msgspec.json.decode(o.value, type=Prediction) for o in of["predictions"]],
            [msgspec.json.decode(o.value, type=Outcome) for o in of["outcomes"]],
            letters,
        )


def labels_of(outcomes: Iterable[Outcome]) -> dict[str, tuple[str, object]]:
    """How each request ended: status and label of its newest outcome."""
    return {one.event_id: (one.status, one.label) for one in sorted(outcomes, key=lambda o: o.revision)}
