"""Keys beyond the declared number: the one touched least recently in event time goes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.declare.constructors import count, sum
from driftline.features.declare.declaration import views
from driftline.features.state.feature_state import FeatureState
from driftline.streams.code.state_hash import state_hash

OVER = 20.0
LATENESS = 5.0
MOST = 3


class Seen:
    __struct_fields__ = ("shop", "customer", "amount")

    def __init__(self, customer: str, amount: float) -> None:
        self.shop = "s"
        self.customer = customer
        self.amount = amount


FEATURES = {"amount": sum(Seen, lambda seen: seen.amount, by=("shop", "customer"), over=OVER, max_keys=MOST)}
VIEWS = views("shops", FEATURES)


def state() -> FeatureState:
    return FeatureState(FEATURES, Seen, VIEWS)


class Oracle:
    """All (time, amount) of each key; after every event the oldest keys beyond the number are dropped."""

    def __init__(self) -> None:
        self.keys: dict[str, list[tuple[float, float]]] = {}

    def add(self, customer: str, at: float, amount: float) -> None:
        self.keys.setdefault(customer, []).append((at, amount))
        if len(self.keys) > MOST:
            del self.keys[min(self.keys, key=lambda key: (max(t for t, _ in self.keys[key]), key))]

    def amount(self, customer: str, at: float) -> float:
        total = 0.0
        for t, v in self.keys.get(customer, ()):
            if at - OVER < t <= at:
                total += v
        return total


events = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, int(LATENESS)), st.sampled_from("abcdef")), max_size=60
)


def timed(steps: Sequence[tuple[int, int, str]]) -> list[tuple[float, float, str]]:
    """(newest time so far, own time, customer) of each event, disordered within the lateness."""
    now, found = 0.0, []
    for step, late, customer in steps:
        now += step
        found.append((now, now - late, customer))
    return found


@settings(max_examples=200)
@given(events, st.integers(1, 7))
def test_it_is_as_the_oracle_says_however_often_the_state_is_cleaned_up(
    steps: list[tuple[int, int, str]], every: int
) -> None:
    kept, oracle = state(), Oracle()
    for number, (now, at, customer) in enumerate(timed(steps)):
        kept.update(Seen(customer, 1.0 + number), at)
        oracle.add(customer, at, 1.0 + number)
        for other in "abcdef":
            assert kept.read(Seen(other, 0.0), now)["amount"] == oracle.amount(other, now)
        if number % every == 0:
            kept.retain(now - LATENESS)
        (table,) = kept.state().tables
        assert len(table) <= MOST


@given(events, st.integers(0, 60))
def test_a_restored_state_evicts_as_the_one_it_was_taken_from(
    steps: list[tuple[int, int, str]], cut: int
) -> None:
    whole, before = state(), state()
    timeline = timed(steps)
    for now, at, customer in timeline[:cut]:
        for one in (whole, before):
            one.update(Seen(customer, at), at)
            one.retain(now - LATENESS)
    after = state()
    after.restore(pickle.loads(pickle.dumps(before.state())))
    for now, at, customer in timeline[cut:]:
        for one in (whole, after):
            one.update(Seen(customer, at), at)
            one.retain(now - LATENESS)
    assert state_hash(after.state()) == state_hash(whole.state())
    assert after.evicted() == whole.evicted()


def test_what_is_kept_beside_the_windows_is_bounded_while_keys_come_and_go() -> None:
    kept = state()
    for number in range(5_000):
        kept.update(Seen(f"c{number % 40}", 1.0), number / 1_000)
        if number % 50 == 0:
            kept.retain(number / 1_000)
    (table,) = kept.state().tables
    assert kept.evicted() == 5_000 - MOST
    assert len([key for _, keys in table.due for key in keys]) <= 2 * MOST + 50
    assert len(table.line) <= 2 * MOST + 50


def test_an_evicted_key_has_an_online_row_that_says_so() -> None:
    kept = state()
    rows: dict[Any, Any] = {}
    for number, customer in enumerate("abcd"):
        kept.update(Seen(customer, 2.0), float(number))
        kept.put_rows(rows)
    assert rows["shops_by_shop_customer", ("s", "a")] == (3.0, {"amount": 0.0})
    assert rows["shops_by_shop_customer", ("s", "d")] == (3.0, {"amount": 2.0})


def test_without_a_bound_nothing_is_evicted() -> None:
    unbounded = FeatureState({"n": count(Seen, by=("shop", "customer"), over=OVER)}, Seen)
    for number in range(100):
        unbounded.update(Seen(f"c{number}", 1.0), 0.0)
    assert unbounded.evicted() == 0
