"""The bytes made by hand are the bytes that Feast makes."""

from __future__ import annotations

import struct

import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.features.online.stores import wire
from tests.feast_keys import entity_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.floats())
@example(0.0)
@example(-0.0)
def test_a_real_value_is_feasts(value: float) -> None:
    assert wire.real_value(value) == Value(double_val=value).SerializeToString()


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 70_000))
@example(0)
@example(-1)
@example(127)
@example(128)
@example(2**63 - 1)
@example(-(2**63))
def test_a_whole_value_is_feasts(value: int) -> None:
    assert wire.whole_value(value) == Value(int64_val=value).SerializeToString()


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_whole_value_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(OverflowError, match="64 bits"):
        wire.whole_value(value)


def test_a_real_value_must_be_a_number() -> None:
    with pytest.raises(struct.error):
        wire.real_value("2")  # type: ignore[arg-type]


def test_a_missing_value_is_feasts() -> None:
    assert Value().SerializeToString() == wire.MISSING


@given(st.dictionaries(TEXT.filter(bool), TEXT, min_size=1, max_size=4))
def test_an_entity_key_is_feasts(parts: dict[str, str]) -> None:
    names, values = tuple(parts), tuple(parts.values())
    theirs = serialize_entity_key(entity_key(names, values), entity_key_serialization_version=3)
    assert wire.entity_keys(names)(values) == theirs


@given(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1))
@example(-0.0)
@example(-1)
def test_a_value_comes_back(value: float) -> None:
    encoded = wire.whole_value(value) if isinstance(value, int) else wire.real_value(value)
    found = wire.value(bytes(encoded))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("encoded", [None, b"", Value().SerializeToString()])
def test_a_missing_value_comes_back_as_none(encoded: bytes | None) -> None:
    assert wire.value(encoded) is None


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="neither real nor whole"):
        wire.value(Value(string_val="a").SerializeToString())


@given(st.integers(-(2**55), 2**55))
@example(0)
@example(-1)
@example(1_357_034_400_000_001)
def test_a_timestamp_is_protobufs_and_comes_back(microseconds: int) -> None:
    seconds, rest = divmod(microseconds, 1_000_000)
    encoded = wire.timestamp(microseconds)
    assert encoded == Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString()
    assert wire.decoded_microseconds(encoded) == microseconds
