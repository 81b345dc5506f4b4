"""Stacked combinations: better than every member where they know different things, and seats like others."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import LABEL, TASK, Ask, Reads

from driftline.online_models.combine.combination import Combination
from driftline.online_models.combine.stacking import Stack
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.tasks.task import Multiclass, Regression
from driftline.streams.code.state_hash import state_hash

CLASSES = Multiclass("m", ask=Ask, label=LABEL)
NUMBERS = Regression("r", ask=Ask, label=LABEL)


def reads(name: str) -> Member:
    return Member(name, lambda: Reads(name))


def pool(task: Any, share: float = 0.0002) -> Pool:
    both = Combination("both", kind="stack", share=share)
    return Pool(task, PerKey(both, [reads("a"), reads("b")], monitoring=None), "k", 0)


def run(where: Pool, examples: Iterator[tuple[dict[str, Any], Any]]) -> None:
    for offset, (x, y) in enumerate(examples):
        where.learn(x, y, where.predict(x)[0], float(offset), offset, str(offset))


def halves(n: int, classes: bool, seed: int = 5) -> Iterator[tuple[dict[str, Any], Any]]:
    """Two independent pieces of evidence: each member knows one of them."""
    rng = random.Random(seed)
    for _ in range(n):
        y = rng.random() < 0.5
        odds = [math.exp(rng.gauss(1.0 if y else -1.0, math.sqrt(2.0))) for _ in range(2)]
        a, b = (odd / (1.0 + odd) for odd in odds)
        if classes:
            yield {"a": {"yes": a, "no": 1 - a}, "b": {"yes": b, "no": 1 - b}}, "yes" if y else "no"
        else:
            yield {"a": a, "b": b}, y


@pytest.mark.parametrize(("task", "classes"), [(TASK, False), (CLASSES, True)])
def test_it_is_better_than_every_member_where_each_knows_a_part(task: Any, classes: bool) -> None:
    where = pool(task)
    run(where, halves(4_000, classes))
    report = merged_report([where])
    best = max(report["a"]["accuracy"], report["b"]["accuracy"])
    assert report["both"]["accuracy"] > best + 0.03
    assert report["both"]["log_loss"] < min(report["a"]["log_loss"], report["b"]["log_loss"])


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_numbers_are_mixed_beyond_their_mean_in_any_unit(unit: float) -> None:
    def measured() -> Iterator[tuple[dict[str, float], float]]:
        rng = random.Random(3)
        for _ in range(3_000):
            y, common = rng.gauss(0, 1), rng.gauss(0, 1)
            yield {"a": unit * (y + common), "b": unit * (y + 2 * common)}, unit * y  # 2a - b is exact

    where = pool(NUMBERS)
    run(where, measured())
    report = merged_report([where])
    assert report["both"]["fading"]["rmse"] < 0.5 * report["a"]["fading"]["rmse"]


def test_a_member_that_is_right_but_too_sure_is_not_left_for_one_that_is_wrong_but_cautious() -> None:
    def examples() -> Iterator[tuple[dict[str, float], bool]]:
        rng = random.Random(4)
        for _ in range(3_000):
            y, is_right = rng.random() < 0.5, rng.random() < 0.9
            yield (
                {
                    "a": 1e-9 if y != is_right else 1 - 1e-9,
                    "b": 0.5 + (0.02 if rng.random() < 0.6 else -0.02),
                },
                y,
            )

    where = pool(TASK)
    run(where, examples())
    report = merged_report([where])
    assert report["a"]["log_loss"] > report["b"]["log_loss"]
    assert report["both"]["accuracy"] > report["a"]["accuracy"] - 0.005


outputs = st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), min_size=3, max_size=3)


@given(st.lists(st.tuples(st.booleans(), outputs), max_size=40))
def test_answers_are_probabilities_whoever_answers(drawn: list[tuple[bool, list[float | None]]]) -> None:
    stack = Stack(3, 0.01, None, "binary")
    for y, said in drawn:
        p = stack.combined(said)
        assert p is None if said == [None] * 3 else 0.0 <= p <= 1.0
        stack.learn(y, said)
        assert math.isclose(sum(stack.weights), 1.0)


def test_a_label_no_member_has_seen_is_taken_in() -> None:
    stack = Stack(2, 0.01, None, "multiclass")
    assert stack.combined([{}, {}]) == {}
    stack.learn("new", [{}, {}])
    stack.learn("new", [{"old": 1.0}, {}])
    assert math.isclose(sum(stack.combined([{"old": 0.4, "new": 0.6}, {"new": 1.0}]).values()), 1.0)


def test_it_goes_on_the_same_after_a_pickle() -> None:
    where, again = pool(TASK), pool(TASK)
    run(where, halves(300, False))
    again.restore(pickle.loads(pickle.dumps(where.state(), protocol=5)))
    assert state_hash(where.state()) == state_hash(again.state())
    run(where, halves(300, False, seed=6))
    run(again, halves(300, False, seed=6))
    assert state_hash(where.state()) == state_hash(again.state())
