"""A chain through everything that can fail and be mended; and that it would be noticed."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.chains.mutations import FOCUSES, MUTATIONS, first_caught
from tests.simulation.chains.run import run

HISTORIES = range(15)
WITHIN = range(60)
"""Histories within which each mutation must be noticed."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Every failure that is injected here is reported."""
    caplog.set_level(logging.CRITICAL, logger="driftline")


def test_through_every_fault_nothing_is_lost_between_stages_and_nothing_comes_twice() -> None:
    verdicts = [run(seed) for seed in HISTORIES]
    assert [f"seed {v.seed}: {v.violation}" for v in verdicts if v.violation is not None] == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_order_of_effects_between_stages_is_noticed(name: str) -> None:
    caught = first_caught(name, WITHIN)
    assert caught is not None, f"not within {len(WITHIN)} histories"
    assert run(caught.seed, FOCUSES.get(name)).violation is None, "it is the mutation that is noticed"
