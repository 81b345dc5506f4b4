"""How long the lab waits."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from tests.faults.lab import stack
from tests.faults.lab.stack import LabError, until


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only sleeping moves, by a second each."""
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(stack, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def test_what_gets_further_is_waited_for(seconds: list[float]) -> None:
    steps = count()
    assert until(lambda: next(steps) >= 50, "it ends", within=5.0, progress=lambda: seconds[0] // 4)


def test_what_stands_still_is_given_up(seconds: list[float]) -> None:
    with pytest.raises(LabError, match="not within 5 s: it ends"):
        until(lambda: False, "it ends", within=5.0, progress=lambda: min(seconds[0], 20.0))
    assert seconds[0] == 25.0
