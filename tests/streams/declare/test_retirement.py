"""A field that nobody needs goes; what was learned from events that have it stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fields import orders_asked_by
from shop import START

from driftline import Event, UseCase
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.errors import DeclarationError, Refused
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.simulation.sources import LogRecord, open_source


class Asked(Event, tag="asked", retired=("note", "colour")):
    order: str
    shop: str
    amount: float


class Tolerant(Event, tag="asked", forbid_unknown_fields=False):
    order: str
    shop: str
    amount: float


RETIRED, TOLERANT = orders_asked_by(Asked), orders_asked_by(Tolerant)


def raw(**more: Any) -> bytes:
    event = {"type": "asked", "id": "a1", "at": START.isoformat(), "order": "1", "shop": "s", "amount": 2.5}
    return json.dumps(event | more).encode()


def refused(case: UseCase, value: bytes) -> str:
    with pytest.raises(Refused) as found:
        case.codec().decode(value, b"s")
    return found.value.reason


def test_old_events_are_read_without_what_is_retired() -> None:
    bare = RETIRED.codec().decode(raw(), b"s")
    assert RETIRED.codec().decode(raw(colour="red", note={"deep": [1, None]}), b"s") == bare
    assert RETIRED.codec().encode(bare).count(b"colour") == 0


def test_the_fold_gives_what_it_gave() -> None:
    def folded(value: bytes) -> Any:
        out = PartitionProcessor(RETIRED, 0).step([LogRecord(0, b"s", value)])
        return out.predictions, out.dead_letters

    assert folded(raw(colour="red")) == folded(raw())
    assert len(folded(raw(colour="red"))[0]) == 1


def test_other_unknown_fields_are_refused_as_ever_and_so_is_a_field_said_twice() -> None:
    assert "unknown field `size`" in refused(RETIRED, raw(size=3))
    assert "unknown field `size`" in refused(RETIRED, raw(colour="red", size=3))
    twice = raw(colour="red").replace(b'"shop": "s"', b'"shop": "s", "shop": "s"')
    assert "'shop' twice" in refused(RETIRED, twice)
    assert "'colour' twice" in refused(RETIRED, raw(colour=1).replace(b'"shop"', b'"colour": 2, "shop"'))


@pytest.mark.parametrize(
    "value", [b"[]", b'{"type": 3}', b'{"type": ["asked"], "colour": 1}', b'{"colour": 1']
)
def test_what_is_no_event_is_refused_with_its_reason(value: bytes) -> None:
    assert refused(RETIRED, value)


def test_a_type_may_let_producers_send_more_than_it_knows() -> None:
    assert TOLERANT.codec().decode(raw(size=3), b"s") == TOLERANT.codec().decode(raw(), b"s")
    twice = raw(size=3).replace(b'"shop": "s"', b'"shop": "s", "shop": "w"')
    assert "'shop' twice" in refused(TOLERANT, twice)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_files_of_old_events_are_sources_still(tmp_path: Path, suffix: str) -> None:
    row = json.loads(raw(colour="red", id="a1"))
    text = (
        raw(colour="red").decode()
        if suffix == "jsonl"
        else f"{','.join(row)}\n{','.join(map(str, row.values()))}"
    )
    path = tmp_path / f"old.{suffix}"
    path.write_text(text)
    assert [event.id for event in open_source(RETIRED, str(path))] == ["a1"]


def test_a_field_cannot_be_retired_and_there() -> None:
    with pytest.raises(DeclarationError, match="'order' is a field and retired"):

        class Both(Event, tag="both", retired=("order",)):
            order: str

    with pytest.raises(DeclarationError, match=r'write retired=\("order",\)'):

        class Text(Event, tag="text", retired="order"):
            shop: str


def test_a_subclass_keeps_what_its_base_has_retired() -> None:
    class Again(Asked, tag="asked again", retired=("shade",)):
        pass

    assert Again.__retired__ == ("note", "colour", "shade")


def test_retiring_is_other_code_and_in_the_schema() -> None:
    assert RETIRED.spec_hash != orders_asked_by(Tolerant).spec_hash

    class More(Asked, tag="asked", retired=("shade",)):
        pass

    assert orders_asked_by(More).spec_hash != RETIRED.spec_hash
    log = topic_schemas(RETIRED)["orders.events"]
    assert log["$defs"]["Asked"]["properties"]["colour"]["deprecated"] is True
    assert msgspec.json.encode(log)
