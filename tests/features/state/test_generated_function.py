"""Functions that are written for a declaration do what it says, whatever its names are."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from driftline.features.declare.constructors import field, mean
from driftline.features.declare.declaration import HOUR
from driftline.features.errors import FeatureValueError
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.generated_function import GeneratedFunction, attributes

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_block_without_lines_is_not_written() -> None:
    routine = GeneratedFunction("sign", "value")
    routine.block("if value < 0:", ["return -1"])
    routine.block("if value == 0:", [])
    routine.line("return 1")
    sign = routine.function()
    assert [sign(-5), sign(0), sign(5)] == [-1, 1, 1]


@pytest.mark.parametrize(("fields", "key"), [(("shop",), "s"), (("shop", "class"), ("s", 1))])
def test_a_key_is_a_field_or_a_tuple_of_several_even_where_python_has_a_word_of_that_name(
    fields: tuple[str, ...], key: Any
) -> None:
    routine = GeneratedFunction("key", "event")
    routine.line(f"return {attributes('event', fields)}")
    assert routine.function()(SimpleNamespace(**{"shop": "s", "class": 1})) == key


def test_routines_of_one_source_have_their_own_constants() -> None:
    def returning(value: int) -> Any:
        routine = GeneratedFunction("constant")
        routine.line(f"return {routine.constant(value)}")
        return routine.function()

    one, two = returning(1), returning(2)
    assert (one(), two()) == (1, 2)


def test_a_traceback_shows_the_line_that_was_written() -> None:
    routine = GeneratedFunction("broken", "value")
    routine.line("return 1 / value")
    with pytest.raises(ZeroDivisionError) as raised:
        routine.function()(0)
    assert "return 1 / value" in "".join(traceback.format_tb(raised.tb))


@pytest.mark.parametrize(
    "name", ['it\'s "quoted"', "two\nlines", "{braces}", "class", "request", "v0", "Größe"]
)
def test_features_and_fields_may_have_any_name(name: str) -> None:
    word = "class"
    shared: list[Any] = [("id", str), ("at", datetime), ("shop", str), (word, float | None)]
    paid = msgspec.defstruct("Paid", shared, frozen=True)
    asked = msgspec.defstruct("Asked", shared, frozen=True)
    state = FeatureState({name: field(word), "m": mean(paid, word, by="shop", over=HOUR)}, asked)
    at = NOON.timestamp()
    assert state.read(asked("r", NOON, "s", None), at) == {}
    state.update(paid("p", NOON, "s", 8.0), at)
    assert state.read(asked("r", NOON, "s", 2.0), at) == {name: 2.0, "m": 8.0}


def test_an_interrupt_in_user_code_is_no_refusal() -> None:
    asked = msgspec.defstruct("Asked", [("id", str), ("at", datetime), ("shop", str)], frozen=True)
    paid = msgspec.defstruct("Paid", [("id", str), ("at", datetime), ("shop", str)], frozen=True)

    def value(event: Any) -> float:
        raise KeyboardInterrupt if event.id == "stop" else ValueError("no value")

    state = FeatureState({"m": mean(paid, value, by="shop", over=HOUR)}, asked)
    with pytest.raises(FeatureValueError, match="its function raised"):
        state.update(paid("p", NOON, "s"), NOON.timestamp())
    with pytest.raises(KeyboardInterrupt):
        state.update(paid("stop", NOON, "s"), NOON.timestamp())
