"""What a partition keeps of its features, and for how long."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from driftline.features.declare.constructors import count, mean
from driftline.features.declare.declaration import HOUR
from driftline.features.state.feature_state import FeatureState


class Paid(NamedTuple):
    shop: str
    customer: str
    amount: float


Paid.__struct_fields__ = Paid._fields  # type: ignore[attr-defined]

FEATURES = {
    "paid_1h": count(Paid, by=("shop", "customer"), over=HOUR),
    "amount_1h": mean(Paid, lambda paid: paid.amount, by="shop", over=HOUR),
}


def feature_state() -> FeatureState:
    return FeatureState(FEATURES, Paid)


def fold_a_day(state: FeatureState, day: int = 0) -> list[dict[str, Any]]:
    """One payment a minute, each customer's only one; cleaned up every ten minutes."""
    read = []
    for minute in range(day * 24 * 60, (day + 1) * 24 * 60):
        at = 60.0 * minute
        paid = Paid("s", f"c{minute}", minute / 7)
        read.append(state.read(paid, at))
        state.update(paid, at)
        if minute % 10 == 9:
            state.retain(at)
    return read


def test_keys_and_values_are_forgotten_before_twice_their_window_is_over() -> None:
    state = feature_state()
    fold_a_day(state)
    by_customer, by_shop = state.state().tables
    assert len(by_customer) <= 2 * 60 + 10
    assert sum(len(keys) for _, keys in by_customer.due) == len(by_customer)
    assert len(by_shop["s"].ats) <= 2 * 60 + 10


def test_a_key_that_comes_back_is_counted_from_its_own_window() -> None:
    state = feature_state()
    fold_a_day(state)
    late = 60.0 * 24 * 60
    assert state.read(Paid("s", "c0", 1.0), late)["paid_1h"] == 0
    state.update(Paid("s", "c0", 1.0), late)
    assert state.read(Paid("s", "c0", 1.0), late)["paid_1h"] == 1


def test_a_restored_state_reads_and_forgets_as_the_one_it_was_taken_from() -> None:
    state, restored = feature_state(), feature_state()
    fold_a_day(state)
    restored.restore(pickle.loads(pickle.dumps(state.state())))
    assert fold_a_day(restored, 1) == fold_a_day(state, 1)
    kept = [[list(table) for table in one.state().tables] for one in (restored, state)]
    assert kept[0] == kept[1]


def test_a_restore_into_a_state_that_is_in_use_leaves_nothing_of_its_own() -> None:
    state = feature_state()
    before = pickle.dumps(state.state())
    read = fold_a_day(state)
    state.restore(pickle.loads(before))
    assert fold_a_day(state) == read
    state.restore(state.state())
    assert state.read(Paid("s", "c1439", 1.0), 60.0 * 1440)["paid_1h"] == 1
