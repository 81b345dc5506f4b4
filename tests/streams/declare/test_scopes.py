"""What a case of one partition and one of several may declare, and why some declarations are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from driftline import HOUR, Binary, Event, Label, Member, PerKey, Shared, UseCase, count, field
from driftline.online_models.errors import ModelDeclarationError
from driftline.streams.errors import DeclarationError, Refused

AT = datetime(2024, 5, 6, tzinfo=UTC)


class Paid(Event, tag="paid"):
    payment: str
    card: str
    merchant: str
    country: str
    amount: float
    region: str | None = None


class Disputed(Event, tag="disputed"):
    payment: str


class Closed(Event, tag="closed"):
    merchant: str


class Noticed(Event, tag="noticed"):
    text: str


def member() -> Member:
    def build() -> Any:
        from river import linear_model

        return linear_model.LogisticRegression()

    return Member("logistic", build)


def case(**changed: Any) -> UseCase:
    declared: dict[str, Any] = {
        "key": "card",
        "events": [Paid, Disputed, Closed, Noticed],
        "features": {"amount": field("amount"), "of_merchant": count(Paid, by="merchant", over=HOUR)},
        "task": disputes(),
        "models": Shared(member()),
    }
    return UseCase("payments", **declared | changed)


def disputes() -> Binary:
    """Asked of a payment, answered by an event that knows the payment alone."""
    label = Label(Disputed, on="payment", value=lambda _: True, wait=HOUR, at_expiry=False)
    return Binary("fraud", ask=Paid, label=label)


def within_one_key(**changed: Any) -> UseCase:
    """A case whose events all have their card: it may have several partitions."""

    class Returned(Event, tag="returned"):
        payment: str
        card: str

    declared = {
        "events": [Paid, Returned],
        "features": {"of_card": count(Paid, by="card", over=HOUR)},
        "task": Binary(
            "fraud",
            ask=Paid,
            label=Label(Returned, on="payment", value=lambda _: True, wait=HOUR, at_expiry=False),
        ),
        "models": PerKey(member()),
        "partitions": 2,
    }
    return case(**declared | changed)


def test_one_partition_takes_any_window_any_label_key_and_no_key_at_all() -> None:
    assert case().views()[0].name == "payments_by_merchant"
    assert case(key=None).key_fields == ("payment",)
    assert case(models=PerKey(member(), by="country")).key_fields == ("card", "payment", "country")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"models": PerKey(member(), by="country")},
            r"Returned lacks 'country', which decides its pool of models.*partitions=1 or one pool for all",
        ),
        (
            {"events": [Paid, Disputed], "task": disputes()},
            r"Disputed lacks 'card', which decides its pool of models.*partitions=1 or one pool for all",
        ),
        (
            {"events": [Paid, Disputed, Noticed], "task": disputes(), "models": Shared(member())},
            r"Noticed has none of the fields card, payment, so it has no place among 2 partitions",
        ),
        ({"key": None}, r"2 partitions need key=.*partitions=1"),
        ({"key": None, "partitions": 1}, r"PerKey makes a pool for each value of the partition key"),
    ],
)
def test_what_needs_more_than_one_partition_has_is_refused_with_what_works(
    changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DeclarationError, match=reason):
        within_one_key(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"models": Shared(member())},
        {"features": {"of_merchant": count(Paid, by="merchant", over=HOUR)}},
        {"events": [Paid, Disputed], "task": disputes(), "models": Shared(member())},
    ],
)
def test_several_partitions_take_other_windows_one_model_and_labels_that_lack_the_key(
    changed: dict[str, Any],
) -> None:
    assert within_one_key(**changed).plan.is_chain
    assert not within_one_key().plan.is_chain


def test_a_request_that_lacks_the_partition_key_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match=r"'shop', which Paid lacks"):
        case(key="shop")


def test_models_by_the_partition_key_need_no_other_partition() -> None:
    declared = within_one_key(models=PerKey(member(), by="card"))
    assert declared.key_fields == ("card", "payment")
    assert replace(declared, partitions=1).key_fields == ("card", "payment")


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ("town", "models are by 'town', which Paid lacks"),
        ("amount", "Paid.amount is a float, which has several texts"),
        ("region", "Paid.region may be None"),
    ],
)
def test_a_field_that_names_no_pool_is_refused(by: str, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        case(models=PerKey(member(), by=by))
    with pytest.raises(ModelDeclarationError, match="Shared is one pool for all"):
        Shared(member(), by=by)


def test_an_event_is_written_under_the_first_key_that_it_knows() -> None:
    codec = case().codec()
    paid = Paid(id="1", at=AT, payment="p", card="c", merchant="m", country="DE", amount=1.0)
    assert codec.key(paid) == b"c"
    assert codec.key(Disputed(id="2", at=AT, payment="p")) == b"p"
    assert codec.key(Closed(id="3", at=AT, merchant="m")) == b"m"
    assert codec.key(Noticed(id="4", at=AT, text="none of them")) is None
    assert case(key=None).codec().key(paid) == b"p"


def test_several_partitions_read_an_event_under_no_other_key() -> None:
    codec = case(partitions=2, events=[Paid, Disputed, Closed]).codec()
    disputed = Disputed(id="2", at=AT, payment="p")
    assert codec.key(disputed) == b"p"
    assert codec.decode(codec.encode(disputed), b"p") == disputed
    for key in (None, b"q"):
        with pytest.raises(Refused, match="field 'payment' makes it 'p'"):
            codec.decode(codec.encode(disputed), key)


def test_any_record_key_is_read_where_it_decides_nothing() -> None:
    disputed, paid = (
        Disputed(id="2", at=AT, payment="p"),
        Paid(id="1", at=AT, payment="p", card="c", merchant="m", country="DE", amount=1.0),
    )
    for key in (None, b"p", b"from another client"):
        assert case().codec().decode(case().codec().encode(disputed), key) == disputed
        assert case(key=None).codec().decode(case(key=None).codec().encode(paid), key) == paid
