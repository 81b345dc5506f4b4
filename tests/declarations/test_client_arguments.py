"""What the clients and the makers of events are given is looked at before anything is connected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from inspect import Parameter, signature
from math import nan
from pathlib import Path
from typing import Any

import pytest
from declared import orders

import driftline as dl
from driftline.features.feast.repository_location import RepositoryLocation

NOWHERE = "127.0.0.1:9"
COMMAND = {"case": "orders", "operator": "ann", "private_key": "0a" * 32, "action": "freeze"}
RIGHT: dict[str, dict[str, Any]] = {
    "EventProducer": {"case": orders(), "bootstrap": NOWHERE},
    "PredictionConsumer": {"case": orders(), "bootstrap": NOWHERE},
    "FeatureClient": {"case": orders()},
    "new_command": COMMAND,
    "load_case": {"path": "declared:orders"},
}
ARGUMENTS = [
    (name, argument)
    for name in RIGHT
    for argument, parameter in signature(getattr(dl, name)).parameters.items()
    if parameter.kind is not Parameter.VAR_KEYWORD
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_an_argument_of_another_kind_is_refused(name: str, argument: str) -> None:
    for wrong in (object(), nan, -2, [object()], int):
        if argument == "on_sent" and callable(wrong):
            continue
        if argument == "budget" and wrong == -2:
            continue  # what a pool does with a budget is said when it obeys
        with pytest.raises(dl.DeclarationError) as caught:
            getattr(dl, name)(**RIGHT[name] | {argument: wrong})
        assert " at 0x" not in str(caught.value)
        assert argument in str(caught.value) or name == "load_case"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: dl.EventProducer(orders, NOWHERE), "EventProducer: case: expected a UseCase"),  # type: ignore[arg-type]
        (lambda: dl.FeatureClient(dl.UseCase), "expected a UseCase, not the class UseCase"),  # type: ignore[arg-type]
        (lambda: dl.EventProducer(orders(), NOWHERE, lingr_ms=5), "Did you mean 'linger_ms'?"),
        (lambda: dl.EventProducer(orders(), bootstrap_servers=NOWHERE), "itself: pass bootstrap="),
        (lambda: dl.PredictionConsumer(orders(), NOWHERE, group=""), "group: expected a text that is"),
        (lambda: dl.PredictionConsumer(orders(), NOWHERE, group_id="g"), "itself: pass group="),
        (lambda: dl.PredictionConsumer(orders(), NOWHERE, enable_auto_commit=True), "call commit()"),
        (lambda: dl.EventProducer(orders(), NOWHERE, namespace="a b"), "namespace: expected letters"),
        (lambda: dl.new_command(**COMMAND | {"action": "promot"}), "Did you mean 'promote'?"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_the_message_says_what_was_expected(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(dl.DeclarationError) as caught:
        made()
    assert message in str(caught.value)


def test_no_message_shows_a_private_key() -> None:
    for key in ("0A" * 32, "0a" * 31, "0a" * 31 + "0g"):
        with pytest.raises(dl.DeclarationError, match="private_key: expected 64 hex digits") as caught:
            dl.new_command(**COMMAND | {"private_key": key})  # type: ignore[arg-type]
        assert key not in str(caught.value)


def test_right_arguments_are_taken() -> None:
    place = RepositoryLocation.of("orders", Path("home"), "", "sqlite", None)
    dl.FeatureClient(orders(), place).close()
    assert dl.new_command(**COMMAND).operator == "ann"  # type: ignore[arg-type]
    assert dl.load_case("shop:orders").name == "orders"
    with pytest.raises(Exception, match="no Kafka answers at"):
        dl.PredictionConsumer(orders(), NOWHERE, timeout=timedelta(seconds=1), bootstrap_timeout_ms=1)
