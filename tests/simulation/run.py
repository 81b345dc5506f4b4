"""One simulated history, from a seed to its verdict."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from driftline.streams.archive.epochs import is_epoch
from driftline.streams.owner.partition_task import LOOK_EVERY
from tests.simulation.chaos import Chaos, Focus
from tests.simulation.invariants import (
    Reference,
    check_complete,
    check_nothing_wrong,
    check_owner,
    check_published,
    check_state,
    justified_refusal,
)
from tests.simulation.orders import CASES, OTHER_CODE, inputs
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.worker import Worker
from tests.simulation.world import Violation, World

HASHED = 0.25
"""The share of histories whose last state is hashed: that takes longer than all the rest."""
GOES_ON = 0.5
"""The share of histories in which a worker has to go on by itself after all faults."""
PATIENCE = 20_000
"""Steps after which something that should end is held to be stuck."""


@dataclass(slots=True)
class Verdict:
    """What became of one seed: `violation` says what did not hold, `refused` why a refusal was right."""

    seed: int
    violation: str | None = None
    refused: str | None = None
    steps: int = 0
    fences: int = 0
    records: int = 0
    trace: list[str] = field(default_factory=list)

    def violated_by(self, error: Exception) -> None:
        """What the code under test raises unexpectedly is a violation too, and said with its traceback."""
        said = f"{type(error).__name__}: {error}"
        self.violation = said if isinstance(error, Violation) else traceback.format_exc()


def quiet() -> None:
    """Do not tell of every failure that is made here."""
    logging.getLogger("driftline").setLevel(logging.CRITICAL)


def run(seed: int, focus: Focus | None = None, *, verbose: bool = False) -> Verdict:
    """Simulate one history, most of it one fault if there is a `focus`; what the code under test raises
    unexpectedly is a violation too."""
    verdict = Verdict(seed)
    random = Random(seed)
    loop = VirtualLoop(random)
    world = World(random, random.choice(CASES), loop, verdict.trace if verbose else None)
    try:
        with loop.running():
            _rage(world, focus)
            _settle(world, verdict)
    except Exception as error:
        verdict.violated_by(error)
    verdict.steps = loop.steps
    verdict.fences = sum(epoch + 1 for epoch in world.coordinators.values())
    verdict.records = world.log.end
    return verdict


def _rage(world: World, focus: Focus | None) -> None:
    loop = world.loop
    chaos = Chaos(world, inputs(world.random, world.random.randrange(25, 80)), focus)
    nature = Process("chaos")
    loop.spawn(nature, "producer", chaos.produce())
    loop.spawn(nature, "chaos", chaos.rage())
    _until(world, chaos.workers, lambda: chaos.done, "the faults")
    staying = chaos.staying() if world.happens(GOES_ON) else None
    for worker in chaos.workers:
        if worker is not staying:
            worker.revoke()
    if staying is not None:
        _until(world, chaos.workers, lambda: _has_ended(world, staying), "a worker that was left in peace")
        at = loop.time() + 3 * LOOK_EVERY
        _until(world, chaos.workers, lambda: loop.time() > at, "three looks")
        check_owner(world, staying)
    last = loop.steps + world.random.choice((0, 50, 400))
    _until(world, chaos.workers, lambda: loop.steps >= last, "a while")
    for worker in chaos.workers:
        worker.crash()
    _until(world, [], lambda: not world.under_way, "the requests on their way")


def _until(world: World, workers: Sequence[Worker], condition: Callable[[], bool], what: str) -> None:
    last = world.loop.steps + PATIENCE
    while not condition():
        if world.loop.steps > last:
            raise Violation(f"{what} did not end")
        world.loop.step()
        for worker in workers:
            worker.look()


def _has_ended(world: World, worker: Worker) -> bool:
    """Whether a worker has answered all of the log, or does not serve it any more. One that is stopped has
    not, whatever it had answered: it is to notice first what became of the partition meanwhile."""
    if not worker.busy:
        return True
    if worker.process.paused_until > world.loop.time():
        return False
    return worker.has_answered


def _settle(world: World, verdict: Verdict) -> None:
    world.note("verdict", f"done to the broker: {world.destroyed}")
    verdict.refused = justified_refusal(world)
    owner = Worker(world, Process("last owner"))
    if not _owns(world, owner):
        if verdict.refused is None:
            raise Violation("a refusal that nothing justifies")
        check_nothing_wrong(world)
        return
    verdict.refused = None
    reference = Reference(world)
    check_complete(world, reference)
    if world.happens(HASHED):
        check_state(reference, owner.processor)
    owner.crash()
    _take_over_again(world, reference)
    _refuse_a_stranger(world)


def _owns(world: World, owner: Worker) -> bool:
    """Whether a worker can take the partition over when nothing fails any more; it folds to the log's end,
    makes everything durable, and gives the partition back."""
    owner.assign()
    _until(world, [owner], lambda: _has_ended(world, owner), f"the take-over of the {owner.process.name}")
    if not owner.busy:
        return False
    owner.revoke()
    _until(world, [owner], lambda: not owner.busy, f"the end of the {owner.process.name}")
    rows = world.loop.spawn(owner.process, "rows at the end", owner.write_rows())
    _until(world, [owner], rows.done, "the writing of rows")
    return True


def _take_over_again(world: World, reference: Reference) -> None:
    """The checkpoint that the last owner left is a good one, and nothing is left to publish."""
    owner = Worker(world, Process("owner after the last"))
    if not _owns(world, owner):
        raise Violation("what was taken over once is refused")
    check_published(world, reference)
    owner.crash()


def _refuse_a_stranger(world: World) -> None:
    """Other code is recognised by the code epochs, before it has changed anything on the broker."""
    models = world.places[world.kinds["models"]]
    if not any(entry is not None and is_epoch(entry) for entry in models.entries[models.begin :]):
        return
    ends = [stored.end for stored in world.places.values()]
    stranger = Worker(world, Process("stranger"), OTHER_CODE)
    stranger.assign()
    _until(world, [], lambda: not stranger.busy, "the stranger")
    if stranger.task is None or not stranger.task.superseded:
        raise Violation("other code was not refused")
    if ends != [stored.end for stored in world.places.values()]:
        raise Violation("other code has left something on the broker")
