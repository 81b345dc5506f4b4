"""What is outside of the code under test: a broker, a checkpoint store, an online store, all in memory.

Everything here outlives the processes, and everything here can fail. `World` is the truth that invariants
are checked against; a `Connection` is what one process has of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import KINDS, Output
from driftline.streams.records.ports import (
    AppendFailed,
    Fenced,
    Place,
)
from driftline.streams.records.positions import NOTHING, SourcePosition, headers_of, source_of
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.places import StagePlaces
from tests.simulation.orders import CODE
from tests.simulation.virtual_loop import Process, VirtualLoop

PARTITION = 0
SEAL = Seal(b"k" * KEY_BYTES)
SILENCE = 6.0
"""Seconds for which a process is cut off: longer than the end of a partition's task is waited for."""


class Violation(AssertionError):
    """An invariant does not hold."""


class BrokerAway(OSError):
    """The broker did not answer."""


class Stored(NamedTuple):
    """A record as the broker has it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int = -1


class StoredPlace:
    """One partition of a topic: entry n has offset n, None is a control marker.

    What retention deletes stays in `entries`, below `begin`: the invariants see it, readers do not.
    `epochs` are of the newest fence of each owner whose marker is here. `incarnation` changes when the place
    loses what brokers know of producers: whoever appended before is out of sequence then. `cuts` are (step,
    new end) of each truncation.
    """

    def __init__(self, topic_id: str) -> None:
        self.topic_id = topic_id
        self.begin = 0
        self.entries: list[Stored | None] = []
        self.epochs: dict[str, int] = {}
        self.incarnation = 0
        self.cuts: list[tuple[int, int]] = []

    @property
    def end(self) -> int:
        return len(self.entries)

    def data(self, begin: int = 0) -> Iterator[tuple[SourcePosition, Stored]]:
        """The records with a source position from offset `begin` on."""
        for entry in self.entries[begin:]:
            if entry is not None and (position := source_of(entry.headers)) is not None:
                yield position, entry

    def append(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> None:
        self.entries.append(Stored(self.end, key, value, tuple(headers)))

    def write(self, record: tuple[bytes | None, bytes | None] | None) -> None:
        """Append what no owner sends: key and value, or None for the marker of a transaction."""
        if record is None:
            self.entries.append(None)
        else:
            self.append(*record, ())

    def fence(self, owner: str, epoch: int) -> None:
        """From now on what an owner sends with an older epoch is refused; the marker takes one offset."""
        self.epochs[owner] = epoch
        self.entries.append(None)


class Chances(NamedTuple):
    """How probable each passing failure is, at each occasion."""

    refused: float = 0.0
    unacknowledged: float = 0.0
    timed_out: float = 0.0
    away: float = 0.0
    slow: float = 0.0
    disk_full: float = 0.0


CALM = Chances()


class Request:
    """Batches on their way to the broker, which gets them in pieces, whether or not the sender lives."""

    def __init__(
        self,
        sender: Process,
        owner: str,
        epoch: int,
        incarnations: Mapping[Place, int],
        batches: Mapping[Place, Sequence[Output]],
    ) -> None:
        self.sender = sender
        self.owner = owner
        self.epoch = epoch
        self.incarnations = incarnations
        self.batches = batches
        self.failed: dict[Place, AppendFailed] = {}
        self.ends: dict[Place, int] = {}
        self.lost = False
        self.answered = asyncio.Event()


class World:
    """The state of everything that outlives a process. Without an `itinerary` the case is one stage, of one
    partition."""

    segments: SegmentFolders | None = None
    """Where packed predictions are files; None where all are in memory."""

    def __init__(
        self,
        random: Random,
        case: UseCase,
        loop: VirtualLoop,
        trace: list[str] | None,
        itinerary: Itinerary | None = None,
    ) -> None:
        self.random = random
        self.case = case
        self.loop = loop
        self.trace = trace
        self.itinerary = itinerary
        partitions = case.partitions if itinerary is None else itinerary.plan.partitions
        self.topics = Topics(case.name, partitions)
        self.stages = StagePlaces(self.topics, CODE.short, itinerary)
        self.log_place = Place(self.topics.log, PARTITION)
        self.kinds = {kind: Place(getattr(self.topics, kind), PARTITION) for kind in KINDS}
        self.places = {
            place: StoredPlace(f"{place.topic}#0")
            for stage in range(self.stages.count)
            for target in self.stages.targets_of(stage)
            for place in (self.stages.input(target), *self.stages.outputs(target).values())
        }
        self.counts = Counter(place.topic for place in self.places)
        self.network = Process("network")
        self.under_way: list[Request] = []
        self.chances = CALM
        self.coordinators: dict[str, int] = {}
        """The newest epoch of each owner."""
        self.committed: Counter[Place] = Counter()
        self.checkpoints: dict[str, bytes] = {}
        self.newest_stored: dict[str, str] = {}
        """The name of the newest checkpoint that was stored whole, by folder, whatever became of it."""
        self.marked_at: dict[bytes, int] = {}
        """Step of the fence that the marks in the bytes of a checkpoint are not older than."""
        self.fenced_at: dict[Process, int] = {}
        self.online: dict[Any, Any] = {}
        self.online_losses = 0
        self.goes_forward = False
        """Whether readers are given records without delay, from where they were committed on, in order."""
        self.undisturbed = True
        """Whether nothing has happened for which records may have waited long."""
        self.destroyed: list[str] = []
        """What has been done to the broker that can justify a refusal."""
        self.log_truncated = False

    @property
    def log(self) -> StoredPlace:
        return self.places[self.log_place]

    def note(self, actor: str, text: str) -> None:
        """One line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.steps:6d} {self.loop.time():10.2f} {actor:>12}  {text}")

    def happens(self, chance: float) -> bool:
        return chance > 0.0 and self.random.random() < chance

    def store(self, name: str, content: bytes) -> None:
        """A whole checkpoint is stored under its name."""
        self.checkpoints[name] = content
        folder, _, _ = name.rpartition("/")
        self.newest_stored[folder] = max(name, self.newest_stored.get(folder, ""))

    def send(self, request: Request) -> None:
        """Give a request to the network."""
        sender = request.sender
        if sender.unheard_from_send:
            self.note(sender.name, "is not heard any more")
            sender.unheard_from_send = False
            sender.unheard_until = self.loop.time() + SILENCE
        self.under_way.append(request)
        self.loop.spawn(self.network, "request", self._deliver(request))

    def kill(self, process: Process) -> None:
        """End a process; what it was sending may still arrive."""
        self.loop.kill(process)
        for request in self.under_way:
            if request.sender is process:
                request.lost = self.happens(0.5)

    async def heard(self, process: Process) -> None:
        """Return when the network between a process and the broker works."""
        while (silence := process.unheard_until - self.loop.time()) > 0.0:
            await asyncio.sleep(silence)

    async def _deliver(self, request: Request) -> None:
        """Bring a request to the broker piece by piece; a piece that fails takes the rest of its place's
        with it, and no other place's."""
        for place, piece in self._pieces(request):
            await asyncio.sleep(0)
            await self.heard(request.sender)
            if request.lost:
                break
            if place not in request.failed:
                self._append(request, place, piece)
        self.under_way.remove(request)
        request.answered.set()

    def _pieces(self, request: Request) -> list[tuple[Place, Sequence[Output]]]:
        queues = {}
        for place, outputs in request.batches.items():
            cut = self.random.randrange(len(outputs) + 1) if self.random.random() < 0.5 else 0
            queues[place] = deque(piece for piece in (outputs[:cut], outputs[cut:]) if piece)
        order = []
        while queues:
            place = self.random.choice(tuple(queues))
            order.append((place, queues[place].popleft()))
            if not queues[place]:
                del queues[place]
        return order

    def _append(self, request: Request, place: Place, piece: Sequence[Output]) -> None:
        stored = self.places[place]
        fenced_by = stored.epochs.get(request.owner, -1)
        if fenced_by > request.epoch:
            request.failed[place] = Fenced(f"{place}: epoch {request.epoch} is fenced by {fenced_by}")
        elif stored.incarnation != request.incarnations[place]:
            request.failed[place] = AppendFailed(f"{place}: out of sequence")
        elif self.happens(self.chances.refused):
            request.failed[place] = AppendFailed(f"{place}: refused")
        if place in request.failed:
            self.note("broker", f"does not take from epoch {request.epoch}: {request.failed[place]}")
            return
        stored.epochs[request.owner] = request.epoch
        for output in piece:
            self._check_order(place, stored, output)
            stored.append(output.key, output.value, headers_of(output))
        request.ends[place] = stored.end
        self.note(
            "broker", f"{place} takes {[(o.offset, o.ordinal) for o in piece]} at epoch {request.epoch}"
        )

    def _check_order(self, place: Place, stored: StoredPlace, output: Output) -> None:
        if output.offset < 0:
            return
        last = next(
            (source_of(e.headers) for e in reversed(stored.entries) if e and source_of(e.headers)), None
        )
        if last is not None and (output.offset, output.ordinal) <= last:
            raise Violation(
                f"{place}: source position {(output.offset, output.ordinal)} is appended after {last}"
            )

    def furthest(self) -> SourcePosition:
        """The last source position in any output that readers can still see."""
        seen = [NOTHING]
        for place in self.kinds.values():
            stored = self.places[place]
            seen += [position for position, _ in stored.data(stored.begin)]
        return max(seen)


def newest_wins(online: dict[Any, Any], rows: Mapping[Any, Any]) -> None:
    """Write rows as the online store does: a newer stamp replaces an older one."""
    for key, row in rows.items():
        if key not in online or row[0] >= online[key][0]:
            online[key] = row
