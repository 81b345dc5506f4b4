"""Online rows: what they say after late events, and after events that were ahead of all time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from driftline.features.declare import constructors as dl
from driftline.features.declare.declaration import views
from driftline.features.state.event_time import NEVER
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


@given(
    st.lists(
        st.tuples(
            st.integers(0, int(LATENESS)),
            st.builds(Paid, st.sampled_from("sw"), st.integers(0, 3).map(float)),
            st.booleans(),
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 500),
)
def test_a_row_that_is_put_again_is_as_of_the_watermark_whatever_was_cleaned_up(
    steps: list[tuple[int, Paid, bool]], silence: int
) -> None:
    cleaned, kept = (FeatureState(FEATURES, Paid, views("shops", FEATURES, lateness=LATENESS)) for _ in "ab")
    known: list[tuple[float, Paid]] = []
    watermark = NEVER
    for number, (behind, event, cleans) in enumerate(steps):
        at = 30.0 * number - behind
        if at < watermark:
            continue
        known.append((at, event))
        cleaned.update(event, at)
        kept.update(event, at)
        watermark = max(watermark, at - LATENESS)
        if cleans:
            cleaned.put_rows({})
            cleaned.retain(watermark)
    watermark += silence
    expected = {}
    for shop in "sw":
        ats = [at for at, event in known if event.shop == shop]
        if ats and max(ats) > watermark - 300:
            expected["shops_by_shop", (shop,)] = as_of(known, shop, max(*ats, watermark))
    cleaned.put_rows({})
    cleaned.retain(watermark)
    rows = dict(cleaned.every_row(watermark))
    assert dict(kept.every_row(watermark)) == rows
    assert {key: values for key, (_, values) in rows.items()} == expected


def as_of(known: Sequence[tuple[float, Paid]], shop: str, time: float) -> dict[str, Any]:
    """What the events of a shop give at a time."""
    past = sorted(
        ((at, e.amount) for at, e in known if e.shop == shop and at <= time), key=lambda one: one[0]
    )
    values: dict[str, Any] = {"paid": sum(time - 300 < at for at, _ in past)}
    if within := [amount for at, amount in past if time - 60 < at]:
        values["most"] = max(within)
    if newest := [amount for at, amount in past if time - 120 < at]:
        values["newest"] = newest[-1]
    return values
