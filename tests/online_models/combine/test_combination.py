"""Combinations: as good as the best sequence of members but for a bound, and a seat like any other."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import LABEL, TASK, Ask, Reads

from driftline.online_models.combine.combination import Combination, Combiner
from driftline.online_models.combine.hedge import Hedge, regret_bound
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.promote.promotion import Promotion
from driftline.online_models.tasks.task import Multiclass, Regression
from driftline.streams.code.state_hash import state_hash


def reads(name: str) -> Member:
    return Member(name, lambda: Reads(name))


def pool(*seats: Member | Combination, task: Any = TASK, **changes: Any) -> Pool:
    first, *others = seats
    return Pool(task, PerKey(first, others, **{"monitoring": None} | changes), "k", 0)


def run(
    where: Pool, given: Iterator[tuple[dict[str, Any], Any]], start: int = 0
) -> list[tuple[Any, Sequence[float | None]]]:
    """(label, loss of each seat) of every example."""
    task = where.task
    found = []
    for offset, (x, y) in enumerate(given, start):
        forecast, _ = where.predict(x)
        found.append((y, [None if o is None else task.loss(y, o) for o in forecast.outputs]))
        where.learn(x, y, forecast, float(offset), offset, str(offset))
    return found


probabilities = st.floats(0.001, 0.999)


@given(
    st.lists(st.tuples(st.booleans(), probabilities, probabilities), min_size=1, max_size=60),
    st.integers(0, 60),
    st.booleans(),
    st.sampled_from([0.001, 0.05, 0.5]),
)
def test_the_log_loss_is_within_the_bound_of_the_best_sequence_of_members(
    drawn: list[tuple[bool, float, float]], change: int, first: bool, share: float
) -> None:
    hedge = Hedge(2, share, None)
    loss = 0.0
    best = 0.0
    for number, (y, *outputs) in enumerate(drawn):
        losses = [TASK.loss(y, p) for p in outputs]
        own = TASK.loss(y, hedge.combined(outputs))
        hedge.learn(losses, own, False)
        loss += own
        best += losses[first != (number >= change)]
    changes = int(0 < change < len(drawn))
    assert loss <= best + regret_bound(2, changes, len(drawn), share) + 1e-9
    assert math.isclose(sum(hedge.weights), 1.0)


def changing(n: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """Which of a and b knows the truth changes every 500 labels."""
    rng = random.Random(3)
    for number in range(n):
        p = rng.choice((0.1, 0.9))
        knows = "ab"[number // 500 % 2]
        x = {name: p if name == knows else 0.5 for name in "ab"}
        yield x, rng.random() < p


def test_it_follows_the_best_member_where_that_changes() -> None:
    where = pool(reads("a"), reads("b"), Combination("both"))
    run(where, changing(4_000))
    report = merged_report([where])
    assert report["both"]["role"] == "challenger"
    assert report["both"]["accuracy"] > max(report["a"]["accuracy"], report["b"]["accuracy"]) + 0.1
    assert report["both"]["log_loss"] < 0.45


def test_it_may_be_the_champion_and_the_frozen_baseline_is_the_first_member_s() -> None:
    where = pool(Combination("both"), reads("a"), reads("b"), frozen_after=10)
    run(where, changing(100))
    forecast, _ = where.predict({"a": 0.9, "b": 0.1})
    assert (forecast.serving, forecast.version) == ("both", "both@0:99")
    assert 0.1 < forecast.output < 0.9
    assert forecast.outputs[3] == 0.9


def test_it_may_be_promoted() -> None:
    where = pool(reads("a"), reads("b"), Combination("both"), promotion=Promotion())
    run(where, changing(3_000))
    assert where.serving == "both"


def test_a_member_that_fails_has_no_part_in_that_answer_and_without_members_there_is_none() -> None:
    where = pool(Combination("both"), reads("a"), reads("b"), baselines=False)
    forecast, changes = where.predict({"a": None, "b": 0.25})
    assert [change.member for change in changes] == ["a"]
    assert (forecast.serving, forecast.output) == ("both", 0.25)
    where.learn({}, True, forecast, 0.0, 0, "0")
    forecast, changes = where.predict({"a": 0.5, "b": None})
    assert [change.member for change in changes] == ["b"]
    assert (forecast.serving, forecast.output) == ("both", 0.5)
    forecast, changes = where.predict({"a": None, "b": None})
    assert not changes
    assert forecast.serving == "prior"


def test_a_member_that_did_not_answer_keeps_its_share_of_the_weight() -> None:
    hedge = Hedge(3, 0.0, None)
    hedge.learn([1.0, None, 2.0], 1.5, False)
    assert hedge.weights[1] == pytest.approx(1 / 3)
    assert hedge.weights[0] / hedge.weights[2] == pytest.approx(math.e)
    assert hedge.combined([None, 0.5, None]) == 0.5
    assert hedge.combined([None, None, None]) is None


def test_probabilities_of_several_labels_are_mixed() -> None:
    task = Multiclass("m", ask=Ask, label=LABEL)
    where = pool(reads("a"), reads("b"), Combination("both"), task=task)
    x = {"a": {"u": 1.0}, "b": {"u": 0.5, "v": 0.5}}
    forecast, _ = where.predict(x)
    assert forecast.outputs[2] == {"u": 0.75, "v": 0.25}
    where.learn(x, "v", forecast, 0.0, 0, "0")
    mixed = where.predict(x)[0].outputs[2]
    assert mixed["v"] > 0.49
    assert math.isclose(sum(mixed.values()), 1.0)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_numbers_are_mixed_in_any_unit(unit: float) -> None:
    def measured() -> Iterator[tuple[dict[str, float], float]]:
        rng = random.Random(3)
        for _ in range(1_000):
            y = rng.gauss(0, 1)
            yield {"a": unit * (y + rng.gauss(0, 1)), "b": unit * (y + rng.gauss(0, 0.3))}, unit * y

    where = pool(reads("a"), reads("b"), Combination("both"), task=Regression("r", ask=Ask, label=LABEL))
    run(where, measured())
    report = merged_report([where])
    assert report["both"]["rmse"] < 1.05 * report["b"]["rmse"] < 0.5 * report["a"]["rmse"]


@pytest.mark.parametrize("kind", ["hedge", "stack"])
def test_a_member_that_diverges_does_not_take_the_combination_along(kind: Any) -> None:
    def measured() -> Iterator[tuple[dict[str, float], float]]:
        rng = random.Random(3)
        for number in range(2_000):
            y = rng.gauss(100, 10)
            off = min(1.1**number, 1e140) * (-1) ** number
            yield {"a": y + rng.gauss(0, 3), "b": y + rng.gauss(0, 2), "c": y + off}, y

    both = Combination("all", kind=kind)
    where = pool(reads("a"), reads("b"), reads("c"), both, task=Regression("r", ask=Ask, label=LABEL))
    run(where, measured())
    report = merged_report([where])
    assert report["c"]["rmse"] > 1e80
    assert report["all"]["rmse"] < 1.1 * report["b"]["rmse"]


def test_a_combination_that_is_added_again_knows_nothing() -> None:
    declared = Combination("both", kind="stack", eta=0.3)
    taught, new = (Combiner(declared, 2, "regression") for _ in range(2))
    taught.learn(1.0, [0.9, 0.2], [0.01, 0.64], 0.2)
    assert state_hash(taught) != state_hash(new)
    assert state_hash(taught.reborn()) == state_hash(new)


def test_a_pool_with_a_combination_goes_on_from_its_state() -> None:
    given = list(changing(400))
    whole = pool(reads("a"), reads("b"), Combination("both"))
    expected = run(whole, iter(given))
    half = pool(reads("a"), reads("b"), Combination("both"))
    found = run(half, iter(given[:200]))
    again = pool(reads("a"), reads("b"), Combination("both"))
    again.restore(pickle.loads(pickle.dumps(half.state(), protocol=5)))
    found += run(again, iter(given[200:]), start=200)
    assert found == expected
    assert state_hash(again.state()) == state_hash(whole.state()) != state_hash(half.state())


def test_what_cannot_be_combined_is_refused() -> None:
    for declare in (
        lambda: Combination("c", share=1.0),
        lambda: Combination("c", eta=0.0),
        lambda: Combination("c", kind="stacking"),  # type: ignore[arg-type]
        lambda: Combination("prior"),
        lambda: PerKey(reads("a"), [Combination("c")]),
        lambda: PerKey(Combination("c")),
        lambda: PerKey(reads("a"), [reads("b"), Combination("a")]),
    ):
        with pytest.raises(ModelsError):
            declare()
