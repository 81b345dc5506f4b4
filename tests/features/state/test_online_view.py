"""Online rows: what they say after late events, and after events that were ahead of all time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from driftline.features.declare import constructors as dl
from driftline.features.declare.declaration import views
from driftline.features.state.feature_state import FeatureState

LATENESS = 400.0


class Paid(NamedTuple):
    shop: str
    amount: float


Paid.__struct_fields__ = Paid._fields  # type: ignore[attr-defined]

FEATURES = {
    "paid": dl.count(Paid, by="shop", over=300),
    "most": dl.max(Paid, "amount", by="shop", over=60),
    "newest": dl.latest(Paid, "amount", by="shop", ttl=120),
}


def rows_after_each(events: Sequence[tuple[float, Paid]]) -> list[tuple[float, dict[str, Any]]]:
    """The row of its shop that is put after each event: its stamp and values."""
    state = FeatureState(FEATURES, Paid, views("shops", FEATURES, lateness=LATENESS))
    found = []
    for at, event in events:
        state.update(event, at)
        rows: dict[Any, tuple[float, dict[str, Any]]] = {}
        state.put_rows(rows)
        found.append(rows["shops_by_shop", (event.shop,)])
    return found


@given(
    st.lists(
        st.tuples(
            st.integers(0, int(LATENESS)),
            st.builds(Paid, st.sampled_from("sw"), st.integers(0, 3).map(float)),
        )
    )
)
def test_a_row_counts_all_of_its_window_however_late_some_came(late: list[tuple[int, Paid]]) -> None:
    events = [(10.0 * number - behind, event) for number, (behind, event) in enumerate(late)]
    for number, (stamp, values) in enumerate(rows_after_each(events)):
        shop = events[number][1].shop
        # of equal times the later arrival is newer
        known = sorted(
            ((at, e.amount) for at, e in events[: number + 1] if e.shop == shop), key=lambda paid: paid[0]
        )
        inside = [amount for at, amount in known if stamp - 60 < at]
        assert abs(stamp - known[-1][0]) < 0.001
        assert values["paid"] == sum(stamp - 300 < at for at, _ in known)
        assert values["newest"] == known[-1][1]
        assert values["most"] == max(inside)


def test_an_event_ahead_of_all_time_does_not_hide_those_that_follow() -> None:
    ahead = 1_010.0 + 300 + LATENESS + 1
    rows = rows_after_each([(1_000.0, Paid("s", 1.0)), (ahead, Paid("s", 9.0)), (1_010.0, Paid("s", 2.0))])
    assert rows[1] == (ahead, {"paid": 1, "most": 9.0, "newest": 9.0})
    assert rows[2][1] == {"paid": 2, "most": 2.0, "newest": 2.0}
    assert rows[2][0] > ahead
