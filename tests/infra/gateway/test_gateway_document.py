"""The OpenAPI document of a case: every body and answer has an example that fits its schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answering
import jsonschema
import msgspec
import parcels
import pytest
import shop
import typed

from driftline import DAY, Binary, Event, Label, Member, Shared, UseCase, field
from driftline.infra.gateway.access import AccessKeys
from driftline.infra.gateway.app import create_app
from driftline.infra.gateway.document.examples import of_event
from driftline.infra.gateway.middleware import Limits
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.settings import Settings
from driftline.streams.declare.retirement import EventDecoder

CASES = [
    shop.operated,
    typed.readings,
    parcels.parcels,
    answering.plants,
    answering.rides,
    answering.alarms,
    answering.meters,
]


class Node(msgspec.Struct):
    name: str
    below: list[Node] = []


class Drawn(Event, tag="drawn"):
    """With a type that holds itself, and a text that no example is made of."""

    tree: Node
    code: str
    size: float

    def __post_init__(self) -> None:
        if self.code == "code-1":
            raise ValueError("no code")


class Prediction(Event, tag="prediction"):
    """An event whose name is also that of a published record."""

    code: str


drawings = UseCase(
    "drawings",
    events=[Drawn, Prediction],
    features={"size": field("size")},
    task=Binary("good", ask=Drawn, label=Label(Prediction, on="code", value=lambda _: True, wait=DAY)),
    models=Shared(Member("constant", shop.Constant)),
)


def document(*cases: UseCase, folder: Path) -> dict[str, Any]:
    keys = AccessKeys(folder / "keys.json")
    app = create_app(cases, "127.0.0.1:1", Settings(), keys, Limits(), OpenStreams(1))
    return app.openapi()


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each body is, its media type, and what is said of it."""
    bodies = {"body": operation.get("requestBody", {})} | operation["responses"]
    for where, answer in bodies.items():
        for kind, content in answer.get("content", {}).items():
            yield where, kind, content


def examples(content: dict[str, Any]) -> list[Any]:
    named = [each["value"] for each in content.get("examples", {}).values()]
    return named + ([content["example"]] if "example" in content else [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_body_and_answer_has_examples_of_its_schema(case: UseCase, tmp_path: Path) -> None:
    described = document(case, folder=tmp_path)
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert "200" in operation["responses"]
            if not path.startswith("/v1/"):
                continue
            assert operation["security"] == [{"key": []}]
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
            for where, kind, content in contents(operation):
                found = examples(content)
                assert found, (method, path, where, kind)
                schema = content["schema"] | {"components": described["components"]}
                for example in found:
                    jsonschema.validate(example, schema)
    assert described["components"]["securitySchemes"]["key"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `driftline gateway key NAME --scope SCOPE`",
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_example_of_an_event_is_one_that_the_case_takes(case: UseCase, tmp_path: Path) -> None:
    described = document(case, folder=tmp_path)["paths"]
    base = f"/v1/cases/{case.name}"
    codec, decode = case.codec(), EventDecoder(case.events).decode
    taken = set()
    for path in ("/predictions", "/events"):
        if set(case.events) == taken:
            assert base + path not in described, "there is nothing else to send"
            continue
        content = described[base + path]["post"]["requestBody"]["content"]
        for tag, example in content["application/json"]["examples"].items():
            event = decode(msgspec.json.encode(example["value"]))
            assert codec.decode(codec.encode(event), codec.key(event)) == event
            assert type(event).__struct_config__.tag == tag
            assert (type(event) is case.task.ask) is (path == "/predictions")
            taken.add(type(event))
    assert taken == set(case.events)


def test_a_class_of_the_users_own_is_described_though_no_example_is_made_of_it(tmp_path: Path) -> None:
    described = document(drawings, shop.orders, folder=tmp_path)
    body = described["paths"]["/v1/cases/drawings/predictions"]["post"]["requestBody"]["content"]
    assert of_event(Drawn) is None
    assert body["application/json"]["examples"] == {}
    (reference,) = body["application/json"]["schema"]["anyOf"]
    schema = reference | {"components": described["components"]}
    drawn = {"type": "drawn", "id": "d", "at": "2024-05-06T08:00:00Z", "code": "c", "size": 1.0}
    tree = {"name": "a", "below": [{"name": "b", "below": []}]}
    jsonschema.validate(drawn | {"tree": tree}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(drawn | {"tree": {"below": []}}, schema)
    names = described["components"]["schemas"]
    assert names["drawings.log.Prediction"] != names["drawings.predictions.Prediction"]
    assert names["orders.predictions.Prediction"]["properties"]["features"]["properties"].keys() == set(
        shop.orders.features
    )
