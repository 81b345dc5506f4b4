"""One simulated history of a chain, from a seed to its verdict."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from unittest.mock import patch

from driftline.streams.between import sender
from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.plan import plan_of
from driftline.streams.stages.itinerary import Itinerary
from tests.simulation.chains.deliveries import History, deliveries, history, replicated
from tests.simulation.chains.group import Focus, Group, Machine
from tests.simulation.chains.invariants import (
    Reference,
    check_fates,
    check_pools,
    check_published,
    check_sent,
)
from tests.simulation.run import HASHED, Verdict
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.world import Violation, World

LOOKED_AT_EVERY = 10
"""Steps between two looks at the states of the partitions."""
LONGEST_PART = 600
"""Bytes of a part of a pool here: small ones come in several parts too."""
PATIENCE = 60_000
"""Steps after which something that should end is held to be stuck."""


def run(seed: int, focus: Focus | None = None, *, verbose: bool = False) -> Verdict:
    """Simulate one history, most of it one fault if there is a `focus`; what the code under test raises
    unexpectedly is a violation too."""
    verdict = Verdict(seed)
    random = Random(seed)
    loop = VirtualLoop(random)
    partitions = random.choice((2, 2, 3))
    case = replicated if seed % 3 == 2 else deliveries
    itinerary = Itinerary(case, plan_of(case, partitions))
    world = World(random, case, loop, verdict.trace if verbose else None, itinerary)
    truth = history(random, random.randrange(10, 30), partitions)
    try:
        with patch.object(sender, "LONGEST_PART", LONGEST_PART), loop.running():
            _rage(world, truth, focus)
            _settle(world, truth)
    except Exception as error:
        verdict.violated_by(error)
    verdict.steps = loop.steps
    verdict.fences = sum(epoch + 1 for epoch in world.coordinators.values())
    verdict.records = sum(place.end for place in world.places.values())
    return verdict


def _rage(world: World, truth: History, focus: Focus | None) -> None:
    group = Group(world, truth.inputs, focus)
    nature = Process("group")
    world.loop.spawn(nature, "producer", group.produce())
    world.loop.spawn(nature, "faults", group.rage())
    _until(world, group, lambda: group.done, "the faults")
    last = world.loop.steps + world.random.choice((0, 100, 1000))
    _until(world, group, lambda: world.loop.steps >= last, "a while")
    for machine in group.machines:
        machine.crash()
    _until(world, None, lambda: not world.under_way, "the requests on their way")


def _until(world: World, group: Group | None, condition: Callable[[], bool], what: str) -> None:
    last = world.loop.steps + PATIENCE
    while not condition():
        if world.loop.steps > last:
            raise Violation(f"{what} did not end")
        world.loop.step()
        if group is not None and world.loop.steps % LOOKED_AT_EVERY == 0:
            for worker in group.workers():
                worker.look()


def _settle(world: World, truth: History) -> None:
    """When nothing fails any more, one machine goes on with everything, and comes to its end."""
    world.goes_forward = True  # else a long topic takes a reader as long as if its connection were lost
    group = Group(world, [])
    machine = Machine(world, "last machine")
    group.machines = [machine]
    for target in group.targets:
        machine.worker(target).assign()

    def is_answered() -> bool:
        refused = [worker.refusal for worker in machine.workers.values() if worker.refusal]
        if refused:
            raise Violation(f"a partition is refused at the end: {refused[0]}")
        return all(machine.worker(target).has_answered for target in group.targets)

    _until(world, group, is_answered, "the last machine's work")
    for worker in machine.workers.values():
        worker.revoke()
    _until(world, group, lambda: not machine.busy, "giving all back")
    rows = [
        world.loop.spawn(machine.process, "rows", worker.write_rows()) for worker in machine.workers.values()
    ]
    _until(world, group, lambda: all(row.done() for row in rows), "the writing of rows")
    reference = Reference(world, group.targets)
    check_sent(world, reference)
    check_published(world, reference)
    check_fates(world, truth, reference)
    check_pools(world)
    if world.happens(HASHED):
        _check_states(machine, reference)


def _check_states(machine: Machine, reference: Reference) -> None:
    for target, fold in reference.folds.items():
        if state_hash(machine.worker(target).processor.state()) != state_hash(fold.state()):
            raise Violation(f"the last owner of {target} is not in the state of a run without faults")
