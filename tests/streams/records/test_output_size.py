"""Every output fits its topic, whatever comes in; what cannot fit is refused before it changes anything."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import shop
from river import naive_bayes

from driftline import (
    HOUR,
    Event,
    Label,
    Member,
    Multiclass,
    PerKey,
    Reference,
    UseCase,
    derive,
    field,
    lookup,
)
from driftline.streams.declare.event_codec import LONGEST_KEY
from driftline.streams.declare.topics import INPUT_LIMIT, OUTPUT_LIMITS
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.outbox import Outbox, OutputTooLarge
from driftline.streams.records.dead_letter import CUT_KEY, CUT_VALUE
from driftline.streams.records.output_size import CLASSES, LONGEST_CLASS, shortened
from driftline.streams.records.outputs import KINDS, Output, Outputs
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import NOTHING
from driftline.streams.simulation.sources import LogRecord


class Sorted(Event, tag="sorted"):
    mail: str
    box: str
    text: str = ""
    label: str = ""


class Note(Reference, tag="note"):
    box: str
    text: str


def mail(**changes: Any) -> UseCase:
    """Mail that is sorted into classes: its text is a feature three times over."""
    declared = UseCase(
        "mail",
        key="box",
        events=[Sorted, Note],
        features={
            "text": field("text"),
            "again": derive(lambda e: e.text * 2),
            "note": lookup(Note, "text", by="box"),
        },
        task=Multiclass(
            "label", ask=Sorted, label=Label(Sorted, on="mail", value=lambda e: e.label or None, wait=HOUR)
        ),
        models=PerKey(champion=Member("bayes", naive_bayes.GaussianNB)),
        max_event_bytes=INPUT_LIMIT,
    )
    return replace(declared, **changes)


def sorted_mail(n: int, box: str = "b", **fields: Any) -> Sorted:
    at = shop.START + timedelta(seconds=n)
    return Sorted(id=f"mail-{n}", at=at, mail=f"m{n}", box=box, **fields)


def folded(case: UseCase, *events: Event) -> tuple[PartitionProcessor, Outputs]:
    codec = case.codec()
    processor, out = PartitionProcessor(case, 0), Outputs()
    for offset, event in enumerate(events):
        record = LogRecord(offset, codec.key(event), codec.encode_trusted(event))
        out.extend(processor.step([record]))
    for kind in KINDS:
        for output in getattr(out, kind):
            assert len(output.value) + len(output.key or b"") <= OUTPUT_LIMITS[kind]
    return processor, out


def refusals(out: Outputs) -> list[tuple[str, str]]:
    return [(dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode()) for o in out.dead_letters]


def test_a_record_that_no_topic_takes_is_reported_by_its_beginning_length_hash_and_place() -> None:
    bomb = b"[" * 5_000_000
    out = PartitionProcessor(shop.orders, 0).step([LogRecord(7, b"s", bomb)])
    (letter,) = out.dead_letters
    headers = dict(letter.headers)
    assert letter.value == bomb[:CUT_VALUE]
    assert headers["value-length"] == b"5000000"
    assert headers["value-sha256"].decode() == hashlib.sha256(bomb).hexdigest()
    assert "the whole record is at offset 7 of this partition" in headers["reason"].decode()
    assert letter.key == b"s"
    assert "key-length" not in headers


def test_a_key_that_no_topic_takes_is_cut_as_well() -> None:
    key = b"k" * 2_000_000
    (letter,) = PartitionProcessor(shop.orders, 0).step([LogRecord(0, key, b"{}")]).dead_letters
    assert (letter.key, letter.value) == (key[:CUT_KEY], b"{}")
    assert dict(letter.headers)["key-sha256"].decode() == hashlib.sha256(key).hexdigest()


def test_what_fits_is_reported_verbatim_up_to_the_last_byte() -> None:
    for size, cut in ((INPUT_LIMIT - 1, False), (INPUT_LIMIT, True)):
        (letter,) = PartitionProcessor(shop.orders, 0).step([LogRecord(0, b"s", b"[" * size)]).dead_letters
        assert (len(letter.value) < size) is cut


@pytest.mark.parametrize("text", ["x" * 300_000, "\x01" * 60_000])
def test_a_request_whose_answer_would_not_fit_is_refused_and_leaves_nothing_behind(text: str) -> None:
    case = mail()
    processor, out = folded(case, sorted_mail(1, text=text))
    assert [stage for stage, _ in refusals(out)] == ["size"]
    assert out.predictions == []
    assert processor.intake.label_join.open == 0
    assert processor.intake.max_at is None


def test_a_text_that_comes_from_elsewhere_counts() -> None:
    note = Note(id="n", at=shop.START, box="b", text="x" * 700_000)
    _, out = folded(mail(), note, sorted_mail(1, text="short"))
    assert [stage for stage, _ in refusals(out)] == ["size"]


def test_a_request_that_fits_is_answered_however_long_its_texts_are() -> None:
    _, out = folded(mail(), sorted_mail(1, text="x" * 200_000))
    assert json.loads(out.predictions[0].value)["features"]["again"] == "x" * 400_000
    assert refusals(out) == []


def test_a_key_is_as_long_as_it_may_be_in_every_output_about_it() -> None:
    _, out = folded(mail(), sorted_mail(1, "k" * LONGEST_KEY), sorted_mail(2, "k" * (LONGEST_KEY + 1)))
    assert len(out.predictions) == 1
    assert [stage for stage, _ in refusals(out)] == ["key"]


def test_classes_are_as_many_as_an_answer_has_room_for() -> None:
    labels = [f"{n}-" + "c" * (LONGEST_CLASS // 2) for n in range(2 * CLASSES // LONGEST_CLASS + 10)]
    events = [sorted_mail(n, label=label) for n, label in enumerate(labels)]
    _, out = folded(mail(), *events, sorted_mail(10_000, label=labels[0]))
    refused = [reason for stage, reason in refusals(out) if stage == "label"]
    assert 0 < len(refused) < 20
    assert "one class too many" in refused[0]
    known = len(events) - len(refused)
    assert len(json.loads(out.predictions[-1].value)["probabilities"]) == known
    assert len(out.outcomes) == known + 1


def test_one_class_is_no_essay() -> None:
    _, out = folded(mail(), sorted_mail(1, label="c" * LONGEST_CLASS))
    assert [stage for stage, _ in refusals(out)] == ["label"]


class Untouched:
    """An appender that nothing must reach."""

    async def append(self, outputs: Mapping[Place, Sequence[Output]]) -> Mapping[Place, int]:
        raise AssertionError(f"{outputs} was sent")

    async def close(self) -> None:
        """Nothing is open."""


def test_an_output_that_its_topic_never_takes_is_reported_and_not_sent() -> None:
    places = {kind: Place(kind, 0) for kind in KINDS}
    tails = dict.fromkeys(KINDS, NOTHING)
    outbox = Outbox(
        Untouched(), places, {}, tails, {}, lambda target: Place("shop.between", target.partition)
    )
    large = Output(3, 0, b"k", b"x" * INPUT_LIMIT)
    with pytest.raises(OutputTooLarge, match="offset 3 of the log puts out 1,048,589 bytes"):
        asyncio.run(outbox.send(Outputs(drift=[large]), 4))


def test_texts_of_the_data_are_shortened_where_only_their_beginning_is_reported() -> None:
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 200 + "... (201 characters)"
