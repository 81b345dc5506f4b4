"""What happens exactly at a boundary of time: the label join, the watermark, the memory of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.state.segment_store import IN_MEMORY
from driftline.streams.fold.label_join import JoinRule, LabelJoin, Lesson, ResolvedPrediction, Statement
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction

WAIT, CORRECTIONS, LATENESS = 4, 3, 2
Outcome = tuple[str, Any, float, int]
"""(status, label, when, revision)"""


class Join:
    """The join under test, with what it makes known by request."""

    def __init__(self, **changes: Any) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        self.lessons: dict[str, list[tuple[Any, bool]]] = {}
        rule = JoinRule(WAIT, CORRECTIONS, in_order=False)
        self.pending = LabelJoin(replace(rule, **changes), Packing((), ()), IN_MEMORY)

    def known(self, item: ResolvedPrediction | Lesson) -> None:
        name = item.pending.prediction_id
        if isinstance(item, Lesson):
            self.lessons.setdefault(name, []).append((item.label, False))
            return
        self.outcomes.setdefault(name, []).append((item.status, item.label, item.at, item.revision))
        if item.is_due:
            self.lessons.setdefault(name, []).append((item.label, True))

    def ask(self, name: str, at: float, key: str = "k") -> None:
        waiting = PendingPrediction(
            prediction_id=name,
            event_id=name,
            at=at,
            key="p",
            label_key=key,
            keys={},
            x={},
            deadline=at + self.pending.rule.wait,
        )
        self.pending.add(waiting)

    def label(
        self, value: Any, at: float, key: str = "k", name: str = "", corrects: str | None = None
    ) -> None:
        self.pending.answer(
            Statement(key, "labelled", value, at, name or f"label-{value}-{at}", corrects), self.known
        )

    def void(self, at: float, key: str = "k", name: str = "", corrects: str | None = None) -> None:
        self.pending.answer(Statement(key, "void", None, at, name or f"void-{at}", corrects), self.known)

    def end(self) -> None:
        self.pending.expire(1_000, self.known)


def test_a_label_of_the_requests_own_time_answers_it_whichever_comes_first_in_the_log() -> None:
    for label_first in (False, True):
        join = Join()
        for step in (1, 0) if label_first else (0, 1):
            join.label(1, 5) if step else join.ask("r", 5)
        join.end()
        assert join.outcomes == {"r": [("labelled", 1, 5, 0)]}


def test_a_label_older_than_the_request_is_not_its_own() -> None:
    join = Join()
    join.ask("r", 5)
    join.label(1, 4)
    join.pending.expire(5, join.known)
    assert join.outcomes == {}
    assert join.pending.unmatched == 1


def test_a_label_has_its_effect_when_nothing_in_time_can_come_before_it() -> None:
    join = Join()
    join.ask("r", 5)
    join.label(1, 6)
    assert join.pending.due == 6
    join.pending.expire(6, join.known)
    assert join.outcomes == {}
    join.pending.expire(6.1, join.known)
    assert join.outcomes == {"r": [("labelled", 1, 6, 0)]}
    at_once = Join(in_order=True)
    at_once.ask("r", 5)
    at_once.label(1, 6)
    assert at_once.outcomes == {"r": [("labelled", 1, 6, 0)]}


def test_a_label_at_the_deadline_is_in_time_though_the_watermark_has_come_there() -> None:
    join = Join()
    join.ask("r", 5)
    join.pending.expire(5 + WAIT, join.known)
    join.label(1, 5 + WAIT)
    join.end()
    assert join.outcomes == {"r": [("labelled", 1, 9, 0)]}


def test_a_late_label_at_the_last_moment_counts_and_one_after_it_does_not() -> None:
    for after in (0, 1):
        join = Join()
        join.ask("r", 5)
        last = 5 + WAIT + CORRECTIONS
        join.label(1, last + after)
        join.end()
        late = [] if after else [("labelled", 1, last, 1)]
        assert join.outcomes["r"] == [("unlabelled", None, 9, 0), *late]
        assert len(join.pending) == 0


@pytest.mark.parametrize("asked", [5, 4])
def test_a_label_before_its_request_in_the_log_answers_it(asked: int) -> None:
    join = Join()
    join.label(1, 5)
    join.pending.expire(asked, join.known)
    join.ask("r", asked)
    join.end()
    assert join.outcomes == {"r": [("labelled", 1, 5, 0)]}
    later = Join()
    later.label(1, 5)
    later.ask("r", 6)
    later.end()
    assert later.outcomes == {"r": [("unlabelled", None, 10, 0)]}


def test_of_two_labels_of_one_time_the_first_in_the_log_counts() -> None:
    join = Join()
    join.label(1, 5)
    join.label(2, 5)
    join.ask("r", 5)
    join.end()
    assert join.outcomes == {"r": [("labelled", 1, 5, 0)]}


def test_of_one_time_a_label_comes_before_a_void_and_that_before_a_correction() -> None:
    for order in permutations(range(3)):
        join = Join()
        join.ask("r", 5)
        for step in order:
            if step == 0:
                join.label(1, 6, name="first")
            elif step == 1:
                join.void(6)
            else:
                join.label(2, 6, corrects="first")
        join.end()
        assert join.outcomes == {"r": [("labelled", 1, 6, 0), ("labelled", 2, 6, 1)]}


def test_a_later_fact_is_no_correction_and_one_that_says_so_is() -> None:
    join = Join(in_order=True)
    join.ask("r", 0)
    join.label(1, 1, name="first")
    join.label(2, 2)
    join.void(2.5)
    assert join.outcomes["r"] == [("labelled", 1, 1, 0)]
    assert join.pending.unmatched == 2
    join.label(2, 3, name="second", corrects="first")
    join.label(2, 3, corrects="second")  # nothing new
    join.label(3, 3, corrects="nobody")
    join.label(3, 3, key="another", corrects="first")
    join.void(WAIT + CORRECTIONS, corrects="first")
    assert join.outcomes["r"][1:] == [("labelled", 2, 3, 1), ("void", None, WAIT + CORRECTIONS, 2)]
    join.label(4, WAIT + CORRECTIONS + 1, corrects="first")
    assert len(join.outcomes["r"]) == 3
    join.end()
    assert len(join.pending) == 0


def test_a_label_ahead_of_the_watermark_expires_nothing_but_what_it_answers() -> None:
    join = Join(in_order=True)
    join.ask("another", 0, "other")
    join.ask("late", 0)
    join.label(1, 5)
    assert join.outcomes == {"late": [("unlabelled", None, WAIT, 0), ("labelled", 1, 5, 1)]}
    join.label(1, 3, "other")
    assert join.outcomes["another"] == [("labelled", 1, 3, 0)]


def test_a_correction_under_the_id_of_what_it_corrects_leaves_one_prediction() -> None:
    join = Join(in_order=True)
    join.ask("r", 0)
    join.label(1, 1, name="same")
    join.void(2, name="same", corrects="same")
    assert join.outcomes["r"] == [("labelled", 1, 1, 0), ("void", None, 2, 1)]
    assert len(join.pending) == 1
    join.end()
    assert len(join.pending) == 0


def test_what_waits_is_made_known_in_times_order_over_all_keys() -> None:
    join = Join()
    join.ask("expires", 0, "a")
    join.ask("answered", 1, "b")
    join.label(1, WAIT + 0.5, "b")
    join.end()
    assert list(join.outcomes) == ["expires", "answered"]


def test_a_void_is_corrected_by_a_label_that_names_it() -> None:
    join = Join(in_order=True)
    join.ask("r", 0)
    join.void(1, name="cancelled")
    join.label(1, 2)
    join.label(1, 3, corrects="cancelled")
    assert join.outcomes["r"] == [("void", None, 1, 0), ("labelled", 1, 3, 1)]


def test_without_corrections_an_outcome_is_published_once_and_nothing_is_remembered() -> None:
    join = Join(in_order=True, corrections=0, is_corrected=False)
    join.ask("answered", 0, "a")
    join.ask("expired", 0, "b")
    join.label(1, 1, "a", name="first")
    assert len(join.pending) == 1
    join.pending.expire(WAIT + 1, join.known)
    join.label(2, 2, "a", corrects="first")
    join.label(1, WAIT + 1, "b")
    assert join.outcomes == {"answered": [("labelled", 1, 1, 0)], "expired": [("unlabelled", None, WAIT, 0)]}
    assert len(join.pending) == 0


@pytest.mark.parametrize(("answers", "answered"), [("all", "abc"), ("oldest", "a"), ("newest", "c")])
def test_a_label_answers_those_open_requests_before_it_that_are_declared(answers: str, answered: str) -> None:
    join = Join(answers=answers)
    for at, name in enumerate("abcd"):
        join.ask(name, at)
    join.label(1, 2)
    join.end()
    assert (
        "".join(name for name, history in sorted(join.outcomes.items()) if history[0][0] == "labelled")
        == answered
    )


def test_a_label_answers_what_expired_only_where_nothing_is_open() -> None:
    join = Join(in_order=True)
    join.ask("expired", 0)
    join.ask("open", WAIT)
    join.label(1, WAIT + 1)
    assert join.outcomes == {
        "expired": [("unlabelled", None, WAIT, 0)],
        "open": [("labelled", 1, WAIT + 1, 0)],
    }
    join.label(2, WAIT + 2)
    assert join.outcomes["expired"][1:] == [("labelled", 2, WAIT + 2, 1)]


def test_learned_by_deadline_a_label_is_reported_at_once_and_learned_when_its_wait_is_over() -> None:
    join = Join(in_order=True, by_deadline=True, expiry=("labelled", False))
    for at, name in enumerate(("early", "voided", "silent", "corrected", "late")):
        join.ask(name, at, name)
    join.label(True, 4, "early")
    join.void(4, "voided")
    join.label(True, 4, "corrected", name="first")
    join.label(False, 4, "corrected", corrects="first")
    assert join.outcomes["early"] == [("labelled", True, 4, 0)]
    assert join.lessons == {}
    join.pending.expire(4 + WAIT + 0.5, join.known)
    join.label(True, 4 + WAIT + 1, "late")
    assert join.lessons == {
        "early": [(True, False)],
        "silent": [(False, True)],
        "corrected": [(False, False)],
        "late": [(False, True), (True, True)],
    }


Said = tuple[float, str, Any, str, str | None]
"""(when, kind, label, its id, the id that it corrects)"""


def became(at: float, others: Sequence[float], said: Sequence[Said]) -> list[Outcome]:
    """The rules in words, of a request at `at` among requests of its key, and all that is said of the key."""
    in_order = sorted(said, key=lambda s: (s[0], s[4] is not None, s[1] == "void"))
    found: list[Outcome] = []
    answered_by: list[str] = []
    for place, (when, status, label, name, corrects) in enumerate(in_order):
        if when < at or when > at + WAIT + CORRECTIONS:
            continue
        if corrects is None:
            if answered_by:
                continue
            if when > at + WAIT and (
                status == "void" or any(open_at(other, in_order, place) for other in others)
            ):
                continue
        elif corrects not in answered_by:
            continue
        answered_by.append(name)
        if not found and when > at + WAIT:
            found.append(("unlabelled", None, at + WAIT, 0))
        if not found or found[-1][:2] != (status, label):
            found.append((status, label, when, len(found)))
    return found or [("unlabelled", None, at + WAIT, 0)]


def open_at(asked: float, in_order: Sequence[Said], place: int) -> bool:
    """Whether a request still waits for its label when the statement at `place` comes."""
    earlier = any(corrects is None and when >= asked for when, _, _, _, corrects in in_order[:place])
    return asked <= in_order[place][0] <= asked + WAIT and not earlier


kinds = st.sampled_from(["labelled 1", "labelled 2", "void", "correct 1", "correct 2", "withdraw"])
asks = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab")), max_size=6)
statements = st.lists(
    st.tuples(st.integers(0, 20), kinds, st.sampled_from("ab")),
    max_size=8,
    unique_by=lambda s: (s[0], s[1][:5] in ("corre", "withd"), s[1] == "void", s[2]),
)


@settings(max_examples=300)
@given(asks, statements, st.sampled_from(["all", "oldest", "newest"]), st.data())
def test_requests_labels_voids_and_corrections_join_by_the_rules_however_they_interleave(
    asked: list[tuple[int, str]], drawn: list[tuple[int, str, str]], answers: str, data: st.DataObject
) -> None:
    said: dict[str, list[Said]] = {"a": [], "b": []}
    first: dict[str, str] = {}
    for number, (at, what, key) in enumerate(drawn):
        kind, _, value = what.partition(" ")
        name = f"s{number}"
        corrects = first.get(key, "nobody") if kind in ("correct", "withdraw") else None
        first.setdefault(key, name)
        status = "void" if kind in ("void", "withdraw") else "labelled"
        said[key].append((at, status, int(value) if value else None, name, corrects))
    steps: list[Any] = [(at, key, f"r{number}") for number, (at, key) in enumerate(asked)]
    steps += [(s[0], key, s) for key in said for s in said[key]]

    def joined(order: Sequence[int]) -> Join:
        join = Join(in_order=False, answers=answers)
        now = 0.0
        for number in order:
            at, key, what = steps[number]
            now = max(now, at)
            join.pending.expire(now - 100, join.known)
            if isinstance(what, str):
                join.ask(what, at, key)
            else:
                join.pending.answer(Statement(key, what[1], what[2], at, what[3], what[4]), join.known)
        join.end()
        return join

    in_time = joined(sorted(range(len(steps)), key=lambda number: steps[number][0]))
    join = joined(data.draw(st.permutations(range(len(steps)))))
    assert {name: history[-1] for name, history in join.outcomes.items()}.keys() == {
        f"r{n}" for n in range(len(asked))
    }
    if answers == "all":
        assert join.outcomes == {
            f"r{n}": became(at, [other for other, k in asked if k == key], said[key])
            for n, (at, key) in enumerate(asked)
        }
        assert join.outcomes == in_time.outcomes
    elif len(set(asked)) == len(asked):  # of requests of one time, the log's order says which is the older
        assert join.outcomes == in_time.outcomes
    assert join.pending.open == 0
    assert join.pending.due == float("inf")
    assert len(join.pending) == 0
