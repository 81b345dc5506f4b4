"""What is packed comes back as it was, and nothing that is put out depends on what is packed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.features.state import key_index
from driftline.features.state.key_index import KeyIndex, hashes_of
from driftline.features.state.segment_store import IN_MEMORY
from driftline.online_models.pool.pool import Forecast
from driftline.streams.code.fold_version import recorded
from driftline.streams.code.state_hash import state_hash
from driftline.streams.fold.processor import pickled
from driftline.streams.waiting import queue as waiting_queue
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction, in_order_of_deadlines
from driftline.streams.waiting.queue import WaitingQueue

VALUES = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.text(), st.sampled_from([Decimal("1.10"), np.float64(0.1)])
)


def pending(name: str, deadline: float, label_key: Any = "k", number: int = 0) -> PendingPrediction:
    return PendingPrediction(
        f"{name}:t", name, deadline - 10, "p", label_key, {}, {}, deadline, number=number
    )


@given(
    x=st.none() | st.dictionaries(st.sampled_from("abcd"), st.none() | VALUES),
    keys=st.dictionaries(st.sampled_from("kl"), st.none() | st.text() | st.integers()),
    output=st.none() | VALUES | st.dictionaries(st.booleans() | st.text(), st.floats()),
    prediction_id=st.sampled_from(["e1", "e1:task", "other", ""]),
    is_closed=st.booleans(),
    label=VALUES,
)
def test_every_value_comes_back_with_its_type(
    x: dict[str, Any] | None,
    keys: dict[str, Any],
    output: Any,
    prediction_id: str,
    is_closed: bool,
    label: Any,
) -> None:
    packing = Packing(("k", "l"), ("a", "b", "c", "d"))
    one = PendingPrediction(prediction_id, "e1", 1.5, "p", datetime(2024, 1, 1, tzinfo=UTC), keys, x, 3.5)
    if output is not None:
        one.forecast = Forecast("m", "m@0:1", 1, output, (output, None), row=3, unanswered=(1,))
        one.prediction = output
    if is_closed:
        one.status, one.label, one.learned, one.revision, one.answered_by = (
            "labelled",
            label,
            True,
            1,
            ("l1",),
        )
    packed = packing.pack(one)
    again = packing.unpack(packed)
    assert state_hash(again) == state_hash(one)  # of values by their types, floats by their bits
    assert packing.pack(again) == packed
    assert packing.label_key(packed) == one.label_key


@pytest.fixture
def packs_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_queue, "UNPACKED", 0)
    monkeypatch.setattr(waiting_queue, "SEGMENT", 3)


@pytest.mark.usefixtures("packs_everything")
def test_golden_digests_and_states_do_not_depend_on_what_is_packed() -> None:
    from tests.golden.cases import golden

    assert golden() == recorded().golden


def _taken(queue: WaitingQueue, time: float) -> Iterator[int]:
    while (one := queue.take_due(time)) is not None:
        yield one.number


@pytest.mark.usefixtures("packs_everything")
def test_predictions_fall_due_in_order_packed_or_not_and_after_a_restore() -> None:
    random = Random(1)
    packing = Packing((), ())
    queue = WaitingQueue(packing, IN_MEMORY, lambda _: None)
    kept: list[PendingPrediction] = []
    due: list[int] = []
    for number in range(2_000):
        one = pending(f"e{number}", float(random.randrange(number, number + 50)), number % 40, number)
        queue.add(one)
        kept.append(one)
        action = random.randrange(5)
        if action == 0:
            queue.pack(lambda _: False)
        elif action == 1:
            queue.unpack(random.randrange(40))
        elif action == 2 and number % 7 == 0:
            stored = pickle.loads(pickled(queue.state(lambda _: False)))
            if number % 2:
                queue = WaitingQueue(packing, IN_MEMORY, lambda _: None)
            queue.restore(stored)  # one in use too goes on from this alone
        elif action == 3:
            due += _taken(queue, number - 100.0)
    due += _taken(queue, 10_000.0)
    assert len(queue) == 0
    assert due == [one.number for one in sorted(kept, key=in_order_of_deadlines)]


@pytest.mark.usefixtures("packs_everything")
def test_predictions_are_passed_by_unread_exactly_those_that_would_fall_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(2)
    packing = Packing((), ())
    passing, taking = (WaitingQueue(packing, IN_MEMORY, lambda _: None) for _ in range(2))
    for number in range(600):
        deadline = float(random.randrange(number, number + 50))
        for queue in (passing, taking):
            queue.add(pending(f"e{number}", deadline, number % 40, number))
            queue.pack(lambda _: False)
            if number % 9 == 0:  # some are taken out from between others
                queue.unpack(number % 40)
        if number % 5 == 0:
            while taking.take_due(number - 20.0, 10.5) is not None:
                continue
            with monkeypatch.context() as patched:
                patched.setattr(Packing, "unpack", None)
                passing.pass_by(number - 20.0, 10.5)
            while passing.take_due(number - 20.0, 10.5) is not None:  # those that are not packed
                continue
            assert len(passing) == len(taking)
    assert list(_taken(passing, 10_000.0)) == list(_taken(taking, 10_000.0))


@pytest.mark.usefixtures("packs_everything")
def test_a_label_key_finds_all_its_predictions_equal_keys_being_one() -> None:
    found: list[int] = []
    queue = WaitingQueue(Packing((), ()), IN_MEMORY, lambda one: found.append(one.number))
    for number, label_key in enumerate([1, "1", 1.0, True, 2, None, "1", (1, "a")]):
        queue.add(pending(f"e{number}", 100.0 - number, label_key, number))
    queue.add(pending("rest", 100.0, "rest", 8))
    queue.pack(lambda _: False)
    for label_key, numbers in ((1, [0, 2, 3]), ("1", [1, 6]), ((1, "a"), [7]), (None, [5]), ("none", [])):
        found.clear()
        queue.unpack(label_key)
        assert sorted(found) == numbers


@pytest.mark.usefixtures("packs_everything")
@pytest.mark.parametrize("probe", ["driftline", "of another process"])
@pytest.mark.parametrize("keys", [[1, "1", (1, "a"), "a"], [None, "a", ("a", None), 1]])
def test_a_restore_finds_label_keys_by_their_hashes_or_reads_them(
    probe: str, keys: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    before = WaitingQueue(Packing((), ()), IN_MEMORY, lambda _: None)
    for number in range(40):
        before.add(pending(f"e{number}", float(number), keys[number % 4], number))
        before.pack(lambda _: False)
    assert len(list(_taken(before, 10.5))) == 11
    before.unpack("a")
    before.pack(lambda _: False)
    stored = pickle.loads(pickled(before.state(lambda _: False)))
    monkeypatch.setattr(key_index, "_PROBE", probe)
    read = Mock(wraps=Packing.label_key)
    monkeypatch.setattr(Packing, "label_key", staticmethod(read))
    again = WaitingQueue(Packing((), ()), IN_MEMORY, lambda one: found.append(one.number))
    again.restore(stored)
    assert read.called is (None in keys or probe != "driftline")
    objects, found[:] = list(found), []
    for of_key, key in enumerate(keys):
        again.unpack(key)
        found += [number for number in objects if number % 4 == of_key]
        assert sorted(found) == [number for number in range(of_key, 40, 4) if number >= 11]
        found.clear()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200))
def test_an_index_forgets_what_is_gone_and_nothing_else(added: list[tuple[int, bool]]) -> None:
    index = KeyIndex()
    index.add(np.arange(len(added)), hashes_of(label_key for label_key, _ in added))
    index.clean(len(added), 1, lambda place: added[place][1])
    for label_key in range(6):
        left = [place for place, (key, is_gone) in enumerate(added) if key == label_key and not is_gone]
        assert index.places(hash(label_key)) == left
    assert index.entries == sum(not is_gone for _, is_gone in added)


@pytest.mark.parametrize("full", [1, 2, 64])
def test_an_index_finds_the_same_with_few_buckets_and_with_many(
    full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "_FULL", full)
    index, random = KeyIndex(), Random(3)
    expected: dict[int, list[int]] = {}
    for begin in range(0, 60_000, 1_500):
        some = [random.randrange(-300, 300) if n % 2 else hash(str(random.random())) for n in range(1_500)]
        index.add(np.arange(begin, begin + 1_500), np.array(some))
        for place, hashed in enumerate(some, begin):
            expected.setdefault(hashed, []).append(place)
    assert index.entries == 60_000
    assert {len(index._buckets)} <= {1 << 11, 1 << 14}
    assert all(index.places(hashed) == places for hashed, places in expected.items())
    assert not any(index.places(hash(str(number))) for number in range(1_000))


def test_an_index_takes_little_memory_for_few_and_for_many() -> None:
    for count in (2_048, 20_480, 300_000):
        index = KeyIndex()
        index.add(np.arange(count), hashes_of(f"p{number}" for number in range(count)))
        assert index.memory < 20 * count


@pytest.mark.usefixtures("packs_everything")
def test_an_index_stays_small_while_predictions_come_and_go() -> None:
    queue = WaitingQueue(Packing((), ()), IN_MEMORY, lambda _: None)
    for number in range(6_000):
        queue.add(pending(f"e{number}", float(number), number, number))
        queue.pack(lambda _: False)
        if number >= 300:
            assert queue.take_due(number - 299.5) is not None
            assert queue._packed._index.entries <= 3 * len(queue)
