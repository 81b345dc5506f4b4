"""One simulated history, from a seed to its verdict."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from driftline.streams.archive.epochs import is_epoch
from driftline.streams.owner.takeover import OtherCode
from tests.simulation.chaos import Chaos, Focus
from tests.simulation.invariants import (
    Reference,
    check_complete,
    check_nothing_wrong,
    check_published,
    check_state,
    justified_refusal,
)
from tests.simulation.orders import CASES, OTHER_CODE, inputs
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.worker import LastOwner, Stranger
from tests.simulation.world import Violation, World

HASHED = 0.25
"""The share of histories whose last state is hashed: that takes longer than all the rest."""
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


def quiet() -> None:
    """Do not warn of every checkpoint that is corrupt."""
    logging.getLogger("driftline").setLevel(logging.ERROR)


def run(seed: int, focus: Focus | None = None, *, verbose: bool = False) -> Verdict:
    """Simulate one history, most of it one fault if there is a `focus`; what the code under test raises
    unexpectedly is a violation too."""
    verdict = Verdict(seed)
    random = Random(seed)
    scheduler = Scheduler(random)
    world = World(random, random.choice(CASES), scheduler, verdict.trace if verbose else None)
    try:
        _rage(world, focus)
        _settle(world, verdict)
    except Exception as error:
        verdict.violation = f"{type(error).__name__}: {error}"
        if not isinstance(error, Violation):
            verdict.violation = traceback.format_exc()
    finally:
        scheduler.close()
    verdict.steps = scheduler.steps
    verdict.fences = world.coordinator + 1
    verdict.records = world.log.end
    return verdict


def _rage(world: World, focus: Focus | None) -> None:
    scheduler = world.scheduler
    chaos = Chaos(world, inputs(world.random, world.random.randrange(25, 80)), focus)
    nature = Process("chaos")
    scheduler.spawn(nature, "producer", chaos.produce())
    scheduler.spawn(nature, "chaos", chaos.rage())
    _until(scheduler, lambda: chaos.done, "the faults")
    for worker in chaos.workers:
        worker.revoke()
    for _ in range(world.random.choice((0, 50, 400))):
        scheduler.step()
    for worker in chaos.workers:
        worker.crash()
    _until(scheduler, lambda: not scheduler.tasks, "the requests on their way")


def _until(scheduler: Scheduler, condition: Callable[[], bool], what: str) -> None:
    last = scheduler.steps + PATIENCE
    while not condition():
        if scheduler.steps > last:
            raise Violation(f"{what} did not end")
        scheduler.step()


def _settle(world: World, verdict: Verdict) -> None:
    scheduler = world.scheduler
    world.note("verdict", f"done to the broker: {world.destroyed}")
    verdict.refused = justified_refusal(world)
    owner = LastOwner(world)
    _until(scheduler, lambda: owner.task.done, "the last take-over")
    if owner.owned is None:
        if verdict.refused is None:
            raise Violation(f"a refusal that nothing justifies: {owner.error}")
        check_nothing_wrong(world)
        return
    verdict.refused = None
    reference = Reference(world)
    check_complete(world, reference)
    if world.happens(HASHED):
        check_state(reference, owner.owned.processor)
    owner.end()
    _take_over_again(world, reference)
    _refuse_a_stranger(world)


def _take_over_again(world: World, reference: Reference) -> None:
    """The checkpoint that the last owner left is a good one, and nothing is left to publish."""
    owner = LastOwner(world)
    _until(world.scheduler, lambda: owner.task.done, "the take-over after the last")
    if owner.owned is None:
        raise Violation(f"what was taken over once is refused: {owner.error}")
    check_published(world, reference)
    owner.end()


def _refuse_a_stranger(world: World) -> None:
    """Other code is told apart by the code epochs, before it has done anything to the broker."""
    models = world.places[world.kinds["models"]]
    if not any(entry is not None and is_epoch(entry) for entry in models.entries[models.begin :]):
        return
    ends = [stored.end for stored in world.places.values()]
    stranger = Stranger(world, OTHER_CODE)
    _until(world.scheduler, lambda: stranger.task.done, "the stranger")
    if not isinstance(stranger.error, OtherCode):
        raise Violation(f"other code was not refused: {stranger.error}")
    if ends != [stored.end for stored in world.places.values()]:
        raise Violation("other code has left something on the broker")
