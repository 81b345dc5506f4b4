"""The real adapters under faults: a sample of the lab; the whole matrix is for `make soak`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.courses import around, chains, moves, workers
from tests.faults.courses.register import FAULTS, Outcome
from tests.faults.lab.proxy import Proxy
from tests.faults.lab.run import Run
from tests.faults.lab.stack import Lab
from tests.faults.trial import Trial, trial
from tests.faults.verdict import judge

SAMPLE = 7_000
SAMPLE_OF_A_CHAIN = 1_500
SEEDS = range(5)
MANY = 200_000
LONG_CHAIN = 50_000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()


def assert_holds(found: Trial) -> None:
    assert not found.violations, "\n".join([found.command, *found.violations])


def test_nothing_is_lost_or_repeated_when_workers_die_and_a_zombie_wakes(lab: Lab) -> None:
    """Death between two topics of one frame, then at a random instant, then a zombie beside its heir."""

    def course(run: Run) -> Outcome:
        workers.dies_between(run, "within-send", 0.0, 0.2)
        worker = run.worker()
        run.feed_to(0.4)
        run.until_published(run.random.uniform(0.2, 0.35))
        run.feed_to(0.6)
        return workers.zombie_of(run, worker)

    assert_holds(trial(lab, "zombie", 1, SAMPLE, course=course))


@pytest.mark.soak
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_a_topic_recreated_is_refused(lab: Lab) -> None:
    def course(run: Run) -> Outcome:
        status = FAULTS["checkpoint-flipped"](run).status
        assert judge(run, status) == []
        moves.recreate(run, run.topics.outcomes)
        return moves.refusal(run, range(run.case.partitions), "recreated")

    assert_holds(trial(lab, "checkpoint-flipped", 1, SAMPLE, course=course))


def test_a_network_that_resets_everything_is_outlived_and_records_of_other_partitions_are_put_aside(
    lab: Lab,
) -> None:
    def course(run: Run) -> Outcome:
        around.misplaced(run, 20)
        return around.network(run, Proxy.reset, lasts=2.0)

    assert_holds(trial(lab, "network-reset", 1, SAMPLE, course=course))


@pytest.mark.soak
def test_what_stages_send_again_without_their_checkpoints_is_taken_once(lab: Lab) -> None:
    assert_holds(trial(lab, "chain-checkpoints-lost", 1, SAMPLE_OF_A_CHAIN))


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_ends_with_what_the_fold_gives(lab: Lab, name: str, seed: int) -> None:
    assert_holds(trial(lab, name, seed))


@pytest.mark.soak
def test_a_hundred_kills_over_a_long_run_lose_and_repeat_nothing(lab: Lab) -> None:
    assert_holds(trial(lab, "sigkill", 0, MANY, course=lambda run: workers.kills(run, 100)))


@pytest.mark.soak
def test_fifty_kills_of_the_workers_of_a_chain_lose_and_repeat_nothing(lab: Lab) -> None:
    assert_holds(trial(lab, "chain-sigkill", 0, LONG_CHAIN, course=lambda run: chains.kills(run, 50)))
