"""Exactly-once through everything that can fail, on the simulated world; and that it would be noticed."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from driftline.streams.checkpoints.segment_files import SEGMENTS, SegmentFolders
from driftline.streams.fold import intake
from driftline.streams.owner import send_queue
from driftline.streams.waiting import queue
from tests.simulation import run as simulated
from tests.simulation.__main__ import main
from tests.simulation.invariants import check_comparable_state
from tests.simulation.mutation import Change, Mutation, first_caught
from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import run
from tests.simulation.world import World

HISTORIES = (*range(120), 2732)
"""In the last one the worker that is left in peace was stopped just before, and others had the partition."""
WITHIN = range(250)
"""Histories within which each mutation must be noticed."""
RARE = {
    "a take-over refuses what a newer owner has left",
    "a task that does not end in time goes on",
    "a partition counts as idle though outputs are on their way",
}
"""Mutations that only a history far behind the first notices."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Every failure that is injected here is reported."""
    caplog.set_level(logging.CRITICAL, logger="driftline")


def test_through_every_fault_each_output_is_published_once_or_going_on_is_rightly_refused() -> None:
    verdicts = [run(seed) for seed in HISTORIES]
    assert [f"seed {v.seed}: {v.violation}" for v in verdicts if v.violation is not None] == []
    refused = sum(verdict.refused is not None for verdict in verdicts)
    assert 0 < refused < len(verdicts) / 2, "a simulation in which most goes wrong for good proves little"


@pytest.mark.parametrize("windows", [None, 0])
def test_what_waits_and_windows_may_be_on_disk_whatever_dies_when(
    windows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "segments", SegmentFolders(tmp_path, 0, windows))
    monkeypatch.setattr(queue, "UNPACKED", 0)
    monkeypatch.setattr(queue, "SEGMENT", 2)
    if windows is not None:
        monkeypatch.setattr(simulated, "check_state", check_comparable_state)
        monkeypatch.setattr(intake, "RETAIN_EVERY", 4)
    verdicts = [run(seed) for seed in HISTORIES[: 40 if windows is None else 20]]
    assert [f"seed {v.seed}: {v.violation}" for v in verdicts if v.violation is not None] == []
    assert sum(verdict.refused is not None for verdict in verdicts) < len(verdicts) / 2
    assert len(list(tmp_path.rglob(f"{SEGMENTS}/*"))) > 100


def test_a_seed_has_one_history() -> None:
    first, second = (run(7, verbose=True) for _ in range(2))
    assert first.trace == second.trace
    assert len(first.trace) > 20


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(mutation, id=mutation.name, marks=[pytest.mark.soak] if mutation.name in RARE else [])
        for mutation in MUTATIONS
    ],
)
def test_a_broken_order_of_effects_is_noticed(mutation: Mutation) -> None:
    caught = first_caught(mutation, WITHIN)
    assert caught is not None, f"not within {len(WITHIN)} histories"
    assert run(caught.seed, mutation.focus).violation is None, "it is the mutation that is noticed"


def test_a_change_that_names_what_is_not_there_is_an_error_and_not_noticed_as_one() -> None:
    change = Change(send_queue, "SendQueue._taken", "return taken", "return [_nowhere(taken)]")
    with pytest.raises(LookupError, match="_nowhere"), change.applied():
        pass


def test_a_violation_is_reported_with_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == "no fence")
    with mutation.change.applied():
        assert main(["--seeds", "0..5"]) == 1
    command = re.search(r"replay: python -m tests\.simulation --seed (\d) --verbose", capsys.readouterr().out)
    assert command is not None
    assert main(["--seed", command[1], "--verbose"]) == 0
    assert "is taking over" in capsys.readouterr().out


def test_histories_can_be_simulated_in_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0..4", "--processes", "2"]) == 0
    assert capsys.readouterr().out.startswith("4 seeds, 0 violations")
