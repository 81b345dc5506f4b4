"""Dead letters grouped by stage and reason, and what a retry sends for each."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import shop
from parcels import Sent, on_two
from parcels import events as parcel_events

from driftline.infra.errors import InfraError
from driftline.infra.topics.dead_letter_retries import FOLDED_ANEW, REPEATED, Retries
from driftline.infra.topics.dead_letters import (
    BEHIND_THE_LOG,
    FINAL_STAGES,
    DeadLetter,
    LetterId,
    LetterSelection,
    grouped,
)
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.declare.events import Clock
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.errors import Refused
from driftline.streams.records.dead_letter import dead_letter
from driftline.streams.records.positions import headers_of

CODEC = shop.orders.codec()
RETRIES = Retries(shop.orders, "localhost:1", shop.orders.topics("t"))
ORDER = shop.Asked(id="a-1", at=shop.START, order="o1", shop="s1", amount=1.5)
VALUE = CODEC.encode(ORDER)


def letter(
    stage: str,
    reason: str = "why",
    value: bytes = VALUE,
    *,
    key: bytes | None = b"s1",
    offset: int = 0,
    log_partitions: int = 3,
    partition: int = 2,
) -> DeadLetter:
    refused = ArchivedRecord(7, 0, key, value, ())
    output = dead_letter(refused, Refused(stage, reason))
    written = ArchivedRecord(offset, 1_000 * offset, output.key, output.value, tuple(headers_of(output)))
    return DeadLetter.of(partition, written, log_partitions)


def test_a_letter_is_what_its_record_says() -> None:
    read = letter("decode", "Expected `str`", b"\xff{", key=b"\x00\xfe", offset=12)
    assert (read.id, read.source, read.stage, read.is_cut) == (LetterId(2, 12), 7, "decode", False)
    assert read.as_object() == {
        "id": "2:12",
        "source": "2:7",
        "at": "1970-01-01T00:00:12+00:00",
        "stage": "decode",
        "reason": "Expected `str`",
        "key_base64": "AP4=",
        "value_base64": "/3s=",
    }


@pytest.mark.parametrize("text", ["", "7", ":7", "1:", "1:x", "-1:2", "1:2:3"])
def test_what_is_no_letter_id_is_refused(text: str) -> None:
    with pytest.raises(InfraError, match="partition:offset"):
        LetterId.parse(text)


def test_reasons_that_differ_in_values_alone_are_one_group() -> None:
    letters = [
        letter("late", f"at 2024-01-01T00:0{n}:00+00:00 is before the watermark, {n}.5 s", offset=n)
        for n in range(5)
    ]
    letters += [letter("key", f"record key is b'{n}'", offset=n) for n in range(2)]
    letters.append(letter("key", "record key is missing", offset=9))
    late, wrong, missing = grouped(letters)
    assert (late.stage, late.count, late.can_be_retried) == ("late", 5, False)
    assert late.pattern == "at … is before the watermark, … s"
    assert (late.first, late.example.id) == (datetime.fromtimestamp(0, UTC), LetterId(2, 4))
    assert (wrong.count, wrong.can_be_retried, missing.count) == (2, True, 1)


def test_names_with_digits_and_quotes_within_words_stay_in_the_reason_of_a_group() -> None:
    reason = "key b'x3' came in 1: crc32 of confluent's Python or FNV-1a of Ruby's clients"
    (group,) = grouped([letter("partition", reason), letter("partition", reason.replace("x3", "x4"))])
    assert group.pattern == "key … came in …: crc32 of confluent's Python or FNV-1a of Ruby's clients"


def test_a_selection_is_by_id_stage_and_reason() -> None:
    one, other = letter("key", "record key is missing", offset=1), letter("late", "before", offset=2)
    assert LetterSelection().includes(one)
    assert not LetterSelection(ids=frozenset({other.id})).includes(one)
    assert not LetterSelection(stage="late").includes(one)
    assert LetterSelection(stage="key", reason="missing").includes(one)
    assert not LetterSelection(reason="before").includes(one)


def test_what_a_stage_behind_the_log_refused_is_not_sent_as_its_event_would_be_dropped() -> None:
    """The topic has partitions for the stages behind the log after the log's own."""
    behind, own = letter("features", log_partitions=2), letter("features")
    assert RETRIES.plan(behind).problem == BEHIND_THE_LOG
    assert not RETRIES.plan(own).problem
    assert behind.as_object()["source"] is None
    assert {group.can_be_retried: group.count for group in grouped([own, behind, own])} == {True: 2, False: 1}


@pytest.mark.parametrize("stage", sorted(FINAL_STAGES))
def test_stages_that_a_retry_cannot_help_are_named_with_the_reason(stage: str) -> None:
    assert RETRIES.plan(letter(stage)).problem == FINAL_STAGES[stage]


@pytest.mark.parametrize("stage", ["key", "partition", "time", "features", "label", "schema"])
def test_an_event_goes_where_it_belongs_under_its_own_key(stage: str) -> None:
    retry = RETRIES.plan(letter(stage, key=b"somebody"))
    assert retry.problem == ""
    assert (retry.key, retry.value) == (b"s1", VALUE)
    assert retry.partition == partition_of(b"s1", shop.orders.partitions)


LABEL = CODEC.encode(shop.settled(1, 5.0, "s1"))
HOME = partition_of(b"s1", shop.orders.partitions)


def problem_of(letter: DeadLetter, taken_over: int) -> str:
    """Why a letter is not retried, where the code that serves came to this offset of each partition."""
    taken = dict.fromkeys(range(shop.orders.partitions), taken_over)
    return Retries(shop.orders, "localhost:1", shop.orders.topics("t"), taken).plan(letter).problem


def test_what_the_code_that_serves_has_folded_anew_is_not_sent_unless_its_place_was_wrong() -> None:
    """Code that took over has accepted at its place what the code before had refused there."""
    source = letter("decode").source
    assert source is not None
    for stage in ("decode", "features", "label", "schema"):
        of_label = letter(stage, value=LABEL, partition=HOME)
        assert problem_of(of_label, source) == ""
        assert problem_of(of_label, source + 1) == FOLDED_ANEW
    its_time_may_have_come = letter("time", value=LABEL, partition=HOME)
    assert problem_of(its_time_may_have_come, source + 1) == ""
    assert problem_of(letter("key", value=LABEL, key=b"somebody", partition=HOME), source + 1) == ""
    astray = letter("partition", value=LABEL, partition=(HOME + 1) % shop.orders.partitions)
    assert problem_of(astray, source + 1) == ""


def test_a_request_that_was_refused_before_an_upgrade_can_be_retried() -> None:
    """The code that took over has left it out. The stages of a chain know the newest of them."""
    request = letter("features", partition=HOME)
    assert request.source is not None
    assert problem_of(request, request.source + 1) == ""
    topics = on_two.topics("t")
    parcel = next(event for event in parcel_events() if isinstance(event, Sent))
    home = partition_of(parcel.sender.encode(), 2)
    of_parcel = letter(
        "features", value=on_two.codec().encode(parcel), key=parcel.sender.encode(), partition=home
    )
    for unanswered, problem in (((parcel.id,), ""), (("another",), REPEATED)):
        taken = {home: request.source + 1}
        assert Retries(on_two, "localhost:1", topics, taken, unanswered).plan(of_parcel).problem == problem


def test_a_fact_for_every_partition_goes_to_the_one_that_refused_it() -> None:
    case = replace(shop.orders, events=(*shop.orders.events, shop.Product))
    fact = shop.Product(id="p-1", at=shop.START, product="book", weight=1.0)
    retries = Retries(case, "localhost:1", case.topics("t"))
    retry = retries.plan(letter("time", value=case.codec().encode(fact), key=None))
    assert (retry.partition, retry.key, retry.problem) == (2, None, "")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "no value|truncated"),
        (b"{", "still refused"),
        (msgspec.json.encode({**json.loads(VALUE), "colour": "red"}), "still refused.*colour"),
        (msgspec.json.encode({**json.loads(VALUE), "amount": 1e300}), "still refused.*amount"),
        (msgspec.json.encode(Clock(id="c", at=shop.START)), "event of driftline itself"),
    ],
)
def test_what_the_declaration_refuses_now_is_not_sent(value: bytes, problem: str) -> None:
    assert re.search(problem, RETRIES.plan(letter("decode", value=value)).problem)


def test_a_letter_that_was_cut_says_so_and_is_not_sent_above_the_limit_of_the_case() -> None:
    value = VALUE + b" " * 2_000_000
    cut = letter("decode", value=value)
    assert (cut.is_cut, cut.whole_length) == (True, len(value))
    assert cut.as_object()["value_sha256"] == hashlib.sha256(value).hexdigest()
    assert "exceed the case's limit" in RETRIES.plan(cut).problem


def test_groups_are_in_the_order_of_their_size() -> None:
    later = [letter("label", "field 'bad' is null", offset=n) for n in range(3)]
    sizes = [group.count for group in grouped([letter("size"), *later])]
    assert sizes == [3, 1]
    assert grouped(later)[0].example.at - grouped(later)[0].first == timedelta(seconds=2)
