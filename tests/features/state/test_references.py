"""References hold from their own time: what a request finds, and what is let go."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.state.references import References

FOREVER = float("inf")


def test_a_reference_holds_from_its_own_time_until_the_next_ones() -> None:
    prices = References(FOREVER)
    prices.put("p", 10.0, "now")
    prices.put("p", 86_400.0, "from tomorrow")
    prices.put("p", 4e9, "2099")
    prices.put("p", 20.0, "sooner")
    assert [prices.find("p", at) for at in (9.0, 10.0, 19.0, 20.0, 86_399.0, 86_400.0)] == [
        None, (10.0, "now"), (10.0, "now"), (20.0, "sooner"), (20.0, "sooner"), (86_400.0, "from tomorrow"),
    ]  # fmt: skip
    assert prices.find("q", 10.0) is None


def test_of_equal_times_the_later_arrival_counts() -> None:
    prices = References(FOREVER)
    for fact in ("first", "second"):
        prices.put("p", 10.0, fact)
    assert prices.find("p", 10.0) == (10.0, "second")
    assert len(prices) == 1


def test_what_no_request_can_find_is_let_go() -> None:
    ttl = 100.0
    prices = References(ttl)
    for n in range(4000):
        prices.put(f"p{n % 1000}", float(n), n)
        if n % 50 == 0:
            prices.retain(n - 10.0)
    prices.retain(3990.0)
    assert len(prices) == 3999 - 3890 + 1
    assert len(prices.state.due) <= 2 * len(prices)
    lasting = References(FOREVER)
    for n in range(4000):
        lasting.put(f"p{n % 10}", float(n), n)
    lasting.retain(4000.0)
    assert len(lasting) == 10


class Naive:
    """Keeps all references, in order of arrival."""

    def __init__(self) -> None:
        self.facts: list[tuple[Any, float, Any]] = []

    def find(self, key: Any, at: float) -> tuple[float, Any] | None:
        holding = [(when, fact) for known, when, fact in self.facts if known == key and when <= at]
        return max(reversed(holding), key=lambda found: found[0], default=None)


times = st.integers(0, 30).map(float)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), times), max_size=30),
    st.lists(st.integers(0, 3), min_size=30, max_size=30),
    st.sampled_from([2.0, 7.0, FOREVER]),
)
def test_letting_go_and_restoring_change_no_result(
    puts: list[tuple[str, float]], steps: list[int], ttl: float
) -> None:
    kept, naive, watermark = References(ttl), Naive(), 0.0
    for number, ((key, at), step) in enumerate(zip(puts, steps, strict=False)):
        kept.put(key, at, number)
        naive.facts.append((key, at, number))
        watermark += step
        kept.retain(watermark)
        restored = References(ttl)
        restored.state = pickle.loads(pickle.dumps(kept.state))
        for key in "ab":
            for ahead in range(12):
                expected = naive.find(key, watermark + ahead)
                if expected is not None and watermark + ahead - expected[0] > ttl:
                    continue  # too old, whether it is kept or not
                assert kept.find(key, watermark + ahead) == expected
                assert restored.find(key, watermark + ahead) == expected
