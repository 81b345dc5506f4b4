"""The audit over records in memory: what is equal, what is not, and what cannot be known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import shop

from driftline.infra.proof.audit import AuditReport
from driftline.streams.archive.epochs import UNRECORDED, Code, CodeEpoch, epoch_output
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.audit import (
    DELETED,
    AuditedRange,
    PartitionAudit,
    PublishedTopic,
    audit_partition,
)
from driftline.streams.records.difference import LIKELY_CAUSES, Difference, DifferenceKind
from driftline.streams.records.outputs import KINDS, Output, Outputs
from driftline.streams.records.positions import NOTHING, SourcePosition, headers_of
from driftline.streams.simulation.sources import layout

CASE = shop.orders
PARTITION = 0
CODE = Code("a" * 64, Fingerprint("3.11", "b" * 64, "c" * 64))
OTHER_ARITHMETIC = Code(CODE.spec_hash, Fingerprint("3.11", "d" * 64, "c" * 64))
OTHER_CODE = Code("e" * 64, CODE.fingerprint)


@pytest.fixture(scope="module")
def log() -> list[ArchivedRecord]:
    """The log of one partition: orders, labels, a corrected one, a record that is no event."""
    events = [
        *shop.trade(120),
        shop.settled(118, 119.8, "w", bad=1.0, id="corrected"),
        shop.settled(119, 119.9, bad=0.0, id="also corrected"),
    ]
    placed = [r for partition, r in layout(CASE, events, 2) if partition == PARTITION]
    values: list[tuple[bytes | None, bytes]] = [(r.key, r.value) for r in placed]
    values.insert(40, (b"s", b"\xff no event"))
    return [ArchivedRecord(n, 0, key, value, ()) for n, (key, value) in enumerate(values)]


@pytest.fixture(scope="module")
def folded(log: list[ArchivedRecord]) -> Outputs:
    return PartitionProcessor(CASE, PARTITION).step(log)


@pytest.fixture
def topics(folded: Outputs) -> dict[str, list[ArchivedRecord]]:
    """What a worker publishes of that log: a code epoch, then the outputs."""
    published = {kind: [*map(as_record, getattr(folded, kind))] for kind in KINDS}
    published["models"] = [epoch(CODE), *published["models"]]
    return {kind: renumbered(records) for kind, records in published.items()}


def as_record(output: Output) -> ArchivedRecord:
    return ArchivedRecord(0, 0, output.key, output.value, tuple(headers_of(output)))


def epoch(code: Code, tails: dict[str, SourcePosition] | None = None, from_offset: int = 0) -> ArchivedRecord:
    return as_record(
        epoch_output(CodeEpoch(PARTITION, from_offset, code, tails or dict.fromkeys(KINDS, NOTHING)))
    )


def renumbered(records: Sequence[ArchivedRecord]) -> list[ArchivedRecord]:
    return [record._replace(offset=n) for n, record in enumerate(records)]


def chunks(records: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (records[i : i + size] for i in range(0, len(records), size))


def audit(
    log: list[ArchivedRecord],
    topics: dict[str, list[ArchivedRecord]],
    *,
    selection: AuditedRange = AuditedRange(),  # noqa: B008
    chunk: int = 7,
    codes: list[CodeEpoch] | None = None,
) -> PartitionAudit:
    if codes is None:
        codes = [CodeEpoch(PARTITION, 0, CODE, dict.fromkeys(KINDS, NOTHING))]
    published = {
        kind: PublishedTopic(kind, records[0].offset if records else 0, chunks(records, 5))
        for kind, records in topics.items()
    }
    fold = PartitionProcessor(CASE, PARTITION).step
    end = len(log) if selection.end is None else selection.end
    *_, found = audit_partition(PARTITION, CODE, codes, chunks(log[:end], chunk), published, fold, selection)
    return found


def positions(records: Sequence[ArchivedRecord]) -> list[SourcePosition]:
    found = [dict(r.headers).get("source") for r in records]
    return [tuple(map(int, source.decode().split(":"))) for source in found if source]  # type: ignore[misc]


def altered(record: ArchivedRecord, path: Sequence[str], value: Any) -> ArchivedRecord:
    """The record with one value of its JSON changed, written as the fold writes it."""
    content = msgspec.json.decode(record.value or b"")
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return record._replace(value=msgspec.json.encode(content))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_what_the_fold_put_out_is_found_equal_however_the_log_is_cut(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]], folded: Outputs, chunk: int
) -> None:
    found = audit(log, topics, chunk=chunk)
    assert found.checked == found.equal == sum(len(getattr(folded, kind)) for kind in KINDS)
    assert {kind for kind in KINDS if getattr(folded, kind)} >= {"predictions", "outcomes", "dead_letters"}
    assert (found.first_difference, found.unchecked) == (None, {})


def test_one_flipped_byte_in_one_prediction_is_found_and_named(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    record = topics["predictions"][30]
    assert record.value is not None
    at = record.value.index(b'"true":') + len(b'"true":0.1')
    value = bytearray(record.value)
    value[at] ^= 1
    topics["predictions"][30] = record._replace(value=bytes(value))
    found = audit(log, topics)
    assert found.checked - found.equal == 1
    difference = found.first_difference
    assert difference is not None
    assert (difference.verdict, difference.field) == ("different", "probabilities.true")
    original = json.loads(record.value)
    assert difference.recomputed == original["probabilities"]["true"]
    assert difference.published == json.loads(bytes(value))["probabilities"]["true"] != difference.recomputed
    assert difference.model == original["model"]["version"]
    assert (difference.topic, difference.partition, difference.offset) == ("predictions", PARTITION, 30)
    source = dict(record.headers)["source"]
    assert source is not None
    assert difference.source == source.decode()
    assert difference.log_offset == int(source.split(b":")[0])
    assert "probabilities.true" in str(difference)
    assert original["model"]["version"] in str(difference)


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("predictions", lambda r: r._replace(key=b"x"), "key"),
        ("outcomes", lambda r: r._replace(value=r.value.replace(b",", b", ", 1)), "byte"),
        ("outcomes", lambda r: r._replace(value=None), "value"),
        ("outcomes", lambda r: altered(r, ["loss"], 1), "loss"),
        ("predictions", lambda r: altered(r, ["features", "added"], 1.0), "features.added"),
        ("dead_letters", lambda r: r._replace(value=b"\xff no Event"), "byte 5"),
        ("dead_letters", lambda r: r._replace(headers=r.headers[:-1]), "header names"),
        (
            "dead_letters",
            lambda r: r._replace(headers=(*r.headers[:-1], ("reason", b"none"))),
            "header reason",
        ),
        ("models", lambda r: altered(r, ["serving"], "nobody"), "serving"),
    ],
)
def test_the_first_field_that_differs_is_named(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]], kind: str, change: Any, field: str
) -> None:
    topics[kind][-1] = change(topics[kind][-1])
    found = audit(log, topics)
    assert found.first_difference is not None
    assert found.first_difference.topic == kind
    assert found.first_difference.field.startswith(field)
    assert found.checked - found.equal == 1


def test_the_first_difference_is_the_first_in_the_log_of_all_topics(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    topics["predictions"][20] = topics["predictions"][20]._replace(key=b"x")
    topics["outcomes"][2] = topics["outcomes"][2]._replace(key=b"x")
    for chunk in (1, 1000):
        found = audit(log, topics, chunk=chunk)
        assert found.checked - found.equal == 2
        assert found.first_difference is not None
        assert (found.first_difference.topic, found.first_difference.offset) == ("outcomes", 2)


def test_a_missing_record_is_a_difference_and_one_beyond_the_tail_is_not(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    removed = topics["outcomes"].pop(10)
    found = audit(log, topics)
    assert found.first_difference is not None
    assert (found.first_difference.verdict, found.first_difference.offset) == ("not published", None)
    assert found.first_difference.log_offset == positions([removed])[0][0]
    topics["outcomes"] = topics["outcomes"][:10]
    found = audit(log, topics)
    assert found.first_difference is None
    assert found.checked == found.equal


def test_a_record_below_a_tail_that_an_epoch_recorded_is_missed_although_nothing_follows_it(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    codes = [
        CodeEpoch(PARTITION, 0, CODE, dict.fromkeys(KINDS, NOTHING)),
        CodeEpoch(
            PARTITION,
            60,
            CODE,
            {kind: positions(r)[-1] if positions(r) else NOTHING for kind, r in topics.items()},
        ),
    ]
    removed = topics["outcomes"].pop()
    found = audit(log, topics, codes=codes)
    assert found.first_difference is not None
    assert found.first_difference.verdict == "not published"
    assert found.first_difference.source == "{}:{}".format(*positions([removed])[0])


def test_a_record_that_the_log_does_not_give_is_a_difference(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    extra = topics["predictions"][4]
    invented = extra._replace(headers=(("source", b"%d:7" % positions([extra])[0][0]),))
    topics["predictions"] = renumbered([*topics["predictions"][:5], invented, *topics["predictions"][5:]])
    found = audit(log, topics)
    assert found.first_difference is not None
    assert (found.first_difference.verdict, found.first_difference.offset) == ("not recomputed", 5)


def test_a_record_of_an_offset_beyond_the_log_is_a_difference(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    last = topics["predictions"][-1]
    topics["predictions"].append(last._replace(offset=last.offset + 1, headers=(("source", b"100000:0"),)))
    found = audit(log, topics)
    assert found.first_difference is not None
    assert (found.first_difference.verdict, found.first_difference.log_offset) == ("not recomputed", 100000)


def test_a_repeated_record_is_a_difference(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    again = topics["predictions"][3]
    topics["predictions"] = renumbered([*topics["predictions"][:6], again, *topics["predictions"][6:]])
    found = audit(log, topics)
    assert found.first_difference is not None
    assert (found.first_difference.verdict, found.first_difference.offset) == ("repeated", 6)


@pytest.mark.parametrize("headers", [(), (("source", b"nowhere"),), (("source", None),)])
@pytest.mark.parametrize("at", [0, 5])
def test_a_record_without_a_source_position_is_a_difference(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]], headers: Any, at: int
) -> None:
    foreign = ArchivedRecord(0, 0, b"k", b"v", headers)
    topics["drift"] = []
    topics["predictions"] = renumbered([*topics["predictions"][:at], foreign, *topics["predictions"][at:]])
    found = audit(log, topics)
    assert found.first_difference is not None
    assert (found.first_difference.verdict, found.first_difference.offset) == ("not recomputed", at)
    assert found.checked - found.equal == 1


def test_what_retention_deleted_is_unchecked_and_no_difference(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    topics["predictions"] = topics["predictions"][12:]
    found = audit(log, topics)
    assert found.unchecked == {DELETED: 12}
    assert found.checked == found.equal
    assert found.first_difference is None


@pytest.mark.parametrize(
    ("code", "reason"), [(OTHER_ARITHMETIC, "other arithmetic (libm or BLAS)"), (OTHER_CODE, "other code")]
)
def test_what_other_code_or_arithmetic_published_is_unchecked_whatever_it_holds(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]], code: Code, reason: str
) -> None:
    topics["predictions"][3] = topics["predictions"][3]._replace(value=b"{}")
    found = audit(log, topics, codes=[CodeEpoch(PARTITION, 0, code, dict.fromkeys(KINDS, NOTHING))])
    assert (found.checked, found.first_difference) == (0, None)
    (only,) = found.unchecked
    assert only.startswith(reason)
    assert found.unchecked[only] == sum(len(positions(records)) for records in topics.values())
    assert found.folded == 0


def test_each_stretch_is_the_code_s_that_published_it(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    middle = {
        kind: (positions(r)[len(positions(r)) // 2] if positions(r) else NOTHING)
        for kind, r in topics.items()
    }
    codes = [
        CodeEpoch(PARTITION, 0, OTHER_ARITHMETIC, dict.fromkeys(KINDS, NOTHING)),
        CodeEpoch(PARTITION, 50, CODE, middle),
    ]
    before = {kind: sum(p <= middle[kind] for p in positions(r)) for kind, r in topics.items()}
    topics["predictions"][0] = topics["predictions"][0]._replace(key=b"x")  # in the other's stretch
    found = audit(log, topics, codes=codes)
    assert found.first_difference is None
    assert found.unchecked == {"other arithmetic (libm or BLAS)": sum(before.values())}
    assert found.checked == sum(len(positions(r)) for r in topics.values()) - sum(before.values())
    topics["predictions"][-1] = topics["predictions"][-1]._replace(key=b"x")  # in the own one
    assert audit(log, topics, codes=codes).first_difference is not None


def test_without_a_code_epoch_nothing_is_checked(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    found = audit(log, topics, codes=[])
    assert (found.checked, list(found.unchecked)) == (0, [UNRECORDED])


def test_only_the_selected_offsets_are_compared(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    inside = {kind: [p for p in positions(r) if 20 <= p[0] < 50] for kind, r in topics.items()}
    found = audit(log, topics, selection=AuditedRange(20, 50))
    assert found.checked == found.equal == sum(map(len, inside.values())) > 0
    topics["predictions"][0] = topics["predictions"][0]._replace(key=b"x")
    topics["predictions"][-1] = topics["predictions"][-1]._replace(key=b"x")
    assert audit(log, topics, selection=AuditedRange(20, 50)).first_difference is None
    assert found.folded <= 50


def test_one_prediction_is_compared_with_its_outcomes_alone(
    log: list[ArchivedRecord], topics: dict[str, list[ArchivedRecord]]
) -> None:
    wanted = json.loads(topics["predictions"][30].value or b"")["id"]
    topics["predictions"][29] = topics["predictions"][29]._replace(key=b"x")
    selection = AuditedRange(prediction=wanted)
    found = audit(log, topics, selection=selection)
    assert (found.checked, found.equal, found.first_difference) == (2, 2, None)
    topics["predictions"][30] = altered(topics["predictions"][30], ["id"], "another:bad")
    found = audit(log, topics, selection=selection)
    assert found.first_difference is not None
    assert (found.first_difference.field, found.first_difference.recomputed) == ("id", wanted)


def test_the_declared_functions_are_part_of_the_code() -> None:
    changed = replace(CASE, lateness=1.0)
    assert code_of(CASE) == code_of(shop.orders)
    assert (code_of(CASE).difference(code_of(changed)) or "").startswith("other code")


@pytest.mark.parametrize("verdict", LIKELY_CAUSES)
def test_a_difference_is_reported_with_likely_causes_that_accuse_nobody(verdict: DifferenceKind) -> None:
    found = Difference(verdict, "orders.predictions", 0, 3, "3:0", 3, "prediction", "true", "false", None)
    report = AuditReport("orders", 4, 3, 0, {}, found, 9, 1.0, 9.0, {})
    first, *causes = str(report).splitlines()[1:]
    assert first == f"first difference: {found}"
    assert causes[0] == "likely causes, the likeliest first:"
    assert [cause.strip() for cause in causes[1:]] == list(LIKELY_CAUSES[verdict])
    assert "tamper" not in str(report).lower()
