"""What moves the time of a partition: wrong clocks, nights, sparse streams, the broker's time."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, count

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from driftline import DAY, HOUR, MINUTE
from driftline.features.state.event_time import NEVER
from driftline.streams.fold.silence import LONGEST, MOST_TO_CATCH_UP
from driftline.streams.fold.watermark import MOST, TRANSIT_OVER, Timeliness, Watermark

YEAR = 366 * DAY
START = 1_700_000_000.0
TAKEN = ("on time", "ahead")
names = count()


def verdict_on(
    watermark: Watermark, at: float, name: str | None = None, appended: float | None = None
) -> Timeliness:
    """The verdict on an event, which is accepted whenever it can be."""
    verdict = watermark.judge(at, name or f"e{next(names)}", appended)
    if verdict in TAKEN:
        watermark.advance(at, appended)
    return verdict


def fresh(lateness: float = 2.0, max_jump: float = YEAR, skew: float = MINUTE) -> Watermark:
    return Watermark(lateness, max_jump, skew)


def confirmed(max_jump: float = YEAR, skew: float = 10.0) -> Watermark:
    """A watermark at 98 that three events have confirmed."""
    watermark = fresh(max_jump=max_jump, skew=skew)
    for n in range(3):
        assert verdict_on(watermark, 100.0, f"first-{n}") == "on time"
    return watermark


def test_an_event_at_the_watermark_is_on_time_and_one_before_it_late() -> None:
    watermark = confirmed()
    assert watermark.value == 98.0
    assert verdict_on(watermark, 98.0) == "on time"
    assert verdict_on(watermark, 97.9) == "late"
    assert watermark.value == 98.0


def test_nothing_moves_for_an_event_that_is_refused_for_another_reason() -> None:
    watermark = confirmed()
    assert watermark.judge(105.0, "a") == "on time"
    assert watermark.judge(100.0 + DAY, "b") == "on time"
    assert (watermark.value, watermark.max_at, watermark.likely) == (98.0, 100.0, 100.0)


def test_a_step_within_the_skew_of_clocks_moves_time_at_once_and_a_longer_one_when_others_agree() -> None:
    watermark = confirmed()
    assert verdict_on(watermark, 110.0) == "on time"
    assert watermark.max_at == 110.0
    assert verdict_on(watermark, 120.1) == "on time"
    assert (watermark.max_at, watermark.likely) == (110.0, 120.1)
    assert verdict_on(watermark, 121.0) == "on time"
    assert watermark.max_at == 121.0


def test_the_start_needs_three_events_that_agree() -> None:
    watermark = fresh()
    assert [verdict_on(watermark, at) for at in (START + YEAR, START, START + 1)] == ["on time"] * 3
    assert watermark.max_at == NEVER
    assert verdict_on(watermark, START + 2) == "on time"
    assert watermark.max_at == START + 2
    assert watermark.contradicted == 1


def test_one_fast_clock_among_many_events_moves_nothing_and_is_counted() -> None:
    watermark = fresh(lateness=5 * MINUTE)
    verdicts = Counter(
        verdict_on(watermark, START + n * MINUTE + (DAY if n == 100 else 0)) for n in range(2 * 1440)
    )
    assert verdicts == {"on time": 2880}
    assert watermark.max_at == START + 2879 * MINUTE
    assert watermark.contradicted == 1


@pytest.mark.parametrize("length", [100, 2_000, 20_000])
def test_after_a_pause_a_few_events_are_reported_as_ahead_though_one_was_contradicted_before_it(
    length: int,
) -> None:
    watermark = fresh(lateness=5 * MINUTE)
    for n in range(length):
        verdict_on(watermark, START + n * MINUTE + (DAY if n == length - 50 else 0))
    resumed = START + length * MINUTE + 3 * DAY
    verdicts = Counter(verdict_on(watermark, resumed + n * MINUTE) for n in range(2_000))
    assert verdicts["ahead"] <= MOST
    assert verdicts["ahead"] + verdicts["on time"] == 2_000


def test_a_device_of_a_fleet_that_is_always_a_day_ahead_is_reported_and_nobody_is_late() -> None:
    watermark = fresh(lateness=5 * MINUTE)
    verdicts = Counter(
        (n % 20 == 13, verdict_on(watermark, START + n * MINUTE + (DAY if n % 20 == 13 else 0)))
        for n in range(2 * 1440)
    )
    assert verdicts == {(False, "on time"): 2736, (True, "ahead"): 143, (True, "on time"): 1}
    assert watermark.max_at == START + 2879 * MINUTE


def test_a_burst_of_a_fast_device_does_not_outweigh_a_stream() -> None:
    watermark = fresh(lateness=MINUTE)
    for n in range(1000):
        verdict_on(watermark, START + n)
    for n in range(MOST):
        verdict_on(watermark, START + DAY + n)
    assert watermark.max_at == START + 999
    assert verdict_on(watermark, START + 1000) == "on time"
    assert watermark.max_at == START + 1000


def daily(events: int, gap: float, days: int) -> list[float]:
    return [START + day * DAY + n * gap for day in range(days) for n in range(events)]


@pytest.mark.parametrize(
    "ats",
    [
        daily(60, MINUTE, 5),
        [at for at in daily(200, 30.0, 21) if (at - START) // DAY % 7 < 5],
        [START + n * 30 * DAY for n in range(24)],
        [START + n * HOUR for n in range(100)] + [START + 200 * DAY + n for n in range(100)],
    ],
    ids=["nights", "weekends", "a bill a month", "half a year of silence"],
)
def test_defaults_lose_nothing_of_streams_that_pause(ats: Sequence[float]) -> None:
    watermark = fresh(lateness=0.0)
    assert {verdict_on(watermark, at) for at in ats} == {"on time"}
    assert watermark.likely == ats[-1]
    assert watermark.contradicted == 0


steps = st.sampled_from([0.0, 1.0, 59.0, 61.0, 600.0, HOUR, 9 * HOUR, DAY, 3 * DAY, 31 * DAY, 300 * DAY])
streams = st.lists(steps, min_size=1, max_size=120).map(lambda drawn: list(accumulate(drawn, initial=START)))


@settings(max_examples=300)
@given(streams, st.data(), st.sampled_from([0.0, 10.0, 900.0]))
def test_no_event_is_lost_where_no_clock_is_wrong(
    ats: list[float], data: st.DataObject, lateness: float
) -> None:
    watermark = fresh(lateness=lateness)
    delays = data.draw(st.lists(st.floats(0, lateness), min_size=len(ats), max_size=len(ats)))
    right_times = [at - delay for at, delay in zip(ats, delays, strict=True)]
    assert {verdict_on(watermark, at) for at in right_times} == {"on time"}
    assert watermark.contradicted == 0
    watermark.take_clock(max(right_times))
    assert watermark.max_at == max(right_times)


@settings(max_examples=300)
@given(
    streams,
    st.sampled_from([2 * MINUTE, HOUR, DAY, 30 * DAY, 400 * DAY]),
    st.lists(st.booleans(), min_size=121, max_size=121),
    st.sampled_from([YEAR, 7 * DAY]),
)
@example(  # what a refused event confirms leaves accepted ones waiting: from them on a step is measured
    ats=list(accumulate([0.0, 0.0, 0.0, 0.0, 0.0, 61.0, 300 * DAY, 300 * DAY], initial=START)),
    ahead=400 * DAY,
    wrong_after=[False] * 7 + [True] + [False] * 113,
    max_jump=YEAR,
)
def test_a_wrong_clock_loses_at_most_its_own_events(
    ats: list[float], ahead: float, wrong_after: list[bool], max_jump: float
) -> None:
    """A wrong event after some of the others, each alone: two in a row are half of a sparse stream."""
    if max_jump < YEAR:
        ats = [at for at in ats if at - START < max_jump]
    watermark = fresh(lateness=MINUTE, max_jump=max_jump)
    lost = 0
    for at, wrong in zip(ats, wrong_after, strict=False):
        lost += verdict_on(watermark, at) not in TAKEN
        if wrong:
            verdict_on(watermark, at + ahead)
    assert lost == 0


@settings(max_examples=100)
@given(streams, st.integers(0, 120))
def test_a_watermark_goes_on_from_its_state(ats: list[float], cut: int) -> None:
    one = fresh()
    for at in ats[:cut]:
        verdict_on(one, at)
    other = pickle.loads(pickle.dumps(one))
    assert [(verdict_on(one, at), one.max_at, one.likely) for at in ats[cut:]] == [
        (verdict_on(other, at), other.max_at, other.likely) for at in ats[cut:]
    ]


def test_beyond_max_jump_an_event_is_refused_until_three_agree() -> None:
    watermark = confirmed(max_jump=1000.0)
    assert [verdict_on(watermark, at) for at in (2000.0, 2001.0, 2002.0)] == ["future", "future", "on time"]
    watermark = confirmed(max_jump=1000.0)
    assert [verdict_on(watermark, at) for at in (2000.0, 101.0, 2001.0, 2002.0)] == [
        "future", "on time", "future", "future",
    ]  # fmt: skip
    assert watermark.max_at == 101.0


def test_a_record_that_is_sent_again_has_no_second_vote() -> None:
    watermark = confirmed(max_jump=1000.0)
    assert [verdict_on(watermark, 2000.0, "same") for _ in range(5)] == ["future"] * 5
    assert watermark.max_at == 100.0


def test_a_step_that_time_has_made_before_is_not_beyond_max_jump_again() -> None:
    watermark = fresh(lateness=0.0, max_jump=HOUR)
    verdicts = [verdict_on(watermark, at) for at in daily(60, MINUTE, 5)]
    assert Counter(verdicts) == {"on time": 298, "future": 2}
    assert verdicts[60:62] == ["future", "future"]


def test_the_append_time_says_what_is_from_the_future_whatever_others_say() -> None:
    watermark = fresh(lateness=MINUTE)
    for n in range(100):
        now = START + n
        assert verdict_on(watermark, now + DAY, appended=now) == "future"
        assert verdict_on(watermark, now + 61.0, appended=now) == "future"
    assert watermark.max_at == NEVER
    assert verdict_on(watermark, START + 100 + 59.0, appended=START + 100) == "on time"
    assert watermark.max_at == START + 100  # within the skew, but time is the broker's


def test_the_append_time_confirms_an_event_after_any_pause_at_once() -> None:
    watermark = fresh(lateness=MINUTE)
    for day in (0, 1, 31, 400):
        now = START + day * DAY
        assert verdict_on(watermark, now - 0.5, appended=now) == "on time"
        assert watermark.max_at == now - 0.5


def test_what_reaches_a_live_case_late_is_judged_by_the_events_around_it() -> None:
    watermark = fresh(lateness=5 * MINUTE)
    now = START + 30 * DAY
    verdicts = Counter(
        verdict_on(watermark, START + n * MINUTE + (DAY if n == 100 else 0), appended=now + n)
        for n in range(2880)
    )
    assert verdicts == {"on time": 2880}
    assert verdict_on(watermark, now + 3000, appended=now + 3000) == "on time"
    assert watermark.max_at == now + 3000


@pytest.mark.parametrize("wrong", [DAY, -DAY, 30 * DAY, -30 * DAY])
def test_what_a_worker_with_a_wrong_clock_writes_is_never_ahead_of_the_brokers_time(wrong: float) -> None:
    watermark = fresh(lateness=0.0)
    for n in range(10):
        assert verdict_on(watermark, START + n, appended=START + n) == "on time"
    now = START + 20
    if watermark.is_news(now + wrong, appended=now):
        watermark.take_clock(now + wrong, appended=now)
    assert watermark.max_at == (now if wrong > 0 else START + 9)
    assert verdict_on(watermark, now, appended=now) == "on time"


def test_a_clock_event_leaves_room_for_events_on_their_way() -> None:
    watermark = fresh(lateness=0.0)
    verdict_on(watermark, START, appended=START + 1.5)
    watermark.take_clock(START + 100, appended=START + 100)
    assert watermark.max_at == START + 97
    # what was on its way meanwhile
    assert verdict_on(watermark, START + 99, appended=START + 101) == "on time"
    # a quick network is noticed, once what was slow is long ago
    for n in range(3 * TRANSIT_OVER):
        verdict_on(watermark, START + 200 + n, appended=START + 200 + n)
    watermark.take_clock(START + 2000, appended=START + 2000)
    assert watermark.max_at == START + 2000


def test_a_clock_event_of_history_is_believed() -> None:
    watermark = confirmed()
    verdict_on(watermark, 100.0 + DAY)
    assert not watermark.is_news(99.0)
    assert watermark.is_news(100.0 + 2 * DAY)
    watermark.take_clock(100.0 + 2 * DAY)
    assert watermark.max_at == watermark.likely == 100.0 + 2 * DAY


def test_a_reference_is_far_ahead_by_max_jump_of_the_broker_or_of_the_partition() -> None:
    watermark = fresh(max_jump=7 * DAY)
    assert not watermark.is_far_ahead(START + YEAR)
    assert watermark.is_far_ahead(START + YEAR, appended=START)
    watermark.take_clock(START)
    assert watermark.is_far_ahead(START + 8 * DAY)
    assert not watermark.is_far_ahead(START + 7 * DAY)


def test_an_event_beyond_max_jump_is_refused_right_after_a_usual_step_too() -> None:
    watermark = Watermark(0.0, 365 * 86_400.0, 60.0)
    for n in range(100):  # every step is beyond the bound, so one event always waits for the next
        assert watermark.judge(180.0 * n, f"e{n}") == "on time"
        watermark.advance(180.0 * n)
    assert watermark.judge(70 * 365 * 86_400.0, "far") == "future"
    assert watermark.judge(180.0 * 100, "next") == "on time"


def live_until(down: float, lateness: float = MINUTE) -> Watermark:
    """A live partition to which an event came each second, half a second old, until the broker went away."""
    watermark = fresh(lateness=lateness)
    for n in range(200, 0, -1):
        verdict_on(watermark, down - n - 0.5, appended=down - n)
    verdict_on(watermark, down - 0.5, appended=down)
    return watermark


@settings(max_examples=200)
@given(
    st.floats(LONGEST + 1.0, 50 * MINUTE),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.sampled_from([0.0, 2.0, MINUTE]),
)
def test_what_producers_held_during_an_outage_is_not_late_whoever_is_first_afterwards(
    lasted: float, held: list[tuple[float, float]], lateness: float
) -> None:
    back = START + lasted
    watermark = live_until(START, lateness)
    watermark.take_clock(back, back)  # the worker is back before the producers
    assert verdict_on(watermark, back, appended=back + 0.1) == "on time"  # and one that held nothing
    catches_up = min(lasted, MOST_TO_CATCH_UP) - 0.2
    for at, arrives in sorted(held, key=lambda one: one[1]):
        appended = back + 0.1 + arrives * catches_up
        watermark.take_clock(appended, appended)
        assert verdict_on(watermark, START + at * lasted, appended=appended) == "on time"
    assert watermark.max_at >= back


def tell_time(watermark: Watermark, begin: float, end: float) -> None:
    """A worker's clock events, every second from `begin` to before `end`."""
    for n in range(int(end - begin)):
        watermark.take_clock(begin + n, begin + n)


def test_time_goes_on_a_minute_after_an_outage_and_what_came_late_through_it_slows_no_clock_event() -> None:
    watermark = live_until(START)
    before, back = watermark.value, START + 10 * MINUTE
    assert verdict_on(watermark, START + 1, appended=back) == "on time"
    tell_time(watermark, back, back + 60.0)
    assert before <= watermark.value <= START - MINUTE
    tell_time(watermark, back + 60.0, back + 61.0)
    assert watermark.value == back + 60.0 - 2 * 0.5 - MINUTE
    assert verdict_on(watermark, START + 2, appended=back + 61.0) == "late"


def test_a_second_outage_while_producers_catch_up_keeps_what_was_held_in_the_first() -> None:
    watermark = live_until(START)
    back = START + 5 * MINUTE
    tell_time(watermark, back, back + 10.0)
    again = back + 40.0  # the broker was away for half a minute more
    tell_time(watermark, again, again + 29.0)
    assert verdict_on(watermark, START + 1, appended=again + 29.0) == "on time"
    tell_time(watermark, again + 29.0, again + 32.0)
    assert verdict_on(watermark, START + 1, appended=again + 32.0) == "late"
