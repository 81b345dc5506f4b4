"""What happens exactly at a boundary of time: the label join, the watermark, the memory of ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.deduplication import SeenEvents
from streams.pending import Example, Pending, PendingPredictions
from streams.watermark import Verdict, Watermark

WAIT, CORRECTIONS, LATENESS = 4, 3, 2
Outcome = tuple[str, Any, float, int]
"""(status, label, when, revision)"""


class Join:
    """The join under test, with what it makes known by request."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        self.pending = PendingPredictions(WAIT, CORRECTIONS, LATENESS, ("unlabelled", None), self._known)

    def _known(self, example: Example) -> None:
        outcome = (example.status, example.label, example.at, example.revision)
        self.outcomes.setdefault(example.pending.prediction_id, []).append(outcome)

    def ask(self, name: str, at: float, key: str = "k") -> None:
        waiting = Pending(
            prediction_id=name,
            event_id=name,
            at=at,
            key="p",
            label_key=key,
            keys={},
            x={},
            deadline=at + WAIT,
        )
        self.pending.add(waiting)

    def label(self, value: Any, at: float, key: str = "k") -> None:
        self.pending.answer(key, "labelled", value, at)

    def void(self, at: float, key: str = "k") -> None:
        self.pending.answer(key, "void", None, at)


def test_a_label_of_the_requests_own_time_answers_it() -> None:
    join = Join()
    join.ask("r", 5)
    join.label(1, 5)
    assert join.outcomes == {"r": [("labelled", 1, 5, 0)]}


def test_a_label_older_than_the_request_is_not_its_own() -> None:
    join = Join()
    join.ask("r", 5)
    join.label(1, 4)
    assert join.outcomes == {}


def test_a_label_at_the_deadline_is_in_time_though_the_watermark_has_come_there() -> None:
    join = Join()
    join.ask("r", 5)
    join.pending.expire(5 + WAIT)
    join.label(1, 5 + WAIT)
    assert join.outcomes == {"r": [("labelled", 1, 9, 0)]}


def test_a_correction_at_the_last_moment_counts_and_one_after_it_does_not() -> None:
    join = Join()
    join.ask("r", 5)
    last = 5 + WAIT + CORRECTIONS
    join.pending.expire(last)
    join.label(1, last)
    assert join.outcomes["r"] == [("unlabelled", None, 9, 0), ("labelled", 1, last, 1)]
    join.pending.expire(last + 1)
    join.label(0, last + 1)
    assert len(join.outcomes["r"]) == 2


@pytest.mark.parametrize("asked", [5, 4])
def test_an_early_label_answers_requests_up_to_its_own_time(asked: int) -> None:
    join = Join()
    join.label(1, 5)
    join.pending.expire(5)
    join.ask("r", asked)
    assert join.outcomes == {"r": [("labelled", 1, 5, 0)]}
    later = Join()
    later.label(1, 5)
    later.ask("r", 6)
    assert later.outcomes == {}


def test_of_two_early_labels_of_one_time_the_later_in_the_log_counts() -> None:
    join = Join()
    join.label(1, 5)
    join.label(2, 5)
    join.ask("r", 5)
    assert join.outcomes == {"r": [("labelled", 2, 5, 0)]}


def test_early_labels_are_forgotten_when_no_request_can_be_so_late() -> None:
    join = Join()
    join.label(1, 5)
    assert join.pending.next_deadline() == 5
    join.pending.expire(6)
    assert join.pending.next_deadline() == float("inf")
    join.ask("r", 5)
    assert join.outcomes == {}


def became(at: int, said: list[tuple[int, str, Any]]) -> list[Outcome]:
    """The rules in words, of a request at `at` and all that is said of its key, in the order of time."""
    found: list[Outcome] = []
    for when, status, label in said:
        if when < at or when > at + WAIT + CORRECTIONS:
            continue
        if not found and when > at + WAIT:
            found.append(("unlabelled", None, at + WAIT, 0))
        if not found:
            found.append((status, label, when, 0))
        elif status == "labelled" and found[-1][:2] != (status, label):
            found.append((status, label, when, len(found)))
    return found or [("unlabelled", None, at + WAIT, 0)]


what = st.sampled_from([("ask", None), ("labelled", 1), ("labelled", 2), ("void", None), ("time", None)])
log = st.lists(st.tuples(st.integers(0, 16), what, st.sampled_from("ab")), max_size=14)


@settings(max_examples=400, deadline=None)
@given(log)
def test_requests_labels_and_voids_join_by_the_rules_however_they_interleave(
    drawn: list[tuple[int, tuple[str, Any], str]],
) -> None:
    # of one time, requests come first: what a label before its request does is told above
    steps = sorted(drawn, key=lambda step: (step[0], step[1][0] != "ask"))
    join = Join()
    asked: dict[str, tuple[str, int]] = {}
    for number, (at, (kind, label), key) in enumerate(steps):
        join.pending.expire(at)
        if kind == "ask":
            asked[f"r{number}"] = (key, at)
            join.ask(f"r{number}", at, key)
        elif kind != "time":
            join.pending.answer(key, kind, label, at)  # type: ignore[arg-type]
    join.pending.expire(1_000)
    expected = {
        name: became(at, [(w, kind, label) for w, (kind, label), k in steps if k == key and kind in VERDICTS])
        for name, (key, at) in asked.items()
    }
    assert join.outcomes == expected
    assert join.pending.open == 0
    assert join.pending.next_deadline() == float("inf")


VERDICTS = ("labelled", "void")


def told(watermark: Watermark, at: float, name: str) -> Verdict:
    """What an event that is accepted whenever it is on time is told."""
    verdict = watermark.judge(at, name)
    if verdict == "on time":
        watermark.advance(at)
    return verdict


def confirmed(max_jump: float = 10.0) -> Watermark:
    """A watermark at 98 that three events have confirmed."""
    watermark = Watermark(2.0, max_jump)
    for n in range(3):
        assert told(watermark, 100.0, f"first-{n}") == "on time"
    return watermark


def test_an_event_at_the_watermark_is_on_time_and_one_before_it_late() -> None:
    watermark = confirmed()
    assert watermark.value == 98.0
    assert told(watermark, 98.0, "a") == "on time"
    assert told(watermark, 97.9, "b") == "late"
    assert watermark.value == 98.0


def test_nothing_moves_for_an_event_that_is_refused_for_another_reason() -> None:
    watermark = confirmed()
    assert watermark.judge(105.0, "a") == "on time"
    assert (watermark.value, watermark.max_at) == (98.0, 100.0)


def test_a_jump_of_just_max_jump_is_time_going_on_and_a_longer_one_the_future() -> None:
    watermark = confirmed()
    assert told(watermark, 110.0, "a") == "on time"
    assert told(watermark, 120.1, "b") == "future"
    assert watermark.value == 108.0


def test_as_many_ids_as_the_quorum_within_max_jump_of_each_other_move_time() -> None:
    watermark = confirmed()
    assert [told(watermark, at, f"{at}") for at in (200.0, 190.0, 210.0)] == ["future"] * 3
    assert told(watermark, 200.0, "again") == "on time"
    alone = confirmed()
    assert [told(alone, 200.0, "same") for _ in range(5)] == ["future"] * 5
    near = confirmed()
    assert [told(near, at, f"{at}") for at in (190.0, 200.0)] == ["future"] * 2
    assert told(near, 195.0, "third") == "on time"
    edge = confirmed()
    assert [told(edge, at, f"{at}") for at in (190.0, 210.0)] == ["future"] * 2
    assert told(edge, 200.0, "in the middle") == "on time"


def test_a_start_that_few_confirm_is_taken_back_by_an_event_from_long_before() -> None:
    for events, verdict in ((1, "on time"), (2, "on time"), (3, "late")):
        watermark = Watermark(2.0, 10.0)
        for n in range(events):
            told(watermark, 100.0, f"{n}")
        assert told(watermark, 50.0, "before") == verdict
    start = Watermark(2.0, 10.0)
    told(start, 100.0, "first")
    assert told(start, 90.0, "within max_jump") == "late"
    assert told(start, 89.9, "beyond") == "on time"


def test_an_event_is_known_for_just_the_horizon() -> None:
    for wait, known in ((0.0, "duplicate"), (10.0, "duplicate"), (10.1, "new")):
        seen = SeenEvents(10.0)
        seen.add("asked", "first", 1, 0.0)
        seen.add("asked", "a", 1, 5.0)
        assert seen.find("asked", "a", 1, 5.0 + wait) == known
        assert seen.find("asked", "b", 1, 5.0) == "new"


def test_an_event_is_known_by_its_type_and_its_id() -> None:
    seen = SeenEvents(10.0)
    seen.add("asked", "a", 1, 0.0)
    assert seen.find("settled", "a", 1, 0.0) == "new"
    assert seen.find("asked", "a", 2, 0.0) == "other content"
    seen.add("settled", "a", 2, 0.0)
    assert [seen.find(tag, "a", 2, 0.0) for tag in ("asked", "settled")] == ["other content", "duplicate"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abcdef")), max_size=40))
def test_events_are_duplicates_by_the_horizon_alone_whatever_is_forgotten(
    steps: list[tuple[int, str]],
) -> None:
    seen = SeenEvents(6.0)
    accepted: dict[str, float] = {}
    now = 0.0
    for ahead, name in steps:
        now += ahead
        known = name in accepted and now - accepted[name] <= 6.0
        assert (seen.find("asked", name, 7, now) == "duplicate") is known
        if not known:
            seen.add("asked", name, 7, now)
            accepted[name] = now
        assert len(seen) <= 2 * 6
