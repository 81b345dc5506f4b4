"""A process that folds collects garbage seldom, and by Python's own rhythm afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from driftline import garbage_collection
from driftline.garbage_collection import NEW_OBJECTS, Garbage, seldom_collected


@contextmanager
def _collections() -> Iterator[list[int]]:
    """The generation of every collection that happens within."""
    generations: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    gc.callbacks.append(note)
    try:
        yield generations
    finally:
        gc.callbacks.remove(note)


def test_what_a_step_holds_is_not_walked_through() -> None:
    gc.collect()
    with seldom_collected(), _collections() as generations:
        held = [[number] for number in range(NEW_OBJECTS // 2)]
    assert generations == []
    assert len(held) == NEW_OBJECTS // 2


def test_garbage_is_collected_all_the_same() -> None:
    gc.collect()
    with seldom_collected(), _collections() as generations:
        held = [[number] for number in range(NEW_OBJECTS + 1_000)]
    assert generations == [0]
    assert held


def test_afterwards_python_collects_as_before() -> None:
    before = gc.get_threshold()
    with seldom_collected():
        assert gc.get_threshold() == (NEW_OBJECTS, *before[1:])
    assert gc.get_threshold() == before
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold() == before


def test_what_imports_made_is_set_apart_before_the_first_event() -> None:
    gc.unfreeze()
    try:
        garbage = Garbage()
        assert gc.get_freeze_count() > 10_000
        with _collections() as generations:
            garbage.look()
        assert generations == []
    finally:
        gc.unfreeze()


class _Knot:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.own = self


def test_a_look_when_it_is_due_collects_and_sets_apart_what_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.unfreeze()
    try:
        garbage = Garbage()
        before = gc.get_freeze_count()
        held = [[number] for number in range(1_000)]
        loose = weakref.ref(_Knot())
        monkeypatch.setattr(garbage_collection, "TIDY_EVERY", -1.0)
        with _collections() as generations:
            garbage.look()
        assert generations == [2]
        assert loose() is None
        assert gc.get_freeze_count() >= before + len(held)
    finally:
        gc.unfreeze()


def test_garbage_among_what_is_set_apart_is_freed_by_a_collection_of_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gc.unfreeze()
    try:
        loose = weakref.ref(_Knot())
        garbage = Garbage()
        monkeypatch.setattr(garbage_collection, "TIDY_EVERY", -1.0)
        garbage.look()
        assert loose() is not None
        monkeypatch.setattr(garbage_collection, "COLLECT_EVERY", -1.0)
        garbage.look()
        assert loose() is None
    finally:
        gc.unfreeze()
